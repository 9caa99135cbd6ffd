// The dialog that asks for an API key. The key stays in this tab's session storage.

import { field, h } from "./dom.js";

const KEY = "nearfield-key";

export const storedKey = () => sessionStorage.getItem(KEY) ?? "";

function storeKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

let pending = null;

/** Ask for a key, and say why; return whether one was given. Requests that wait at the same time share the dialog. */
export function askForKey(reason) {
  pending ??= openDialog(reason).finally(() => (pending = null));
  return pending;
}

function openDialog(reason) {
  const input = h("input", { type: "password", autocomplete: "off", spellcheck: "false", value: storedKey() });
  const forget = h("button", { type: "button", click: () => dialog.close("forget") }, "Forget the key");
  const cancel = h("button", { type: "button", class: "quiet", click: () => dialog.close("cancel") }, "Cancel");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "key-title" }, "API key"),
    h("p", null, reason),
    field("Key", input, "It is sent to this server alone, and forgotten when the tab is closed."),
    h("div", { class: "row" }, h("button", { value: "use", class: "main" }, "Use this key"), storedKey() && forget, cancel),
  );
  const dialog = h("dialog", { "aria-labelledby": "key-title" }, form);
  document.body.append(dialog);
  dialog.showModal();
  input.select();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(closed(dialog, input.value.trim()))));
}

function closed(dialog, key) {
  const given = dialog.returnValue === "use" && key !== "";
  if (given) storeKey(key);
  if (dialog.returnValue === "forget") storeKey("");
  dialog.remove();
  return given;
}
