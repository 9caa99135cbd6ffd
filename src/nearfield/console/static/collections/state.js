// State: what a collection is made of, how far its index is, and how to drop it.

import { call, getJson } from "../api.js";
import { act, announce, field, h, show, table } from "../dom.js";
import { bytes, count, duration, whole } from "../format.js";
import { repeat } from "../repeat.js";

const SECONDS = 2;
const TABLE_STATES = { live: "searched", building: "being computed: searches use the earlier one" };

export function render(body, { name, address, info, signal }) {
  const state = h("div", null);
  body.append(state, dropping(name, address, signal));
  const draw = (current) => show(state, indexing(current.indexing), states(current), settings(current), tables(current));
  draw(info);
  repeat(SECONDS, async () => draw(await getJson(address, { signal }).catch(() => info)), signal);
}

/** Say how far an index run is; nothing if there is none. */
export function indexing(run) {
  if (!run) return h("p", { class: "small" }, "Nothing is being indexed.");
  const of = run.total === null ? count(Math.floor(run.documents), "document") : `${whole(Math.floor(run.documents))} of ${count(run.total, "document")}`;
  const text = `Indexing: ${of}, ${count(run.tokens, "token")}, ${duration(run.seconds)}`;
  const bar = h("progress", { "aria-label": "Indexing", max: 1, ...(run.share !== null && { value: run.share }) });
  return h("p", { class: "waiting" }, bar, ` ${run.share === null ? "" : `${Math.floor(100 * run.share)} %. `}${text}`);
}

function states({ states: numbers }) {
  const rows = Object.entries(numbers).map(([state, number]) => [state, whole(number)]);
  return rows.length > 0 && table("Documents by state", ["State", "Documents"], rows);
}

function settings({ language, ocr, speech, fields }) {
  const typed = Object.entries(fields).map(([name, type]) => `${name} (${type})`);
  const read = [ocr && "text of pictures and scans", speech && "speech"].filter(Boolean);
  const words = [`Language: ${language}`, `read besides texts: ${read.join(" and ") || "nothing"}`, `fields: ${typed.join(", ") || "none"}`];
  return h("p", null, `${words.join("; ")}.`);
}

function tables({ tables: all, features }) {
  const rows = all.map(({ feature, state, bytes: size, model, dimensions }) => [
    feature,
    model ?? features[feature]?.model ?? "",
    dimensions ?? "",
    TABLE_STATES[state] ?? state,
    size === null ? "unknown" : bytes(size),
  ]);
  return rows.length > 0 && table("Vectors", ["Feature", "Model", "Dimensions", "State", "Size"], rows);
}

function dropping(name, address, signal) {
  const typed = h("input", { autocomplete: "off", spellcheck: "false", input: () => (button.disabled = typed.value !== name) });
  const problem = h("div", null);
  const drop = async () => {
    await call(address, { method: "DELETE", signal });
    announce(`${name} is dropped`);
    location.hash = "#/collections";
  };
  const button = h("button", { disabled: true }, "Drop the collection");
  const submit = (event) => {
    event.preventDefault();
    act(button, problem, drop);
  };
  const warning = "All of its documents, files that were sent, and vectors are deleted. This cannot be undone.";
  return h("form", { submit, class: "panel" }, h("h3", null, "Drop"), field(`Type ${name} to drop it`, typed, warning), h("div", { class: "row" }, button), problem);
}
