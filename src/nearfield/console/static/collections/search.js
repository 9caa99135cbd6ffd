// Search: passages for a text, a picture or a recording, with highlights and stages.

import { postJson } from "../api.js";
import { act, empty, field, h, select, show } from "../dom.js";
import { count, duration } from "../format.js";
import { passage } from "./passage.js";
import { readFile } from "../files.js";

const MODES = [["auto"], ["dense"], ["sparse"], ["bm25"], ["multivector"], ["hybrid"], ["two-stage"]];
const RERANKERS = [["", "none"], ["sentences"], ["multivector"], ["maxsim"]];

export function render(body, { name, address, signal }) {
  const controls = {
    text: h("input", { type: "search", autocomplete: "off" }),
    file: h("input", { type: "file", accept: "image/*,audio/*,video/*" }),
    mode: select(MODES),
    rerank: select(RERANKERS),
    k: h("input", { type: "number", min: 1, max: 100, value: 10 }),
  };
  const results = h("div", null);
  const problem = h("div", null);
  const button = h("button", { class: "main" }, "Search");
  const submit = (event) => {
    event.preventDefault();
    act(button, problem, async () => show(results, await search(name, address, controls, signal)));
  };
  const form = h(
    "form",
    { submit, class: "panel", role: "search" },
    field("Query", controls.text),
    h(
      "div",
      { class: "columns" },
      field("Picture, sound or video", controls.file, "Instead of a text, or beside it."),
      field("Mode", controls.mode),
      field("Rerank", controls.rerank),
      field("Results", controls.k),
    ),
    h("div", { class: "row" }, button),
    problem,
  );
  body.append(form, results);
}

async function search(name, address, controls, signal) {
  const query = await readQuery(controls);
  if (!query.length) return empty("No query", "Type a text, or choose a file.");
  const request = {
    query: query.length === 1 ? query[0] : query,
    k: Number(controls.k.value) || 10,
    mode: controls.mode.value,
    explain: true,
    ...(controls.rerank.value && { rerank: controls.rerank.value }),
    ...(query.some((part) => part.text) && { highlight: true }),
  };
  const started = performance.now();
  const { results } = await postJson(`${address}/search`, request, { signal });
  if (!results.length) return empty("Nothing found", "Try other words, or another mode.");
  const seconds = (performance.now() - started) / 1000;
  const summary = h("p", { class: "small", role: "status" }, `${count(results.length, "passage")} in ${duration(seconds)}`);
  return [summary, results.map((hit, index) => passage(name, hit, index + 1, signal))];
}

/** Return the parts of the query: a text, and a file as what it is. */
async function readQuery({ text, file }) {
  const files = await Promise.all([...file.files].map(async (each) => ({ [each.type.split("/")[0]]: (await readFile(each)).uri })));
  return [...(text.value.trim() ? [{ text: text.value }] : []), ...files];
}
