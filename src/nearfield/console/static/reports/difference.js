// Two reports side by side: their best scores on the same data.

import { empty, h, table } from "../dom.js";
import { scoreText } from "./report-view.js";

/** A table of the data sets and metrics that both reports have. */
export function differenceTable(first, second) {
  const others = bestScores(second);
  const shared = [...bestScores(first)].filter(([key]) => others.has(key));
  if (!shared.length) return empty("Nothing to compare", "These reports have no data set with the same metric in common.");
  const rows = shared.map(([key, score]) => row(score, others.get(key)));
  const hint = ["Data sets are the same if their names are. Whether a difference is chance, a paired test says: ", h("code", null, "nearfield compare"), "."];
  const shown = table("Best scores", ["Data set", "Left", "Right", "Right is", "Intervals"], rows);
  return h("section", null, h("h2", null, "Best scores on the same data"), shown, h("p", { class: "small" }, hint));
}

function row(left, right) {
  const difference = right.score - left.score;
  const words = difference === 0 ? "equal" : `${Math.abs(difference).toFixed(2)} points ${difference > 0 ? "better" : "worse"}`;
  return [left.dataset, `${left.subject}: ${scoreText(left)}`, `${right.subject}: ${scoreText(right)}`, words, overlap(left, right)];
}

function overlap(left, right) {
  if (left.low === null || right.low === null) return "unknown";
  return left.low <= right.high && right.low <= left.high ? "overlap" : "do not overlap";
}

/** The best score by data set and metric. */
function bestScores({ scores }) {
  const best = new Map();
  for (const score of scores) {
    const key = JSON.stringify([score.dataset, score.metric]);
    if (!best.has(key) || score.score > best.get(key).score) best.set(key, score);
  }
  return best;
}
