// Ask: an answer from the passages of a collection, as it is written.

import { call, events } from "../api.js";
import { act, announce, empty, field, h, show } from "../dom.js";
import { count } from "../format.js";
import { passage } from "./passage.js";

export function render(body, { name, address, signal }) {
  const question = h("textarea", { rows: 3 });
  const answer = h("div", null);
  const problem = h("div", null);
  const button = h("button", { class: "main" }, "Ask");
  const stop = h("button", { type: "button", disabled: true }, "Stop");
  const submit = (event) => {
    event.preventDefault();
    if (question.value.trim()) act(button, problem, () => ask(question.value));
  };
  const ask = async (text) => {
    const stopped = new AbortController();
    stop.onclick = () => stopped.abort();
    stop.disabled = false;
    try {
      await stream(name, address, text, answer, AbortSignal.any([signal, stopped.signal]), signal);
    } finally {
      stop.disabled = true;
    }
  };
  body.append(h("form", { submit, class: "panel" }, field("Question", question), h("div", { class: "row" }, button, stop), problem), answer);
}

/** Show the pieces of the answer as they come, then its sources. */
async function stream(name, address, question, element, signal, pageSignal) {
  const text = h("p", { class: "answer", "aria-busy": "true" });
  show(element, text);
  const reply = await call(`${address}/ask`, { json: { question, stream: true }, signal });
  for await (const [kind, data] of events(reply)) {
    if (kind === "text") text.append(data.text);
    if (kind === "error") throw new Error(data.error.message);
    if (kind === "answer") show(element, finished(name, data, pageSignal));
  }
  announce("The answer is complete");
}

function finished(name, answer, signal) {
  const cited = new Map(answer.citations.map((citation) => [citation.id, citation.number]));
  const sources = answer.passages.filter(({ id }) => cited.has(id));
  return [
    h("p", { class: "answer" }, answer.text),
    answer.cut && h("p", { class: "notice" }, "The answer was cut at the maximum length of the chat model's answers."),
    h("p", { class: "small" }, `${answer.model}; read ${count(answer.passages.length, "passage")}`),
    sources.length ? sources.map((hit) => passage(name, hit, cited.get(hit.id), signal)) : empty("No sources", "The answer cites no passage."),
  ];
}
