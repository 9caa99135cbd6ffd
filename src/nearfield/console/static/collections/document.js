// One document: its text with the boundaries of its chunks, and the pictures, pages and recordings of media.

import { getJson, pathOf, postJson, queryOf } from "../api.js";
import { act, announce, empty, h, load, table } from "../dom.js";
import { count, shorten, whole } from "../format.js";
import { problems } from "./documents.js";
import { media, placeOf } from "./media.js";

/** Chunks that are shown at a time. */
const PAGE_SIZE = 50;
/** Characters of text that are read at a time, at most. */
const MAX_CHARACTERS = 200000;

export function render(body, { name, address, query, signal }) {
  const id = query.get("id") ?? "";
  const first = Number(query.get("first")) || 0;
  load(body, "Reading the document", () => fetchDocument(`${address}/document`, id, first, signal), (found) => [
    heading(found.document),
    facts(found.document),
    pager(name, id, found),
    found.chunks.length ? null : empty("No chunks", "Nothing of this document can be found by a search."),
    found.text && h("p", { class: "document-text", tabindex: "0" }, markedText(found)),
    h("div", { class: "cards" }, found.chunks.filter(({ kind }) => kind !== "text").map((chunk) => mediaCard(chunk, signal))),
    found.chunks.length > 0 && h("details", null, h("summary", null, "Chunks in numbers"), chunkTable(found)),
    removal(name, address, found.document),
  ]);
}

/** The names of the document, and what is wrong with it. */
function heading(document) {
  const { title, key, state } = document;
  const wrong = state !== "done" && h("div", { class: "notice" }, h("span", { class: `badge ${state}` }, state), problems(document));
  const name = title && title !== key && h("p", { class: "small" }, shorten(key, 500));
  return [h("h3", null, shorten(title || key, 500)), name, wrong || problems(document)];
}

/** A button that removes the document, after a question. */
function removal(name, address, { id, title, key }) {
  const problem = h("div", null);
  const remove = async () => {
    if (!confirm(`Remove ${shorten(title || key, 200)} from ${name}? A source that still has it adds it again when it is indexed.`)) return;
    await postJson(`${address}/documents/delete`, { documents: [id] });
    announce("The document is removed");
    location.hash = `#/collections/${pathOf(name)}`;
  };
  const button = h("button", { type: "button", click: () => act(button, problem, remove) }, "Remove the document");
  return h("div", { class: "row" }, button, problem);
}

/** Return the document, some of its chunks, and the text from the first to the last of them. */
async function fetchDocument(path, id, first, signal) {
  const list = await getJson(`${path}/chunks?${queryOf({ id, first, limit: PAGE_SIZE })}`, { signal });
  const texts = list.chunks.filter(({ kind }) => kind === "text");
  const start = Math.min(...texts.map((chunk) => chunk.start), Infinity);
  const end = Math.max(...texts.map((chunk) => chunk.end), 0);
  const range = texts.length ? { start, length: Math.min(MAX_CHARACTERS, Math.max(1, end - start)) } : { length: 1 };
  const { document, text } = await getJson(`${path}?${queryOf({ id, ...range })}`, { signal });
  return { ...list, document, start, text: texts.length ? text : "" };
}

function facts({ chunks, tokens, fields, share }) {
  const reached = share === null ? "" : `; searches reach ${Math.round(100 * share)} % of its words`;
  const values = Object.entries(fields).map(([name, value]) => `${name}: ${shorten(String(value), 100)}`);
  return h("p", { class: "small" }, `${count(chunks, "chunk")}, ${count(tokens, "token")}${reached}. ${values.join(", ")}`);
}

function pager(name, id, { first, chunks, total }) {
  const link = (text, number) => h("a", { href: `#/collections/${pathOf(name, "document")}?${queryOf({ id, first: number })}` }, text);
  return (
    total > chunks.length &&
    h(
      "nav",
      { class: "row", "aria-label": "More chunks" },
      `Chunks ${whole(first + 1)} to ${whole(first + chunks.length)} of ${whole(total)}`,
      first > 0 && link("Earlier", Math.max(0, first - PAGE_SIZE)),
      first + chunks.length < total && link("Later", first + PAGE_SIZE),
    )
  );
}

/** Return the text in pieces: a mark where each chunk begins, and shades that tell neighbours and overlaps apart. */
function markedText({ text, start, chunks, first }) {
  const characters = Array.from(text);
  const placed = chunks.map((chunk, index) => ({ ...chunk, number: first + index + 1 })).filter(({ kind }) => kind === "text");
  const cuts = new Set(placed.flatMap((chunk) => [chunk.start, chunk.end]).concat(start, start + characters.length));
  const points = [...cuts].filter((cut) => cut >= start && cut <= start + characters.length).sort((a, b) => a - b);
  return points.slice(0, -1).map((from, index) => {
    const inside = placed.filter((chunk) => chunk.start <= from && chunk.end > from);
    const begins = inside.filter((chunk) => chunk.start === from).map(beginning);
    const piece = characters.slice(from - start, points[index + 1] - start).join("");
    return [begins, h("span", { class: shade(inside) }, piece)];
  });
}

function beginning({ number, tokens }) {
  return h("span", { class: "chunk-mark", title: `Chunk ${number} begins here: ${count(tokens, "token")}` }, whole(number));
}

function shade(inside) {
  if (inside.length > 1) return "shared";
  return inside.length === 0 ? "outside" : inside[0].number % 2 ? "odd" : "even";
}

function mediaCard(chunk, signal) {
  return h("article", { class: "card" }, h("p", { class: "small" }, placeOf(chunk) || chunk.kind), media(chunk, signal));
}

function chunkTable({ chunks, first }) {
  const rows = chunks.map((chunk, index) => [whole(first + index + 1), chunk.kind, placeOf(chunk), whole(chunk.tokens), shorten(chunk.context, 200)]);
  return table("Chunks", ["Chunk", "Kind", "Place", "Tokens", "Read before it"], rows);
}
