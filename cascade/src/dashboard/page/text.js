// How figures are said. All times are UTC.

const WHOLE = new Intl.NumberFormat('en');
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** A count, or a dash where it is not known. */
export const count = (number) => (number === null || number === undefined ? '–' : WHOLE.format(number));

/** A count with its thing: `1 row`, `2 rows`. */
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Seconds in the two largest units that say something. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const whole = Math.max(0, Math.round(seconds));
  const parts = [
    [Math.floor(whole / 86400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ];
  const first = parts.findIndex(([number]) => number > 0);
  if (first < 0) return '0 s';
  // Seconds say nothing beside minutes, once there are some.
  const most = whole >= 600 ? 3 : 4;
  return parts.slice(first, Math.min(first + 2, most)).filter(([number]) => number > 0)
    .map(([number, unit]) => `${number} ${unit}`).join(' ');
}

/** The same in whole minutes. */
export const minutes = (seconds) => (seconds < 60 ? '0 min' : duration(Math.floor(seconds / 60) * 60));

const two = (number) => String(number).padStart(2, '0');

/** A time of day; with the date where that is not the day of `now`. */
export function moment(text, now, withSeconds = false) {
  const time = new Date(text);
  if (Number.isNaN(time.getTime())) return text || '–';
  const clock = `${two(time.getUTCHours())}:${two(time.getUTCMinutes())}`
    + (withSeconds || time.getUTCSeconds() ? `:${two(time.getUTCSeconds())}` : '');
  const today = now && new Date(now).toISOString().slice(0, 10) === time.toISOString().slice(0, 10);
  return today ? clock : `${time.getUTCDate()} ${MONTHS[time.getUTCMonth()]} ${clock}`;
}

/** The same of several times: all with their dates, if one of them needs its. */
export function moments(texts, now) {
  const short = texts.map((text) => moment(text, now));
  return short.some((text) => text.includes(' ')) ? texts.map((text) => moment(text)) : short;
}

/** Seconds from one time to a later one. */
export const seconds = (from, to) => (new Date(to) - new Date(from)) / 1000;

/** Names in a sentence, the last few only counted. */
export function listed(names, most = 3) {
  const rest = names.length - most;
  if (rest > 1) return `${names.slice(0, most).join(', ')} and ${rest} more`;
  return names.length > 1 ? `${names.slice(0, -1).join(', ')} and ${names.at(-1)}` : names.join('');
}
