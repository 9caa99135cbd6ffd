// The tokens of texts: which come from the prompt, and which were cut off.

import { postJson } from "../api.js";
import { h } from "../dom.js";
import { count, shorten, whole } from "../format.js";

/** Of longer texts the start is shown. The server tokenises no more than 250 characters for each token of the model. */
const MAX_CHARACTERS = 20000;
const MAX_CHARACTERS_PER_TOKEN = 100;
const MAX_TOKENS = 1500;

/** Return a view of what a model reads of texts.
 *
 * `reply` is that of /encode for them: its numbers of tokens read and cut are those of the whole texts.
 */
export async function tokenView(model, texts, reply, options, signal) {
  const most = Math.min(MAX_CHARACTERS, MAX_CHARACTERS_PER_TOKEN * reply.max_length);
  const inputs = texts.map((text) => text.slice(0, most));
  const lists = await postJson("tokenize", { model, inputs, ...options }, { signal });
  return h(
    "section",
    null,
    h("h3", null, "What the model reads"),
    h("p", { class: "small" }, `At most ${count(reply.max_length, "token")} of each input. Marked: `, legend()),
    texts.map((text, index) => tokensOf(text, lists[index], reply.tokens[index], reply.dropped[index], text.length > most)),
  );
}

function legend() {
  return [
    h("span", { class: "token special" }, "added by the model"), " ",
    h("span", { class: "token cut" }, "cut off"),
  ];
}

function tokensOf(text, tokens, read, dropped, isPart) {
  const isCut = cutMarks(tokens, read);
  const parts = tokens.slice(0, MAX_TOKENS).map((token, index) => tokenElement(token, isCut[index]));
  const numbers = `${count(read, "token")} read, ${dropped ? `${whole(dropped)} cut off` : "none cut off"}`;
  return h(
    "details",
    { open: text.length < 500 || dropped > 0 },
    h("summary", null, shorten(text, 60), " – ", numbers),
    h("p", { class: "tokens" }, parts, isPart || tokens.length > MAX_TOKENS ? " … and more" : ""),
  );
}

function tokenElement({ id, text, special }, isCut) {
  const kind = `token${special ? " special" : ""}${isCut ? " cut" : ""}`;
  return h(isCut ? "del" : "span", { class: kind, title: `token ${id}` }, text || "·");
}

/** Say which tokens are cut: those after the last that is read, but for those that the model adds at the end. */
function cutMarks(tokens, read) {
  const end = tokens.findLastIndex((token) => !token.special) + 1;
  const most = read - (tokens.length - end);
  return tokens.map((_, index) => index >= most && index < end);
}
