// The sections of the page: each says which of the figures it is drawn from.

import { age, ceiling, overTime, perRun, plot, spark, swatch } from './charts.js';
import { element, parts, rows, say } from './dom.js';
import { count, counted, duration, listed, minutes, moment, moments, seconds } from './text.js';

const find = (id) => document.getElementById(id);
const KINDS = [['branch', 'Branches'], ['salesperson', 'Salespersons'], ['sale', 'Sales']];
const CHANGES = ['inserted', 'updated', 'deleted'];
const NUMBER = 'n';

/** An age that a branch is not to reach, in seconds: what the alarm of a deployed environment goes by. */
const STALE = 2 * 3600;
/** More than these are drawn nowhere; the tables hold all. */
const MOST_DRAWN = 24;
/** Of so many incomplete runs it is told at once why; the table's cells say it of all. */
const MOST_TOLD = 3;

const now = (figures) => figures.clock?.now;
const newest = (figures) => figures.runs?.at(-1);
const command = (figures, words) =>
  `cascade ${words}${figures.place?.site === 'aws' ? ` --aws --environment ${figures.place.environment}` : ''}`;
const head = (words, kind = '') => ({ words, tag: 'th', scope: 'col', kind });
const side = (words, title) => ({ words, tag: 'th', scope: 'row', title });
const number = (value) => ({ words: count(value), kind: NUMBER });

/** What the page is about, in a few words. */
export function title(figures) {
  const environment = figures.place?.environment ?? '';
  const run = newest(figures);
  if (!run) return `Cascade ${environment}: no run yet`;
  return `Cascade ${environment}: run ${moment(run.run_id, now(figures))} ${STATES[run.state]}`;
}

const NAMES = { schedule: 'Run', call: 'Call', backfill: 'Backfill' };
const STATES = { complete: 'complete', collecting: 'collecting', incomplete: 'incomplete' };

function drawTitle(figures) {
  const { place, problem, clock } = figures;
  const isSimulated = clock && Math.abs(seconds(clock.now, clock.wall)) > 60;
  say(find('clock'), clock ? `${moment(clock.now.replace(/:[0-9]{2}(\.[0-9]+)?Z$/, ':00Z'))} UTC${isSimulated ? ', simulated' : ''}` : '');
  say(find('environment'), place.site === 'aws' ? `${place.environment}, on AWS` : `${place.environment}, embedded`);
  say(find('run'), runLine(figures));
  find('run').dataset.state = newest(figures)?.state ?? 'none';
  find('problem').hidden = !problem;
  say(find('problem'), problem ?? '');
  drawAttention(figures);
}

function runLine(figures) {
  const run = newest(figures);
  if (!run) {
    const last = figures.status?.last_run;
    if (last) return `Run ${moment(last.run_id, now(figures))} ended before runs kept account of themselves.`;
    return figures.place.site === 'aws'
      ? 'No run yet. The schedule begins one at every full hour.'
      : 'No run yet. “cascade up” begins one at every full hour, “cascade run” does one at once.';
  }
  const name = `${NAMES[run.kind] ?? 'Run'} ${moment(run.run_id, now(figures))} UTC`;
  const took = seconds(run.first_at, run.last_at);
  const rowsWritten = KINDS.flatMap(([kind]) => CHANGES.map((change) => run.rows[kind][change])).reduce((all, one) => all + one, 0);
  const asked = `${counted(run.api_calls, 'request')}${run.api_throttles ? `, ${count(run.api_throttles)} answered 429` : ''}`;
  const did = `${counted(rowsWritten, 'row')} written, ${asked}`;
  if (run.state === 'complete') return `${name} is complete: ${did}, in ${took < 1 ? 'less than a second' : duration(took)}.`;
  // Of what comes later it is not known at first how much it is.
  const stages = ['names', 'branches', 'salespersons'].filter((stage) => run[stage][1] > 0)
    .map((stage) => `${count(run[stage][0])} of ${count(run[stage][1])} ${stage}`);
  const far = stages.length > 0 ? `${stages.join(', ')} done` : 'nothing done yet';
  return run.state === 'collecting' ? `${name} is collecting: ${far}; ${did} so far.` : `${name} is incomplete: ${far}; ${did}.`;
}

