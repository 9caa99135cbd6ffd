// Collections: the list of them, and the pages of one.

import { call, getJson, pathOf, queryOf } from "../api.js";
import { empty, h, load, show, tabs } from "../dom.js";
import { count, whole } from "../format.js";
import * as ask from "./ask.js";
import { creation } from "./create.js";
import * as document from "./document.js";
import * as documents from "./documents.js";
import * as duplicates from "./duplicates.js";
import * as search from "./search.js";
import * as state from "./state.js";
import * as upload from "./upload.js";

export const title = "Collections";
const VIEWS = { documents, search, ask, upload, duplicates, state, document };
const TABS = { documents: "Documents", search: "Search", ask: "Ask", upload: "Upload", duplicates: "Duplicates", state: "State" };
/** The sizes of so many collections are shown in their list. */
const MAX_DESCRIBED = 30;

export function render(main, { parts: [name, view = "documents"], query, signal }) {
  const content = h("div", null);
  main.append(content);
  if (!name) {
    load(content, "Reading the collections", () => getJson("collections", { signal }), ({ collections }) => [list(collections, signal), creation(signal)]);
    return;
  }
  const address = collectionPath(name);
  const shown = Object.hasOwn(VIEWS, view) ? view : "documents";
  load(content, `Reading ${name}`, () => getJson(address, { signal }), (info) => {
    const head = h("div", null, heading(info));
    const body = h("div", null);
    const changed = () => getJson(address, { quiet: true, signal }).then((now) => show(head, heading(now)), () => {});
    VIEWS[shown].render(body, { name, address, info, query, signal, changed });
    const tab = shown === "document" ? "documents" : shown;
    return [head, tabs("Pages of the collection", links(name), `#/collections/${pathOf(name, tab)}`), body];
  });
}

const collectionPath = (name) => `collections/${pathOf(name)}`;
const links = (name) => [...Object.entries(TABS).map(([view, text]) => [text, `#/collections/${pathOf(name, view)}`]), ["Map", `#/map/${pathOf(name)}`]];

function heading(info) {
  return [h("h2", null, info.name), h("p", null, sizes(info), ". ", features(info)), stateLine(info)];
}

/** How much can be found. Documents that failed are no part of it, so that the number of all is said too. */
function sizes({ documents, chunks, tokens, states }) {
  const all = Object.values(states).reduce((sum, number) => sum + number, 0);
  const of = all > documents ? `${whole(documents)} of ` : "";
  return `${of}${count(Math.max(all, documents), "document")}, ${count(chunks, "chunk")}, ${count(tokens, "token")}`;
}

function features(info) {
  const words = Object.entries(info.features).map(([name, feature]) => `${name} (${modelName(feature.model ?? "derived")})`);
  return words.length ? `Features: ${words.join(", ")}.` : "";
}

/** A model may be named by its folder, of which the last part says enough. */
const modelName = (name) => (name.startsWith("/") ? name.split("/").at(-1) : name);

function stateLine(info) {
  const states = Object.entries(info.states).filter(([state, number]) => state !== "done" && number > 0);
  const link = ([state, number]) => h("a", { href: `#/collections/${pathOf(info.name, "documents")}?${queryOf({ state })}` }, `${count(number, "document")} ${state}`);
  return states.length > 0 && h("p", { class: "notice" }, states.map((each, index) => [index > 0 && ", ", link(each)]));
}

// -- the list --------------------------------------------------------------------------------------------------------

function list(collections, signal) {
  if (!collections.length) {
    const command = h("code", null, "nearfield serve --collections all");
    return empty("No collections", "Create one below. The server shows those that it was started with, such as ", command, ".");
  }
  return h("div", { class: "cards" }, collections.map(({ name }, index) => card(name, index < MAX_DESCRIBED, signal)));
}

function card(name, isDescribed, signal) {
  const size = h("p", { class: "small" }, isDescribed && "Reading its size");
  if (isDescribed) describe(name, size, signal);
  return h("article", { class: "card" }, h("h2", null, h("a", { href: `#/collections/${pathOf(name)}` }, name)), size);
}

async function describe(name, element, signal) {
  try {
    element.textContent = sizes(await (await call(collectionPath(name), { signal })).json());
  } catch (error) {
    element.textContent = error.name === "AbortError" ? "" : error.message;
  }
}
