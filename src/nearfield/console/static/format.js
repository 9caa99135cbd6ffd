// Numbers, sizes and times as texts.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  const power = count > 0 ? Math.min(UNITS.length - 1, Math.floor(Math.log2(count) / 10)) : 0;
  return `${significant(count / 1024 ** power)} ${UNITS[power]}`;
}

/** A number with about three digits, as people write it. */
export function significant(number) {
  return Number(number).toLocaleString("en", { maximumFractionDigits: Math.abs(number) < 10 ? 2 : Math.abs(number) < 100 ? 1 : 0 });
}

export const whole = (number) => Number(number).toLocaleString("en");

export const score = (number) => Number(number).toFixed(3);

export function count(number, one, many = `${one}s`) {
  return `${whole(number)} ${number === 1 ? one : many}`;
}

export function duration(seconds) {
  if (seconds < 1) return `${significant(seconds * 1000)} ms`;
  if (seconds < 120) return `${significant(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** A moment, from seconds since 1970. */
export function moment(seconds) {
  return new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** A time in a recording: minutes and seconds. */
export function clock(seconds) {
  const rest = Math.floor(seconds % 60);
  return `${Math.floor(seconds / 60)}:${String(rest).padStart(2, "0")}`;
}

/** The start of a long text. */
export function shorten(text, most) {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
