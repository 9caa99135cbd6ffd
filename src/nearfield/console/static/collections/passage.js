// A passage that a search found: its text with highlights, its place, and the stages that ranked it.

import { h, table } from "../dom.js";
import { count, score } from "../format.js";
import { documentLink, keyOf } from "./documents.js";
import { media, placeOf } from "./media.js";

/** What each stage compares; a stage of another name is a feature of the collection. */
const STAGES = {
  dense: "meaning, by dense vectors",
  bm25: "words, by BM25",
  sparse: "weighted words, by sparse vectors",
  multivector: "tokens, by multi-vectors",
  fused: "the rankings above, joined",
  rerank: "query and text read together",
};

export function passage(name, hit, number, signal) {
  return h(
    "article",
    { class: "card" },
    h("h3", null, `${number}. `, h("a", { href: documentLink(name, hit.document) }, hit.title || keyOf(hit.document)), " ", h("span", { class: "badge" }, score(hit.score))),
    h("p", { class: "small" }, [hit.title && keyOf(hit.document), placeOf(hit), hit.headings.join(" › ")].filter(Boolean).join(", ")),
    hit.text && h("p", { class: "passage" }, highlighted(hit.text, hit.highlights)),
    media(hit, signal),
    hit.bridge && h("p", { class: "small" }, hit.bridge),
    hit.also.length > 0 && h("p", { class: "small" }, `The same text is in ${count(hit.also.length, "other place")}.`),
    stageTable(hit.stages),
    hit.others.length > 0 && h("details", null, h("summary", null, count(hit.others.length, "further passage")), hit.others.map((other) => passage(name, other, number, signal))),
  );
}

/** Return a text in which ranges of characters are marked; they may overlap. */
function highlighted(text, ranges) {
  const characters = Array.from(text);
  const pieces = [];
  let done = 0;
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const from = Math.max(done, start);
    if (end <= from) continue;
    pieces.push(characters.slice(done, from).join(""), h("mark", null, characters.slice(from, end).join("")));
    done = end;
  }
  return [...pieces, characters.slice(done).join("")];
}

function stageTable(stages) {
  const rows = Object.entries(stages).map(([name, { score: value, rank }]) => [name, STAGES[name] ?? "", rank, score(value)]);
  return rows.length > 0 && h("details", null, h("summary", null, "Why it is here"), table("Stages of the search", ["Stage", "Compares", "Rank", "Score"], rows));
}