/** What somebody should look at, with the way there. */
function drawAttention(figures) {
  const found = [];
  const stale = (figures.branches ?? []).filter((branch) => isStale(branch, figures));
  if (stale.length > 0) found.push(['freshness', `${counted(stale.length, 'branch', 'branches')} not complete for over 2 hours`]);
  const letters = deadLetters(figures);
  if (letters > 0) found.push(['letters', counted(letters, 'dead letter')]);
  const run = newest(figures);
  if (run?.state === 'incomplete') found.push(['runs', 'the newest run is incomplete']);
  if (run?.rejected > 0) found.push(['runs', counted(run.rejected, 'record rejected', 'records rejected')]);
  if (run?.held_back > 0) found.push(['runs', counted(run.held_back, 'vanished record held back', 'vanished records held back')]);
  const broken = (figures.runs ?? []).slice(0, -1).filter((earlier) => earlier.state === 'incomplete').length;
  if (broken > 0) found.push(['runs', `${counted(broken, 'earlier run')} incomplete`]);
  const missing = [...(figures.status?.tables ?? []).filter((table) => table.rows === null), ...(figures.status?.queues ?? []).filter((queue) => !queue.depth)];
  if (missing.length > 0) found.push(['pipeline', `missing: ${listed(missing.map((thing) => thing.name))}`]);
  const place = find('attention');
  place.parentElement.dataset.state = found.length > 0 ? 'warn' : 'well';
  say(place, found.length > 0 ? 'To look at:' : 'Nothing needs attention.');
  parts(find('attention-links'), found.map((_, index) => String(index)), () => element('a'), (link, _, index) => {
    const [id, words] = found[index];
    link.setAttribute('href', `#${id}`);
    say(link, words);
  });
}

const queueOf = (figures, name) => figures.status?.queues.find((queue) => queue.name.startsWith(`${name}-`));
const all = (depth) => (depth ? depth.waiting + depth.in_flight + depth.delayed : 0);
const deadLetters = (figures) =>
  (figures.status?.queues ?? []).filter((queue) => queue.name.includes('dead-letter')).reduce((sum, queue) => sum + all(queue.depth), 0);

const NODES = [
  { key: 'branch', name: 'Branches', counts: ['names', 'Names done'], does: 'asks the vendor for each branch', dead: ['branch-function-dead-letter-queue'] },
  { key: 'employee-queue', name: 'Employee queue', holds: 'branches to ask for' },
  { key: 'salesperson', name: 'Salespersons', counts: ['branches', 'Branches complete'], does: 'asks who works at each branch', dead: ['employee-workload-dead-letter-queue', 'employee-function-dead-letter-queue'] },
  { key: 'sale-queue', name: 'Sale queue', holds: 'salespersons to ask for' },
  { key: 'sale', name: 'Sales', counts: ['salespersons', 'Salespersons done'], does: 'asks what each of them sold', dead: ['sale-workload-dead-letter-queue', 'sale-function-dead-letter-queue'] },
];

function makeNode(key) {
  const node = NODES.find((one) => one.key === key);
  if (node.holds) {
    const list = element('dl', 'depth');
    for (const [name, words] of [['waiting', 'Waiting'], ['in_flight', 'In flight'], ['delayed', 'Delayed'], ['oldest', 'Oldest']]) {
      const value = element('dd');
      value.dataset.figure = name;
      list.append(element('div', '', element('dt', '', words), value));
    }
    return element('li', 'queue', element('h3', '', node.name), element('p', 'note', node.holds), list);
  }
  const total = element('p', 'rows', element('b'), ' ', element('span'));
  total.dataset.figure = 'rows';
  const list = element('dl', 'lines');
  for (const [name, words] of [['progress', node.counts[1]], ['flow', 'Last minute'], ['dead', 'Dead letters']]) {
    const value = element('dd');
    value.dataset.figure = name;
    list.append(element('div', name, element('dt', '', words), value));
  }
  const chart = element('div', 'spark');
  chart.dataset.figure = 'spark';
  return element('li', 'stage', element('h3', '', node.name), element('p', 'note', node.does), total, list, chart,
    element('p', 'note', 'rows a minute, last 15 min'));
}

