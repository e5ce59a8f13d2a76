// Keeps the page as the server says that things are: `/events` sends what has changed, about once a second.

import { patterns } from './charts.js';
import { say } from './dom.js';
import { sections, title } from './sections.js';
import { duration } from './text.js';

/** How long nothing may come before the connection counts as dead, and how long until it is tried anew, in milliseconds. */
const SILENCE = 15_000;
const AGAIN = 1_000;

/** How many refreshes may be missed before the figures count as old. */
const MISSED = 3;

const figures = {};
let source;
let connected = false;
/** When something was last received, and how old the figures were then, in milliseconds. */
let received;
let ageThen = 0;
let announced = '';

const find = (id) => document.getElementById(id);

// The token is in the address only until the cookie is there: it is not to be left in the browser's history.
if (location.search) history.replaceState(null, '', location.pathname + location.hash);

function connect() {
  source?.close();
  source = new EventSource('/events');
  source.addEventListener('open', () => { received = performance.now(); });
  // Both say what time it is; a beat, that nothing else has changed.
  for (const name of ['figures', 'beat']) source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  source.addEventListener('error', () => {
    connected = false;
    connection();
    // Where the server answers something else than events the browser gives up by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, AGAIN);
  });
}

function take({ age_ms: age, ...changed }) {
  Object.assign(figures, changed);
  connected = true;
  received = performance.now();
  ageThen = age;
  connection();
  if (figures.place) draw(Object.keys(changed));
}

function draw(changed) {
  for (const section of sections) {
    if (section.of.some((name) => changed.includes(name))) section.draw(figures);
  }
  document.title = title(figures);
  announce();
}

/** Says how live the page is. */
function connection() {
  const place = find('connection');
  if (!figures.place) {
    place.dataset.state = 'wait';
    say(place, connected ? 'Connected, waiting for figures' : 'Connecting…');
    return;
  }
  const age = (ageThen + performance.now() - received) / 1000;
  const old = age > figures.place.every_seconds * MISSED + 2;
  place.dataset.state = !connected ? 'lost' : old ? 'old' : 'live';
  const ages = `figures ${duration(age)} old`;
  say(place, !connected ? `Not connected, trying again; ${ages}` : old ? `Connected, but ${ages}` : `Live, ${ages}`);
  document.body.classList.toggle('stale', !connected || old);
  announce();
}

/** Tells a screen reader what has changed in kind: not every figure, and not every second. */
function announce() {
  if (!figures.place) return;
  const state = find('connection').dataset.state;
  const lost = { live: '', old: 'The figures are old. ', lost: 'Not connected. ', wait: '' }[state];
  const words = `${lost}${title(figures)}. ${figures.problem ?? ''}`;
  if (words === announced) return;
  announced = words;
  say(find('announcement'), words);
}

document.body.append(patterns());
connect();
setInterval(() => {
  connection();
  // A connection that is dead without an error: a machine that slept, a proxy that forgot it.
  if (received !== undefined && performance.now() - received > SILENCE) {
    connected = false;
    received = performance.now();
    ageThen += SILENCE;
    connect();
  }
}, 1000);
