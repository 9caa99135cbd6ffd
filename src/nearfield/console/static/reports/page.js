// Reports: what commands measured on this machine; one of them, or two side by side.

import { getJson, pathOf } from "../api.js";
import { empty, failure, h, load, show, table, waiting } from "../dom.js";
import { moment, whole } from "../format.js";
import { differenceTable } from "./difference.js";
import { reportView, scoreText } from "./report-view.js";

export const title = "Reports";
const COMMANDS = ["nearfield evaluate MODEL --data FOLDER", "nearfield compare MODEL MODEL --data FOLDER"];

export function render(main, { parts, signal }) {
  const content = h("div", null);
  const names = parts.slice(0, 2).filter(Boolean);
  main.append(content);
  if (!names.length) load(content, "Reading the reports", () => getJson("reports", { signal }), drawList);
  else drawReports(content, names, signal);
}

// -- the list --------------------------------------------------------------------------------------------------------

function drawList({ reports, more }) {
  if (!reports.length) return noReports();
  const chosen = new Set();
  const button = h("button", { class: "main", disabled: true }, "Show two side by side");
  const choose = (name, isChosen) => {
    chosen[isChosen ? "add" : "delete"](name);
    button.disabled = chosen.size !== 2;
  };
  const submit = (event) => {
    event.preventDefault();
    location.hash = `#/reports/${pathOf(...chosen)}`;
  };
  const rows = reports.map((report) => (report.problem ? brokenRow(report) : reportRow(report, choose)));
  const rest = more > 0 && h("p", { class: "small" }, `${whole(more)} older files are not listed.`);
  return h("form", { submit }, table("Reports", ["Choose", "Date", "Command", "Models", "Data", "First score"], rows), rest, button);
}

function noReports() {
  const commands = COMMANDS.map((command) => [h("code", null, command), "; "]);
  return empty("No reports", "These commands store one: ", commands, "so do nearfield quantize, train and advise.");
}

function reportRow({ name, created, kind, models, data, score }, choose) {
  const change = (event) => choose(name, event.currentTarget.checked);
  const box = h("input", { type: "checkbox", change, "aria-label": `Choose ${name}` });
  const link = h("a", { href: `#/reports/${pathOf(name)}` }, models.join(", ") || name);
  return [box, moment(created), kind, link, data.join(", "), score ? scoreText(score) : "–"];
}

function brokenRow({ name, created, problem }) {
  return ["–", moment(created), h("span", { class: "badge failed" }, "unreadable"), name, problem, "–"];
}

// -- one or two ------------------------------------------------------------------------------------------------------

/** Show reports in columns; one that cannot be read has the reason in its place. */
async function drawReports(element, names, signal) {
  show(element, waiting("Reading the report"));
  const read = (name) => getJson(`reports/${pathOf(name)}`, { signal }).catch((error) => ({ name, error }));
  const reports = await Promise.all(names.map(read));
  if (signal.aborted) return;
  const again = () => drawReports(element, names, signal);
  const columns = reports.map((report) => (report.error ? failure(report.error, again) : reportView(report)));
  const back = h("p", null, h("a", { href: "#/reports" }, "All reports"));
  const isPair = reports.length > 1 && reports.every(({ error }) => !error);
  show(element, back, isPair && differenceTable(...reports), h("div", { class: "columns" }, columns));
}
