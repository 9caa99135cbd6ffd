// Upload: files that become documents, dropped or chosen, with their progress.

import { call, getJson, pathOf } from "../api.js";
import { announce, field, h, show } from "../dom.js";
import { bytes, count } from "../format.js";
import { discard, LARGE, sendFile, unfinished } from "./resumable.js";
import { indexing } from "./state.js";

/** Seconds between two looks at the indexing. */
const SECONDS = 1;

export function render(body, { name, address, changed, signal }) {
  const input = h("input", { type: "file", multiple: true, change: () => send([...input.files]) });
  const list = h("ul", { class: "uploads" });
  const zone = h("div", { class: "drop", dragover, dragleave, drop }, h("p", null, "Drop files here, or choose them."), field("Files", input));
  let last = Promise.resolve();

  /** Send files one after another, in the order in which they were given. */
  function send(files) {
    for (const file of files) {
      const state = h("span", null, "waits");
      list.append(h("li", null, h("bdi", null, file.name), ` (${bytes(file.size)}): `, state));
      last = last.then(() => upload(address, file, state, signal)).then(changed);
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
  show(body, zone, pending(address), h("div", { "aria-live": "polite" }, list), next(name));
}

/** What people do with files that have arrived. */
function next(name) {
  const link = (view, text) => h("a", { href: `#/collections/${pathOf(name, view)}` }, text);
  return h("p", { class: "small" }, "Then ", link("search", "search them"), ", or see ", link("documents", "what was read"), ".");
}

/** Name the files of which a part has arrived: the browser cannot open them again by itself. */
function pending(address) {
  const uploads = unfinished(address);
  const rows = uploads.map((each) => {
    const row = h("li", null, h("bdi", null, each.name), ` (${bytes(each.size)}) `);
    const end = () => discard(each).then(() => row.remove());
    row.append(h("button", { type: "button", class: "quiet", click: end, "aria-label": `Forget ${each.name}` }, "Forget"));
    return row;
  });
  return uploads.length > 0 && h("div", { class: "notice" }, "Not sent completely. Choose the same file again, and it continues:", h("ul", null, rows));
}

async function upload(address, file, state, signal) {
  const ended = new AbortController();
  const bar = h("progress", { "aria-label": `Sending ${file.name}` });
  const words = h("span", null, "is sent and indexed");
  const run = h("div", null);
  show(state, bar, " ", words, run);
  const progress = (sent) => {
    bar.value = sent / file.size;
    words.textContent = `${Math.floor((100 * sent) / file.size)} % sent`;
  };
  watchIndexing(address, run, ended.signal);
  try {
    const report = file.size < LARGE ? await sendForm(address, file, signal) : await sendFile(address, file, signal, progress);
    ended.abort();
    show(state, summary(report));
    announce(`${file.name} is indexed`);
  } catch (error) {
    ended.abort();
    show(state, h("strong", null, error.name === "AbortError" ? "The page was left before its end." : error.message));
  }
}

async function sendForm(address, file, signal) {
  const form = new FormData();
  form.append("file", file);
  return (await call(`${address}/files`, { method: "POST", body: form, signal })).json();
}

/** Show the index run of the collection while there is one. */
async function watchIndexing(address, element, signal) {
  while (!signal.aborted) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * SECONDS));
    const info = signal.aborted ? {} : await getJson(address, { quiet: true, signal }).catch(() => ({}));
    if (info.indexing && !signal.aborted) show(element, indexing(info.indexing));
  }
}

function summary({ new: added, changed, failed, chunks, failures }) {
  const words = [[added, "new"], [changed, "changed"], [failed, "failed"]].filter(([number]) => number > 0);
  const reasons = failures.map(({ reason }) => h("p", { class: "small" }, reason));
  return [words.map(([number, word]) => `${number} ${word}`).join(", ") || "unchanged", `, ${count(chunks, "chunk")}`, reasons];
}