function drawPipeline(figures) {
  const part = (node, name) => node.querySelector(`[data-figure="${name}"]`);
  parts(find('nodes'), NODES.map((node) => node.key), makeNode, (made, key) => {
    const node = NODES.find((one) => one.key === key);
    if (node.holds) {
      const queue = queueOf(figures, key);
      for (const name of ['waiting', 'in_flight', 'delayed']) say(part(made, name), count(queue?.depth?.[name]));
      say(part(made, 'oldest'), all(queue?.depth) > 0 ? duration(queue.oldest_seconds) : '–');
      made.classList.toggle('busy', all(queue?.depth) > 0);
      return;
    }
    const table = figures.status?.tables.find((one) => one.name.startsWith(`${key}-`));
    const [total, unit] = part(made, 'rows').children;
    say(total, table ? count(table.rows) : '–');
    say(unit, `${table?.rows === 1 ? 'row' : 'rows'}${figures.place.site === 'aws' ? ', ≤ 6 h old' : ''}`);
    say(part(made, 'progress'), progress(newest(figures)?.[node.counts[0]]));
    const perMinute = figures.flow?.per_minute[key];
    say(part(made, 'flow'), perMinute === null || perMinute === undefined ? 'known in a minute' : `${counted(perMinute, 'row')} written`);
    const series = figures.flow?.history[key] ?? [];
    if (series.some((value) => value !== null)) {
      const most = Math.max(...series.filter((value) => value !== null));
      plot(part(made, 'spark'), () => 34, `Rows written a minute over the last 15 minutes, ${count(most)} at the most, ${count(perMinute)} now`,
        series, (svg, width, height) => spark(svg, width, height, { series }));
    }
    const dead = node.dead.map((name) => all(queueOf(figures, name)?.depth)).reduce((sum, one) => sum + one, 0);
    say(part(made, 'dead'), dead === 0 ? 'none' : count(dead));
    part(made, 'dead').parentElement.classList.toggle('some', dead > 0);
  });
  const { status } = figures;
  say(find('rows-title'), figures.place.site === 'aws' ? 'Rows, up to 6 hours ago' : 'Rows');
  rows(find('tables'), (status?.tables ?? []).map((table) => [side(table.name), table.rows === null ? { words: 'missing', kind: NUMBER } : number(table.rows)]));
  rows(find('queues'), (status?.queues ?? []).map((queue) => (queue.depth
    ? [side(queue.name), number(queue.depth.waiting), number(queue.depth.in_flight), number(queue.depth.delayed),
      { words: queue.oldest_seconds === null ? '' : `${count(queue.oldest_seconds)} s`, kind: NUMBER }]
    : [side(queue.name), { words: 'missing', kind: NUMBER }, '', '', ''])));
}

/** How far the newest run is. */
const progress = (parts) => (parts?.[1] > 0 ? `${count(parts[0])} of ${count(parts[1])}` : '–');

