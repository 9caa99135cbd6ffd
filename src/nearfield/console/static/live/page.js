// Live: requests, tokens, latency, queue, memory and errors, as this tab has seen them in the last hour.

import { empty, failure, h, show, table, waiting } from "../dom.js";
import { bytes, duration, significant, whole } from "../format.js";
import { chart } from "./chart.js";
import { sample, watch } from "./history.js";

export const title = "Live";
const perSecond = (value) => `${significant(value)}/s`;
const CHARTS = [
  ["Requests", perSecond, [["all", "requests"], ["errors", "errors"]]],
  ["Tokens", perSecond, [["read", "tokens"]]],
  ["Latency of requests", duration, [["median", "p50"], ["95 %", "p95"]]],
  ["Queue", (value) => `${whole(Math.round(value))} tokens`, [["waiting", "queue"]]],
  ["Memory of the process", bytes, [["resident", "memory"]]],
];

export function render(main, { signal }) {
  const problem = h("div", null);
  const charts = h("div", { class: "cards" }, waiting("Measuring: the first figures take five seconds"));
  const tables = h("div", { class: "columns" });
  main.append(h("p", { class: "small" }, "What this tab has seen since it was opened, an hour at most."), problem, charts, tables);
  watch((state) => draw(state, problem, charts, tables), signal);
}

function draw(state, problem, charts, tables) {
  show(problem, state.problem && failure(state.problem, sample));
  if (!state.figures.length) return;
  show(charts, CHARTS.map(([name, format, lines]) => chart(name, state.figures, lines.map(line), format)));
  show(tables, stageTable(state.stages), failureTable(state.failures));
}

const line = ([name, figure]) => ({ name, value: (point) => point[figure] });

function stageTable(stages) {
  const rows = stages.filter(({ count }) => count > 0).map(({ name, count, p50, p95 }) => [name, whole(count), duration(p50), duration(p95)]);
  return h("section", null, h("h2", null, "Stages in the last minute"), rows.length ? table("Stages", ["Stage", "Times", "Median", "95 %"], rows) : empty("No work", "Nothing was computed."));
}

function failureTable(failures) {
  const rows = failures.map(([name, number]) => [name, whole(number)]);
  return h("section", null, h("h2", null, "Errors in the last minute"), rows.length ? table("Errors", ["Status and route", "Requests"], rows) : empty("No errors", "All requests were answered."));
}
