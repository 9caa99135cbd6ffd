// The server's metrics: its Prometheus page read into numbers, and what two readings say of the time between them.

import { call } from "../api.js";

/** Routes that only watch the server: they do not count as work. */
const WATCHING = new Set(["/metrics", "/ready", "/health", "/models", "/console"]);
const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const LABEL = /(\w+)="((?:\\.|[^"\\])*)"/g;

/** Read the metrics now: series by name, each with its labels and value. */
export async function readMetrics(signal) {
  const text = await (await call("metrics", { signal, quiet: true })).text();
  return { at: Date.now() / 1000, series: parse(text) };
}

export function parse(text) {
  const series = new Map();
  for (const line of text.split("\n")) {
    const [, name, labels = "", value] = LINE.exec(line) ?? [];
    if (!name || line.startsWith("#")) continue;
    if (!series.has(name)) series.set(name, []);
    series.get(name).push({ labels: parseLabels(labels), value: Number(value) });
  }
  return series;
}

const parseLabels = (text) => Object.fromEntries([...text.matchAll(LABEL)].map(([, name, value]) => [name, value.replace(/\\(.)/g, unescape)]));
const unescape = (_, character) => (character === "n" ? "\n" : character);

const isWork = ({ route }) => !WATCHING.has(route);
const isError = ({ status }) => status >= "400";

function total({ series }, name, keep = () => true) {
  return (series.get(name) ?? []).filter(({ labels }) => keep(labels)).reduce((sum, { value }) => sum + value, 0);
}

/** Return what happened between two readings; null if the server was started again in between. */
export function compare(before, now) {
  const seconds = now.at - before.at;
  const rate = (name, keep) => (total(now, name, keep) - total(before, name, keep)) / seconds;
  const figures = {
    at: now.at,
    requests: rate("nearfield_requests_total", isWork),
    errors: rate("nearfield_requests_total", (labels) => isWork(labels) && isError(labels)),
    tokens: rate("nearfield_tokens_total"),
    p50: latency(before, now, 0.5),
    p95: latency(before, now, 0.95),
    queue: total(now, "nearfield_queue_tokens"),
    memory: total(now, "nearfield_process_resident_bytes"),
  };
  return seconds > 0 && figures.requests >= 0 && figures.tokens >= 0 ? figures : null;
}

const latency = (before, now, share) => quantile(grownBuckets(before, now, "nearfield_request_seconds", isWork), share);

/** Return the stages of requests between two readings, with how often each ran and its latencies in seconds. */
export function stages(before, now) {
  const names = new Set((now.series.get("nearfield_stage_seconds_bucket") ?? []).map(({ labels }) => labels.stage));
  return [...names].map((name) => stage(name, grownBuckets(before, now, "nearfield_stage_seconds", (labels) => labels.stage === name)));
}

const stage = (name, buckets) => ({ name, count: buckets.at(-1)?.[1] ?? 0, p50: quantile(buckets, 0.5), p95: quantile(buckets, 0.95) });

/** Return the statuses of requests between two readings, as pairs of route and status with their numbers. */
export function failures(before, now) {
  const grown = grownBy(before, now, "nearfield_requests_total", (labels) => isWork(labels) && isError(labels), ({ route, status }) => `${status} ${route}`);
  return [...grown].filter(([, number]) => number > 0);
}

function grownBuckets(before, now, name, keep) {
  const grown = grownBy(before, now, `${name}_bucket`, keep, ({ le }) => le);
  return [...grown].map(([bound, number]) => [Number(bound.replace("+Inf", "Infinity")), number]).sort((a, b) => a[0] - b[0]);
}

/** Return how much values grew, joined by a key of their labels. */
function grownBy(before, now, name, keep, keyOf) {
  const sums = new Map();
  for (const [reading, sign] of [[now, 1], [before, -1]]) {
    for (const { labels, value } of reading.series.get(name) ?? []) {
      if (keep(labels)) sums.set(keyOf(labels), (sums.get(keyOf(labels)) ?? 0) + sign * value);
    }
  }
  return sums;
}

/** Return a quantile of a histogram: values are spread evenly in each bucket; null if nothing was measured. */
export function quantile(buckets, share) {
  const rank = share * (buckets.at(-1)?.[1] ?? 0);
  let [lower, below] = [0, 0];
  for (const [bound, number] of buckets) {
    if (number >= rank && number > below) return bound === Infinity ? lower : lower + ((bound - lower) * (rank - below)) / (number - below);
    [lower, below] = [bound, number];
  }
  return null;
}