function drawQuota(figures) {
  const { quota, place } = figures;
  const asked = quota?.used;
  const lead = [];
  if (!quota || quota.history.every((value) => value === null)) {
    lead.push('Nothing is known of the quota yet: it is kept from the first request on.');
  } else {
    lead.push(quota.limit === null ? `${counted(asked, 'request')} in the last 60 s.` : `${count(asked)} of ${counted(quota.limit, 'request')} in the last 60 s.`);
    if (quota.background > 0) lead.push(`${count(quota.background)} of them for background work.`);
    if (quota.foreign > 0) lead.push(`${count(quota.foreign)} of them by others, as the vendor says.`);
    if (quota.closed_until) lead.push(`The vendor answered 429: no request before ${moment(quota.closed_until, figures.clock?.wall, true)}.`);
    if (quota.limit === null) lead.push(place.site === 'aws' ? 'The limit is not known: --quota says it.' : 'The limit is not known: it is remembered from the next run on.');
  }
  say(find('quota-lead'), lead.join(' '));
  find('quota-details').hidden = !quota;
  if (!quota) return;
  const { history: series, limit, step_seconds: stepSeconds } = quota;
  const known = series.filter((value) => value !== null);
  const label = `Requests in any 60 seconds, over the last 15 minutes: ${known.length ? `${count(Math.max(...known))} at the most, ${count(asked)} now` : 'not known yet'}`
    + `${limit === null ? '' : `; ${count(limit)} are allowed`}`;
  plot(find('quota-plot'), (width) => (width < 480 ? 200 : 296), label, [series, limit], (svg, width, height) => overTime(svg, width, height, { series, limit, stepSeconds }));
  const end = new Date(quota.until).getTime();
  const everyMinute = series.map((value, index) => [value, end - (series.length - 1 - index) * stepSeconds * 1000])
    .filter((one, index) => (series.length - 1 - index) % Math.round(60 / stepSeconds) === 0).reverse();
  rows(find('quota-figures'), everyMinute.map(([value, at]) => [side(moment(at, figures.clock?.wall, true)), number(value)]));
}

/** One that is not complete yet is stale once there has been a run for so long. */
const isStale = (branch, figures) => {
  const since = branch.complete_until ?? figures.runs?.[0]?.run_id;
  return Boolean(since) && seconds(since, now(figures)) > STALE;
};

function drawFreshness(figures) {
  const branches = [...(figures.branches ?? [])];
  const at = now(figures);
  const ages = (branch) => (branch.complete_until === null ? Infinity : Math.max(0, seconds(branch.complete_until, at)));
  branches.sort((one, other) => ages(other) - ages(one) || one.name.localeCompare(other.name, 'en', { numeric: true }));
  const fresh = branches.filter((branch) => branch.complete_until !== null && !isStale(branch, figures)).length;
  say(find('freshness-lead'), branches.length === 0
    ? 'No branch is complete for any run yet. The first run that ends fills this table.'
    : fresh === branches.length ? `All ${counted(fresh, 'branch', 'branches')} are complete for a run of the last 2 hours.`
      : `${count(fresh)} of ${counted(branches.length, 'branch', 'branches')} are complete for a run of the last 2 hours.`);
  find('freshness-table').hidden = branches.length === 0;
  rows(find('branches'), branches.map((branch) => {
    const old = ages(branch);
    const isOld = isStale(branch, figures);
    return [side(branch.name, `Branch ${branch.id}`),
      branch.complete_until === null ? 'no run yet' : moment(branch.complete_until, at),
      { words: `${Number.isFinite(old) ? minutes(old) : '–'}${isOld ? ', old' : ''}`, kind: isOld ? 'n late' : 'n' },
      { kind: 'gauge', fill: (cell) => {
        const words = Number.isFinite(old) ? `${minutes(old)} of 2 h` : 'over 2 h';
        if (!cell.firstChild) cell.append(element('div'));
        plot(cell.firstChild, () => 12, words, [Math.floor(old / 60), isOld], (svg, width, height) => age(svg, width, height, { seconds: old, limit: STALE }));
      } }];
  }));
}

/** What is to be said of runs that something is missing of, or that could not store all. */
function drawReasons(figures) {
  const runs = figures.runs ?? [];
  const at = now(figures);
  const told = runs.filter((run) => run.state === 'incomplete').slice(-MOST_TOLD).reverse()
    .map((run) => `Run ${moment(run.run_id, at)} is incomplete: ${run.reasons.length > 0 ? run.reasons.join('; ') : 'it has not said why'}.`);
  if (newest(figures)?.rejected > 0) told.push(`“${command(figures, 'rejected')}” lists the records that cannot be stored.`);
  parts(find('runs-reasons'), told.map((_, index) => String(index)), () => element('li'), (item, _, index) => say(item, told[index]));
}

