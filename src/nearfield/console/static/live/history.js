// The figures of the last hour, as this tab has seen them. They outlive a reload of the page.

import { repeat } from "../repeat.js";
import { compare, failures, readMetrics, stages } from "./metrics.js";

const KEY = "nearfield-history";
const SECONDS = 5;
const HOUR = 3600;
/** Latencies by stage and errors are those of the last so many readings: a minute. */
const RECENT = 12;

let figures = read();
const readings = [];
const watchers = new Set();
let problem = null;

/** Read the metrics every few seconds, on whatever page, from now on. */
export function record() {
  repeat(SECONDS, sample, new AbortController().signal);
}

/** Call a function with the figures now and after each reading, until the signal. */
export function watch(watcher, signal) {
  watchers.add(watcher);
  signal.addEventListener("abort", () => watchers.delete(watcher));
  watcher(current());
}

function current() {
  const [first, last] = [readings[0], readings.at(-1)];
  const isMeasured = readings.length > 1;
  return { figures, problem, stages: isMeasured ? stages(first, last) : [], failures: isMeasured ? failures(first, last) : [] };
}

export async function sample() {
  try {
    add(await readMetrics());
    problem = null;
  } catch (error) {
    problem = error;
  }
  for (const watcher of watchers) watcher(current());
}

function add(now) {
  const between = readings.length ? compare(readings.at(-1), now) : null;
  if (between) figures = [...figures, between].filter(({ at }) => at > now.at - HOUR);
  else readings.length = 0;
  readings.push(now);
  if (readings.length > RECENT) readings.shift();
  sessionStorage.setItem(KEY, JSON.stringify(figures));
}

function read() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}
