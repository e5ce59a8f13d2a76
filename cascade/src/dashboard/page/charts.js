// Charts as SVG, drawn at the size that they are seen in. Nothing here is told by colour alone: kinds differ in pattern, limits are
// written, and every chart has a table beside it.

import { count } from './text.js';

const SVG = 'http://www.w3.org/2000/svg';

/** An SVG element. */
export function shape(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

const text = (x, y, words, attributes = {}) => shape('text', { x, y, ...attributes }, words);
const round = (number) => Math.round(number * 10) / 10;

/** Patterns that all charts of the page use. */
export function patterns() {
  const pattern = (id, size, ...marks) =>
    shape('pattern', { id, width: size, height: size, patternUnits: 'userSpaceOnUse' },
      shape('rect', { width: size, height: size, class: 'ground' }), ...marks);
  return shape('svg', { class: 'unseen', 'aria-hidden': 'true', focusable: 'false' }, shape('defs', {},
    pattern('updated', 4, shape('path', { d: 'M-1 1l2-2M0 4l4-4M3 5l2-2', class: 'updated mark' })),
    pattern('deleted', 4, shape('circle', { cx: 2, cy: 2, r: 1.3, class: 'deleted mark' }))));
}

/** A sample of a kind's pattern, for a legend. */
export function swatch(kind) {
  return shape('svg', { class: 'swatch', width: 12, height: 12, 'aria-hidden': 'true', focusable: 'false' },
    bar(kind, 0.5, 0.5, 11, 11));
}

function bar(kind, x, y, width, height) {
  const fill = kind === 'updated' || kind === 'deleted' ? { fill: `url(#${kind})` } : {};
  return shape('rect', { x: round(x), y: round(y), width: round(width), height: round(height), class: `bar ${kind}`, ...fill });
}

const drawn = new WeakMap();
const observer = new ResizeObserver((entries) => {
  for (const entry of entries) redraw(entry.target, Math.floor(entry.contentRect.width));
});

function redraw(place, width) {
  const chart = drawn.get(place);
  // What is hidden has no width, and is drawn once it is shown.
  if (!chart || !(width >= 40) || (chart.width === width && chart.shown === chart.key)) return;
  chart.width = width;
  chart.shown = chart.key;
  const height = chart.height(width);
  const svg = shape('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': chart.label });
  chart.paint(svg, width, height);
  place.replaceChildren(svg);
}

/**
 * Draws a chart in `place`, as high as `height` says for a width, and again whenever its size or `figures` change. `label` says in a
 * sentence what it shows.
 */
export function plot(place, height, label, figures, paint) {
  const key = JSON.stringify([label, figures]);
  const before = drawn.get(place);
  if (before && before.key === key) return;
  drawn.set(place, { height, label, paint, key, width: before?.width, shown: before?.shown });
  if (before) redraw(place, before.width);
  else observer.observe(place);
}

/** A number of at least `most` that an axis ends well with. */
export function roundedUp(most) {
  if (most <= 5) return 5;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * power).find((end) => end >= most);
}

/** How much room the numbers on an axis take. */
const gutter = (...numbers) => Math.max(34, 12 + 7 * Math.max(...numbers.map((number) => count(number).length)));

/** Pieces of a series without its holes, as [first index, values]. */
function pieces(series) {
  const found = [];
  series.forEach((value, index) => {
    if (value === null) return;
    if (index > 0 && series[index - 1] !== null) found.at(-1)[1].push(value);
    else found.push([index, [value]]);
  });
  return found;
}

function area(svg, series, box, top) {
  const x = (index) => round(box.left + (index / (series.length - 1)) * box.width);
  const y = (value) => round(box.bottom - (Math.min(value, top) / top) * box.height);
  for (const [first, values] of pieces(series)) {
    const line = values.map((value, index) => `${x(first + index)} ${y(value)}`).join('L');
    const end = x(first + values.length - 1);
    svg.append(shape('path', { class: 'area', d: `M${x(first)} ${box.bottom}L${line}L${end} ${box.bottom}z` }),
      shape('path', { class: 'line', d: `M${line}` }));
    if (values.length === 1) svg.append(shape('circle', { class: 'dot', cx: x(first), cy: y(values[0]), r: 2 }));
  }
}

/** A series over the last minutes against a limit, which may not be known. */
export function overTime(svg, width, height, { series, limit, stepSeconds }) {
  const most = Math.max(0, ...series.filter((value) => value !== null));
  const top = roundedUp(Math.max(most, limit ?? 0) * (limit ? 1.08 : 1));
  const left = gutter(limit ?? top);
  const box = { left, width: width - left - 10, top: 16, bottom: height - 20, height: height - 36 };
  const y = (value) => round(box.bottom - (value / top) * box.height);
  const right = box.left + box.width;
  const minutes = Math.round(((series.length - 1) * stepSeconds) / 60);
  for (let minute = 0; minute <= minutes; minute += 5) {
    const x = round(right - (minute / minutes) * box.width);
    svg.append(shape('line', { class: 'grid', x1: x, x2: x, y1: box.top, y2: box.bottom }),
      text(x, height - 5, minute ? `−${minute} min` : 'now',
        { class: 'tick', 'text-anchor': minute === 0 ? 'end' : minute === minutes ? 'start' : 'middle' }));
  }
  const ticks = limit ? [0, Math.round(limit / 2)] : [0, top / 2, top];
  for (const tick of ticks) {
    svg.append(shape('line', { class: 'grid', x1: box.left, x2: right, y1: y(tick), y2: y(tick) }),
      text(box.left - 6, y(tick) + 4, count(tick), { class: 'tick', 'text-anchor': 'end' }));
  }
  area(svg, series, box, top);
  if (limit) {
    svg.append(shape('line', { class: 'limit', x1: box.left, x2: right, y1: y(limit), y2: y(limit) }),
      text(box.left - 6, y(limit) + 4, count(limit), { class: 'tick limit', 'text-anchor': 'end' }),
      text(right, y(limit) - 5, `limit: ${count(limit)} in any 60 s`, { class: 'tick limit', 'text-anchor': 'end' }));
  }
}