function drawRuns(figures) {
  const runs = figures.runs ?? [];
  const at = now(figures);
  say(find('runs-lead'), runs.length === 0
    ? 'No run has kept account of itself yet: each run adds a column here.'
    : `${runs.length === 1 ? 'One run so far' : `The last ${count(runs.length)} runs, the newest on the right`}. Unchanged records cost no write; they hang below the line, on a scale of their own.`);
  drawReasons(figures);
  const legend = find('runs-legend');
  legend.hidden = runs.length === 0;
  find('runs-details').hidden = runs.length === 0;
  if (!legend.firstChild) for (const kind of [...CHANGES, 'unchanged']) legend.append(element('li', '', swatch(kind), kind));
  parts(find('runs-plots'), runs.length === 0 ? [] : KINDS.map(([kind]) => kind), () => {
    const made = element('figure', '', element('figcaption', '', element('b'), ' ', element('span')), element('div', 'plot'));
    return made;
  }, (made, kind) => {
    const name = KINDS.find(([one]) => one === kind)[1];
    const last = runs.at(-1).rows[kind];
    const columns = runs.map((run) => CHANGES.map((change) => [change, run.rows[kind][change]]));
    const below = runs.map((run) => run.rows[kind].unchanged);
    const sums = columns.map((column) => column.reduce((sum, [, value]) => sum + value, 0));
    const { top } = ceiling(sums);
    const labels = moments(runs.map((run) => run.run_id), at);
    say(made.querySelector('b'), name);
    const said = [...CHANGES, 'unchanged'].filter((change) => change !== 'deleted' || last.deleted > 0).map((change) => `${count(last[change])} ${change}`).join(', ');
    say(made.querySelector('span'), `last run: ${said}`);
    const label = `${name} changed per run, ${counted(runs.length, 'run')} up to ${labels.at(-1)}: ${count(Math.min(...sums))} to ${count(Math.max(...sums))} rows; last run: ${said}`;
    plot(made.lastChild, () => 168, label, [columns, below, labels], (svg, width, height) =>
      perRun(svg, width, height, { runs: labels, columns, below, top, slots: Math.max(12, runs.length), labels: true }));
  });
  const shown = [...CHANGES, 'unchanged', 'skipped'];
  rows(find('runs-head'), [[head('Run (UTC)'), head('State'), ...KINDS.flatMap(([, name]) => shown.map((change) => head(`${name}: ${change}`, NUMBER))),
    head('Rejected', NUMBER), head('Held back', NUMBER), head('Dead letters', NUMBER), head('Requests', NUMBER), head('429s', NUMBER)]]);
  rows(find('runs-figures'), [...runs].reverse().map((run) => [side(moment(run.run_id, at), run.run_id),
    { words: `${STATES[run.state]}${run.kind && run.kind !== 'schedule' ? `, ${run.kind}` : ''}`, title: run.reasons.join('\n') },
    ...KINDS.flatMap(([kind]) => shown.map((change) => number(run.rows[kind][change]))),
    number(run.rejected), number(run.held_back), number(run.dead_lettered), number(run.api_calls), number(run.api_throttles)]));
}

