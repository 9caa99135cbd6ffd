// Upload: files that become documents, dropped or chosen.

import { call } from "../api.js";
import { announce, field, h, show } from "../dom.js";
import { bytes, count } from "../format.js";

export function render(body, { address, signal }) {
  const input = h("input", { type: "file", multiple: true, change: () => send([...input.files]) });
  const list = h("ul", { class: "uploads" });
  const zone = h("div", { class: "drop", dragover, dragleave, drop }, h("p", null, "Drop files here, or choose them."), field("Files", input));
  let last = Promise.resolve();

  /** Send files one after another, in the order in which they were given. */
  function send(files) {
    for (const file of files) {
      const state = h("span", null, "waits");
      list.append(h("li", null, `${file.name} (${bytes(file.size)}): `, state));
      last = last.then(() => upload(address, file, state, signal));
    }
  }
  function dragover(event) {
    event.preventDefault();
    zone.classList.add("over");
  }
  function dragleave() {
    zone.classList.remove("over");
  }
  function drop(event) {
    event.preventDefault();
    dragleave();
    send([...event.dataTransfer.files]);
  }
  body.append(zone, h("div", { "aria-live": "polite" }, list));
}

async function upload(address, file, state, signal) {
  show(state, h("progress", { "aria-label": `Sending ${file.name}` }), " is sent and indexed");
  const form = new FormData();
  form.append("file", file);
  try {
    const report = await (await call(`${address}/files`, { method: "POST", body: form, signal })).json();
    show(state, summary(report));
    announce(`${file.name} is indexed`);
  } catch (error) {
    show(state, h("strong", null, error.name === "AbortError" ? "The page was left before its end." : error.message));
  }
}

function summary({ new: added, changed, failed, chunks, failures }) {
  const words = [[added, "new"], [changed, "changed"], [failed, "failed"]].filter(([number]) => number > 0);
  const reasons = failures.map(({ reason }) => h("p", { class: "small" }, reason));
  return [words.map(([number, word]) => `${number} ${word}`).join(", ") || "unchanged", `, ${count(chunks, "chunk")}`, reasons];
}
