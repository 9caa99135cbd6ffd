// The figures of the last hour, as the server stores them.

import { getJson } from "../api.js";

const HOUR = 3600;
/** Tables are of the last so many seconds. */
const RECENT = 60;

export class History {
  points = [];
  problem = null;

  /** Read what is new; return whether anything has changed. */
  async update(options) {
    const [last, problem] = [this.points.at(-1), this.problem];
    try {
      const { points } = await getJson(`metrics/history?since=${last?.at ?? 0}`, options);
      const newest = points.at(-1)?.at ?? 0;
      this.points = [...this.points, ...points].filter(({ at }) => at > newest - HOUR || !points.length);
      this.problem = null;
    } catch (error) {
      if (error.name === "AbortError") return false;
      this.problem = error;
    }
    return this.points.at(-1) !== last || this.problem?.message !== problem?.message;
  }

  recent() {
    const newest = this.points.at(-1)?.at ?? 0;
    return this.points.filter(({ at }) => at > newest - RECENT);
  }

  /** The names of stages, those that ran most often first. */
  stageNames() {
    const counts = sums(this.points.flatMap(({ stages }) => Object.entries(stages).map(([name, { count }]) => [name, count])));
    return counts.map(([name]) => name);
  }

  /** Stages of the last minute: how often they ran, and the latencies of the slowest point. */
  recentStages() {
    const of = (name) => this.recent().map(({ stages }) => stages[name]).filter(Boolean);
    const highest = (stages, figure) => Math.max(...stages.map((stage) => stage[figure]));
    const total = (stages) => stages.reduce((sum, { count }) => sum + count, 0);
    const row = (name, stages) => ({ name, count: total(stages), p50: highest(stages, "p50"), p95: highest(stages, "p95") });
    const named = this.stageNames().map((name) => [name, of(name)]);
    return named.filter(([, stages]) => stages.length).map(([name, stages]) => row(name, stages));
  }

  /** Failed requests of the last minute, as pairs of status with route and their number. */
  recentFailures() {
    return sums(this.recent().flatMap(({ failures }) => Object.entries(failures)));
  }
}

/** Add up numbers by name; return pairs, the largest first. */
function sums(pairs) {
  const totals = new Map();
  for (const [name, number] of pairs) totals.set(name, (totals.get(name) ?? 0) + number);
  return [...totals].sort((a, b) => b[1] - a[1]);
}
