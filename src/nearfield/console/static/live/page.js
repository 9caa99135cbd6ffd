// Live: requests, tokens, latency, stages, queue, memory and errors of the last hour.

import { empty, failure, h, show, table, waiting } from "../dom.js";
import { bytes, duration, significant, whole } from "../format.js";
import { repeat } from "../repeat.js";
import { chart } from "./chart.js";
import { History } from "./history.js";

export const title = "Live";
const SECONDS = 5;
/** With more lines, their colours would be too alike. */
const MAX_STAGES = 5;
const perSecond = (value) => `${significant(value)}/s`;
const CHARTS = [
  ["Requests", perSecond, [["all", "requests"], ["errors", "errors"]]],
  ["Tokens", perSecond, [["read", "tokens"]]],
  ["Latency of requests", duration, [["median", "p50"], ["95 %", "p95"]]],
  ["Queue", (value) => `${whole(Math.round(value))} tokens`, [["waiting", "queue"]]],
  ["Memory of all processes", bytes, [["resident", "memory"]]],
];

export function render(main, { signal }) {
  const problem = h("div", null);
  const charts = h("div", { class: "cards" }, waiting("Reading the figures"));
  const tables = h("div", { class: "columns" });
  const history = new History();
  const update = async (quiet) => {
    const isNew = await history.update({ signal, quiet });
    if (isNew || charts.querySelector(".waiting")) draw(history, problem, charts, tables, () => update(false));
  };
  main.append(h("p", { class: "small" }, "What the server has stored since its start, an hour at most."), problem, charts, tables);
  repeat(SECONDS, () => update(true), signal);
}

function draw(history, problem, charts, tables, retry) {
  show(problem, history.problem && failure(history.problem, retry));
  if (!history.points.length) return show(charts, !history.problem && empty("No figures yet", "The first ones come within twenty seconds of the server's start."));
  const drawn = CHARTS.map(([name, format, lines]) => chart(name, history.points, lines.map(line), format));
  drawn.splice(3, 0, stageChart(history));
  show(charts, drawn);
  show(tables, stageTable(history.recentStages()), failureTable(history.recentFailures()));
}

const line = ([name, figure]) => ({ name, value: (point) => point[figure] });

function stageChart(history) {
  const lines = history.stageNames().slice(0, MAX_STAGES).map((name) => ({ name, value: ({ stages }) => stages[name]?.p95 ?? null }));
  return chart("Latency by stage (95 %)", history.points, lines, duration);
}

function stageTable(stages) {
  const rows = stages.map(({ name, count, p50, p95 }) => [name, whole(count), duration(p50), duration(p95)]);
  const note = h("p", { class: "small" }, "Latencies are those of the slowest ten seconds.");
  const content = rows.length ? [note, table("Stages", ["Stage", "Times", "Median", "95 %"], rows)] : empty("No work", "Nothing was computed.");
  return h("section", null, h("h2", null, "Stages in the last minute"), content);
}

function failureTable(failures) {
  const rows = failures.map(([name, number]) => [name, whole(number)]);
  return h("section", null, h("h2", null, "Errors in the last minute"), rows.length ? table("Errors", ["Status and route", "Requests"], rows) : empty("No errors", "All requests were answered."));
}
