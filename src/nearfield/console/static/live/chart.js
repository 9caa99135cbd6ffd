// Line charts of the last hour. What a line shows is also said in words.

import { h, svg } from "../dom.js";
import { duration } from "../format.js";

const WIDTH = 600;
const HEIGHT = 120;
/** Seconds of a chart's width, at least and at most. */
const [SHORTEST, HOUR] = [60, 3600];

/** A chart of lines: each has a name and a function that gives its value of a point, or null. */
export function chart(title, points, lines, format) {
  const now = points.at(-1).at;
  const most = Math.max(...points.flatMap((point) => lines.map(({ value }) => value(point) ?? 0)), 0) || 1;
  const span = Math.min(HOUR, Math.max(SHORTEST, now - points[0].at));
  const place = (point, value) => `${round(WIDTH * (1 - (now - point.at) / span))},${round(HEIGHT - (HEIGHT * value) / most)}`;
  const summary = lines.map(({ name, value }) => describe(name, points.map(value), format)).join("; ");
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title} of the last ${duration(span)}. ${summary}`, preserveAspectRatio: "none" },
    lines.map(({ value }, index) => svg("polyline", { class: `line line-${index}`, points: path(points, value, place) })),
  );
  const legend = lines.map(({ name, value }, index) => h("span", { class: `legend line-${index}` }, describe(name, points.map(value), format)));
  const axis = [`${duration(span)} ago`, `top: ${format(most)}`, "now"].map((text) => h("span", null, text));
  const caption = h("figcaption", { class: "small" }, legend);
  return h("figure", { class: "card" }, h("h2", null, title), picture, h("p", { class: "small axis" }, axis), caption);
}

const round = (number) => Math.round(10 * number) / 10;

function path(points, value, place) {
  return points.filter((point) => value(point) !== null).map((point) => place(point, value(point))).join(" ");
}

function describe(name, values, format) {
  const measured = values.filter((value) => value !== null);
  const now = values.at(-1) ?? null;
  return measured.length ? `${name}: ${now === null ? "none" : format(now)} now, ${format(Math.max(...measured))} at most` : `${name}: nothing measured`;
}
