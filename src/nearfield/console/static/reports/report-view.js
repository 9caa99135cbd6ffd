// One report: what it concludes, its scores with their intervals, paired tests, other figures and the worst cases.

import { h, svg, table } from "../dom.js";
import { count, moment, shorten } from "../format.js";

const POINTS = 100;
const points = (value) => value.toFixed(2);
const signed = (value) => (value > 0 ? "+" : "") + points(value);
const range = (low, high, form) => (low === null ? "–" : `${form(low)} to ${form(high)}`);

export const scoreText = ({ metric, score }) => `${metric} ${points(score)}`;

export function reportView({ name, created, kind, models, data, sentences, scores, pairs, tables, worst }) {
  const [headline, ...others] = sentences;
  return h(
    "article",
    { "aria-label": name },
    h("h2", null, `nearfield ${kind}`),
    h("p", { class: "small" }, `${moment(created)}. Models: ${models.join(", ") || "none"}. Data: ${data.join(", ") || "none"}.`),
    headline && h("p", { class: "strong" }, headline),
    others.map((sentence) => h("p", null, sentence)),
    scores.length > 0 && section("Scores, in points of 100", scoreTable(scores)),
    pairs.length > 0 && section("Paired comparison", pairTable(pairs)),
    tables.map(({ title, heads, rows }) => section(title, table(title, heads, rows))),
    worst.length > 0 && section(`Worst cases (${count(worst.length, "item")})`, worstList(worst)),
  );
}

const section = (title, content) => h("section", null, h("h3", null, title), content);

function scoreTable(scores) {
  const row = ({ subject, dataset, metric, score, low, high }) =>
    [subject, dataset, metric, points(score), range(low, high, points), intervalBar(score, low, high)];
  return table("Scores", ["Model", "Data set", "Metric", "Score", "95 % interval", "Of 100"], scores.map(row));
}

/** A bar from 0 to 100 with the interval and the score; the cell before it says the same. */
function intervalBar(score, low, high) {
  const within = (value) => Math.max(0, Math.min(POINTS, value));
  const width = (from, to) => Math.max(0.5, within(to) - within(from));
  const bar = (kind, from, to) => svg("rect", { class: kind, x: within(from), y: 0, width: width(from, to), height: 10 });
  const bars = [bar("whole", 0, POINTS), low !== null && bar("range", low, high), bar("score", score - 0.5, score + 0.5)];
  const view = { viewBox: `0 0 ${POINTS} 10`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return svg("svg", { class: "interval", ...view }, bars);
}

function pairTable(pairs) {
  const row = ({ dataset, first, second, difference, low, high, p, significant }) => [
    dataset || "all",
    `${first} against ${second}`,
    signed(difference),
    range(low, high, signed),
    p.toFixed(4),
    significant ? "yes" : "not proved",
  ];
  return table("Paired comparison", ["Data set", "Pair", "Difference", "95 % interval", "p", "Different"], pairs.map(row));
}

function worstList(worst) {
  return h("ol", { class: "worst" }, worst.map(worstCase));
}

function worstCase({ subject, dataset, text, score, expected, returned }) {
  const lines = (label, texts) => texts.map((line) => h("li", null, `${label}: ${shorten(line, 400)}`));
  const where = h("span", { class: "small" }, `${subject}, ${dataset}`);
  return h("li", null, `${points(score)}: ${shorten(text, 400)} `, where, h("ul", null, lines("expected", expected), lines("found", returned)));
}