/** A small series without axes. */
export function spark(svg, width, height, { series }) {
  const top = Math.max(1, ...series.filter((value) => value !== null));
  svg.append(shape('line', { class: 'grid', x1: 0, x2: width, y1: height - 1, y2: height - 1 }));
  area(svg, series, { left: 1, width: width - 2, top: 2, bottom: height - 1, height: height - 3 }, top);
}

/** Where an axis ends, if one value is so large that the others would not be seen beside it: then that one is cut off. */
export function ceiling(sums) {
  const sorted = sums.filter((sum) => sum > 0).sort((one, other) => other - one);
  if (sorted.length === 0) return { top: 5, cut: false };
  const cut = sorted.length > 1 && sorted[0] > 4 * sorted[1];
  return { top: roundedUp(cut ? sorted[1] * 1.2 : sorted[0]), cut };
}

function column(svg, parts, x, wide, left, bottom, full, top) {
  const sum = parts.reduce((all, [, value]) => all + value, 0);
  if (sum === 0) return;
  const factor = full / Math.max(sum > top ? sum : top, 1);
  let y = bottom;
  for (const [kind, value] of parts) {
    if (value === 0) continue;
    // What is there is seen, however little it is.
    const high = Math.max(1, value * factor);
    y -= high;
    svg.append(bar(kind, x, y, wide, high));
  }
  if (sum > top) {
    const cut = round(bottom - full * 0.82);
    svg.append(shape('path', { class: 'cut', d: `M${round(x - 1)} ${cut + 3}L${round(x + wide + 1)} ${cut - 1}v4L${round(x - 1)} ${cut + 7}z` }));
    const fits = x + wide / 2 > left + 20;
    svg.append(text(round(fits ? x + wide / 2 : x), bottom - full - 3, count(sum), { class: 'tick', 'text-anchor': fits ? 'middle' : 'start' }));
  }
}

/**
 * A column for each run: what was changed, stacked, above the line; what was unchanged below it, on a scale of its own.
 */
export function perRun(svg, width, height, { runs, columns, below, top, slots, labels }) {
  const most = Math.max(0, ...(below ?? []).map((value) => value ?? 0));
  const left = labels ? gutter(top, most) : 0;
  const wide = (width - left - 2) / slots;
  const strip = below ? 22 : 0;
  const foot = labels ? 16 : 2;
  const bottom = height - foot - strip - (below ? 3 : 0);
  const full = bottom - 15;
  const x = (index) => left + (slots - runs.length + index) * wide;
  svg.append(shape('line', { class: 'grid', x1: left, x2: width, y1: bottom + 0.5, y2: bottom + 0.5 }));
  if (labels) {
    svg.append(shape('line', { class: 'grid', x1: left, x2: width, y1: bottom - full, y2: bottom - full }),
      text(left - 6, bottom - full + 4, count(top), { class: 'tick', 'text-anchor': 'end' }),
      text(left - 6, bottom + 1, '0', { class: 'tick', 'text-anchor': 'end' }));
  }
  columns.forEach((parts, index) => {
    if (parts) column(svg, parts, x(index) + wide * 0.12, wide * 0.76, left, bottom, full, top);
  });
  if (below) {
    below.forEach((value, index) => {
      if (value) svg.append(bar('unchanged', x(index) + wide * 0.12, bottom + 3, wide * 0.76, Math.max(1, (value / most) * strip)));
    });
    if (labels && most > 0) svg.append(text(left - 6, bottom + 3 + strip, count(most), { class: 'tick', 'text-anchor': 'end' }));
  }
  if (labels && runs.length > 0) {
    const last = runs.length - 1;
    svg.append(text(width - 1, height - 3, runs[last], { class: 'tick', 'text-anchor': 'end' }));
    // Where the two would touch, the first one is left out.
    if (last > 0 && width - x(0) > 110) svg.append(text(round(x(0)), height - 3, runs[0], { class: 'tick' }));
  }
}

/** An age against a limit. */
export function age(svg, width, height, { seconds, limit }) {
  const top = limit * 2;
  const at = round((limit / top) * width);
  svg.append(bar(seconds > limit ? 'late' : 'early', 0, 2, Math.max(1, (Math.min(seconds, top) / top) * width), height - 4),
    shape('line', { class: 'limit', x1: at, x2: at, y1: 0, y2: height }));
}
