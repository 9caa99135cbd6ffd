// Work on a whole collection that takes a while: asked for every second, with its progress, until it is done.

import { postJson } from "./api.js";
import { failure, h, show, waiting } from "./dom.js";

const SECONDS = 1;
const WAITS = "Waits for earlier work: the server computes one map or search for duplicates at a time.";

/** Ask for a map or for duplicates until it is done, and show it with `render`; `element` shows the progress. */
export async function survey(element, path, request, signal, render) {
  show(element, waiting("Asking the server"));
  try {
    for (let reply = await postJson(path, request, { signal }); ; reply = await postJson(path, request, { signal })) {
      if (reply.state === "done") return show(element, render(reply));
      show(element, progress(reply));
      await new Promise((resolve) => setTimeout(resolve, 1000 * SECONDS));
      if (signal.aborted) return;
    }
  } catch (error) {
    if (error.name !== "AbortError") show(element, failure(error, () => survey(element, path, request, signal, render)));
  }
}

function progress({ step, share }) {
  const text = step === "waits" ? WAITS : `The server ${step}: ${Math.round(100 * share)} %`;
  return h("p", { class: "waiting" }, h("progress", { max: 1, value: share, "aria-label": text }), " ", text);
}
