// Duplicates: documents or passages that repeat others, by text and by meaning. Nothing is deleted here.

import { field, h, select, show, empty } from "../dom.js";
import { count, score, shorten, whole } from "../format.js";
import { survey } from "../survey.js";
import { documentLink, keyOf } from "./documents.js";

const KINDS = [["documents"], ["passages"]];
/** Groups that are shown at a time. */
const PAGE_SIZE = 20;
const MEASURES = { exact: "same words", near: "nearly the same text", meaning: "equal in meaning" };

export function render(body, { name, address, signal }) {
  const of = select(KINDS);
  const meaning = h("input", { type: "checkbox", change: () => (threshold.disabled = !meaning.checked) });
  const threshold = h("input", { type: "number", min: 0.5, max: 1, step: 0.01, value: 0.97, disabled: true });
  const results = h("div", { "aria-live": "polite" });
  const submit = (event) => {
    event.preventDefault();
    const request = { of: of.value, meaning: meaning.checked, ...(meaning.checked && { threshold: Number(threshold.value) }) };
    survey(results, `${address}/duplicates`, request, signal, ({ duplicates }) => found(name, duplicates));
  };
  const form = h(
    "form",
    { submit, class: "panel" },
    h("p", null, "Finds what is there twice: with the same words (case and punctuation aside), with nearly the same, and if you like with the same meaning. It changes nothing."),
    h(
      "div",
      { class: "columns" },
      field("Compare", of),
      field("Also by meaning", meaning, "Compares the vectors too; look at some pairs before you trust it."),
      field("Equal in meaning from", threshold, "Cosine of the vectors, at most 1. Lower finds more, and more that is wrong."),
    ),
    h("div", { class: "row" }, h("button", { class: "main" }, "Find duplicates")),
  );
  body.append(form, results);
}

function found(name, duplicates) {
  const { of, texts, unique, copies, listed, groups } = duplicates;
  if (!groups) return empty("No duplicates", `None of ${count(texts, of.slice(0, -1))} repeats another one.`);
  const kinds = Object.entries(copies).filter(([, number]) => number > 0).map(([measure, number]) => `${whole(number)} ${MEASURES[measure]}`);
  const list = h("div", null);
  const next = h("div", { class: "row" });
  let shown = 0;
  const more = () => {
    list.append(...listed.slice(shown, shown + PAGE_SIZE).map((group) => groupCard(name, of, group)));
    shown = Math.min(listed.length, shown + PAGE_SIZE);
    show(next, shown < listed.length && h("button", { type: "button", click: more }, `Show more of ${count(listed.length, "group")}`));
  };
  more();
  const summary = `${count(texts - unique, "copy", "copies")} of ${count(texts, of.slice(0, -1))} in ${count(groups, "group")}: ${kinds.join(", ")}.`;
  const advice = of === "documents" ? "To remove one, open it." : "Passages that are stored once need no work: searches find them once.";
  return [h("p", { class: "strong" }, summary), h("p", { class: "small" }, advice), list, next];
}

function groupCard(name, of, { keep, copies, count: number }) {
  const rest = number > copies.length && h("li", null, `and ${whole(number - copies.length)} more`);
  const items = copies.map((copy) => h("li", null, link(name, copy), h("span", { class: "badge" }, MEASURES[copy.measure]), copy.measure !== "exact" && ` ${score(copy.similarity)}`, copy.aside && " (stored once)", excerpt(copy)));
  return h("article", { class: "card group" }, h("h3", null, link(name, keep)), excerpt(keep), h("p", { class: "small" }, `is repeated by ${count(number, of.slice(0, -1))}:`), h("ul", null, items, rest));
}

/** Copies often have the same title: the name of the document tells them apart. */
function link(name, { document, number, title }) {
  const key = keyOf(document);
  const shown = h("a", { href: `${documentLink(name, document)}&first=${number}` }, shorten(title || key, 120));
  return [shown, " ", title && title !== key && h("span", { class: "small" }, shorten(key, 120), " ")];
}

const excerpt = ({ text }) => h("p", { class: "small" }, shorten(text, 200));
