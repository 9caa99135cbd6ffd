// The documents of a collection, a page at a time, with what failed and why.

import { getJson, pathOf, queryOf } from "../api.js";
import { empty, field, h, load, select, table } from "../dom.js";
import { shorten, whole } from "../format.js";

const PAGE_SIZE = 50;
const STATES = [["", "all"], ["done"], ["partial"], ["failed"], ["writing"]];

export function render(body, { name, address, query, signal }) {
  const { state = "", after = "" } = Object.fromEntries(query);
  const here = (values) => `#/collections/${pathOf(name, "documents")}?${queryOf(values)}`;
  const choice = select(STATES, { change: () => (location.hash = here({ state: choice.value })) });
  choice.value = state;
  const content = h("div", null);
  body.append(field("State", choice), content);
  const source = `${address}/documents?${queryOf({ limit: PAGE_SIZE, state, after })}`;
  load(content, "Reading the documents", () => getJson(source, { signal }), ({ documents, next }) => [
    documents.length ? documentTable(name, documents) : empty("No documents", "Send some on the page Upload, or run nearfield index."),
    h(
      "nav",
      { class: "row", "aria-label": "More documents" },
      after && h("a", { href: here({ state }) }, "First page"),
      next && h("a", { href: here({ state, after: next }) }, "Next page"),
    ),
  ]);
}

function documentTable(name, documents) {
  const rows = documents.map((document) => [
    [h("a", { href: documentLink(name, document.id) }, shorten(document.title || document.key || document.id, 200)), h("p", { class: "small" }, shorten(secondName(document), 200))],
    [h("span", { class: `badge ${document.state}` }, document.state), problems(document)],
    whole(document.chunks),
    whole(document.tokens),
  ]);
  return table("Documents", ["Document", "State", "Chunks", "Tokens"], rows);
}

export const documentLink = (name, id) => `#/collections/${pathOf(name, "document")}?${queryOf({ id })}`;

/** The name of a document in its source, without the source. */
export const keyOf = (id) => id.slice(id.indexOf("#") + 1);

/** What tells documents of the same name apart: the name in the source, or the source if that is the name. */
const secondName = ({ id, title, key }) => (title && title !== key ? key : id.slice(0, id.indexOf("#")).replace(/:$/, ""));

/** Say what is wrong with a document, whose name is shown beside it, and what to do. */
export function problems({ error, key, losses }) {
  const name = `${key.split("/").at(-1)}: `;
  const cause = error?.startsWith(name) ? `${error[name.length].toUpperCase()}${error.slice(name.length + 1)}` : error;
  const words = losses.map(({ reason, advice }) => `${reason}. ${advice}`);
  return [cause, ...words].filter(Boolean).map((text) => h("p", { class: "small reason" }, text));
}