function drawSales(figures) {
  const sales = figures.sales ?? { runs: [], branches: [] };
  const at = now(figures);
  const labels = moments(sales.runs, at);
  const names = new Map((figures.branches ?? []).map((branch) => [branch.id, branch.name]));
  const nameOf = (id) => names.get(id) ?? `Branch ${id}`;
  const known = sales.runs.length === 0 ? [] : sales.branches;
  const branches = known.map((branch) => ({ ...branch, name: nameOf(branch.id), sum: branch.inserted.reduce((sum, one) => sum + (one ?? 0), 0) }))
    .sort((one, other) => one.name.localeCompare(other.name, 'en', { numeric: true }));
  const peaks = labels.map((_, index) => Math.max(0, ...branches.map((branch) => branch.inserted[index] ?? 0)));
  const { top, cut } = ceiling(peaks);
  const drawn = branches.length > MOST_DRAWN ? [...branches].sort((one, other) => other.sum - one.sum).slice(0, MOST_DRAWN) : branches;
  say(find('sales-lead'), branches.length === 0 ? 'No run has kept account of its sales yet: each run adds a column for each branch here.'
    : `Sales inserted ${labels.length === 1 ? `in the run of ${labels[0]}` : `per run, from ${labels[0]} to ${labels.at(-1)}`}; all branches on one scale, up to ${count(top)}.`
      + `${cut ? ' A column that is cut off says its number.' : ''}${drawn.length < branches.length ? ` The ${MOST_DRAWN} with the most; the table holds all.` : ''}`);
  parts(find('sales-plots'), drawn.map((branch) => branch.id), () => element('figure', '', element('figcaption', '', element('b'), ' ', element('span')), element('div', 'plot')),
    (made, id) => {
      const branch = drawn.find((one) => one.id === id);
      const last = branch.inserted.at(-1) ?? null;
      say(made.querySelector('b'), branch.name);
      say(made.querySelector('span'), `${count(branch.sum)} in all, last run ${count(last)}`);
      const columns = branch.inserted.map((value) => (value === null ? null : [['inserted', value]]));
      plot(made.lastChild, () => 56, `New sales of ${branch.name} per run, up to ${labels.at(-1)}: ${count(branch.sum)} in ${counted(labels.length, 'run')}, the last one ${last === null ? 'not done yet' : count(last)}`,
        [columns, labels, top], (svg, width, height) => perRun(svg, width, height, { runs: labels, columns, top, slots: Math.max(12, labels.length), labels: false }));
    });
  find('sales-details').hidden = branches.length === 0;
  rows(find('sales-head'), [[head('Branch'), ...labels.map((label) => head(label, NUMBER)), head('In all', NUMBER)]]);
  rows(find('sales-figures'), branches.map((branch) => [side(branch.name), ...branch.inserted.map((value) => number(value)), number(branch.sum)]));
}

function drawLetters(figures) {
  const letters = figures.dead_letters;
  const depth = deadLetters(figures);
  const groups = letters?.groups ?? [];
  const at = now(figures);
  const lead = [];
  if (depth === 0 && groups.length === 0) lead.push('No dead letters: nothing has failed for good.');
  else {
    lead.push(`${counted(depth, 'message')} in the dead-letter queues.`);
    if (!letters?.looked_at) lead.push('Their reasons have not been looked at yet.');
    else lead.push(`Reasons as of ${moment(letters.looked_at, at, true)}${letters.cut ? '; not all letters were looked at' : ''}.`);
  }
  if (letters?.note) lead.push(letters.note);
  say(find('letters-lead'), lead.join(' '));
  find('letters-table').hidden = groups.length === 0;
  rows(find('letters-figures'), groups.map((group) => [number(group.count),
    { kind: 'reason', fill: (cell) => {
      if (!cell.firstChild) cell.append(element('span'), element('span', 'note'));
      say(cell.children[0], group.reason);
      say(cell.children[1], `queue ${group.queue}${group.run_id ? `, newest run ${moment(group.run_id, at)}` : ''}`);
    } },
    { words: duration(group.oldest_seconds), kind: NUMBER }]));
  find('letters-hint').hidden = depth === 0;
  say(find('letters-hint'), `“${command(figures, 'dlq show')}” shows each letter whole; once the cause is mended, “${command(figures, 'dlq redrive')}” sends them again (a dry run without --yes).`);
}

function drawAbout(figures) {
  const { place } = figures;
  const words = [`Cascade ${place.version}. All times are UTC.`];
  if (place.requests_a_minute) words.push(`While this page is open, AWS is asked ${place.requests_a_minute} times a minute; while no page is, it is not asked.`);
  say(find('about'), words.join(' '));
}

/** Each with the parts of the figures that it is drawn from. */
export const sections = [
  { of: ['place', 'runs', 'status', 'branches', 'problem', 'clock'], draw: drawTitle },
  { of: ['place', 'status', 'flow', 'runs'], draw: drawPipeline },
  { of: ['quota', 'place'], draw: drawQuota },
  { of: ['branches', 'clock', 'runs'], draw: drawFreshness },
  { of: ['runs', 'place'], draw: drawRuns },
  { of: ['sales', 'branches'], draw: drawSales },
  { of: ['dead_letters', 'status'], draw: drawLetters },
  { of: ['place'], draw: drawAbout },
];
