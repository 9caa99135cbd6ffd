// Keys: who may use the server, and for what. It needs the scope manage.

import { getJson, postJson } from "../api.js";
import { act, announce, code, empty, field, h, load, show, table } from "../dom.js";
import { whole } from "../format.js";

export const title = "Keys";
const COMMANDS = ["nearfield keys new --name me --scope infer --scope manage --file keys.toml", "nearfield serve MODEL --api-key-file keys.toml"];

export function render(main, { signal }) {
  const content = h("div", null);
  const created = h("div", { "aria-live": "polite" });
  main.append(created, content);
  const read = () => load(content, "Reading the keys", () => getJson("keys", { signal }), (list) => draw(list, created, read));
  read();
}

function draw({ keys, editable }, created, read) {
  if (!keys.length) return noKeys();
  const problem = h("div", null);
  const rows = keys.map((key) => row(key, editable, problem, read));
  const shown = table("Keys", ["Name", "Scopes", "Models", "Tokens a minute", "Change"], rows);
  return [shown, problem, editable ? creation(created, read) : h("p", { class: "notice" }, "These keys cannot be changed here: start the server with --api-key-file keys.toml.")];
}

function noKeys() {
  const hint = empty("No keys", "Everybody who reaches the server may use it. Create a first key that manages the others, and start the server with its file:");
  return [hint, code(COMMANDS.join("\n"))];
}

function row(key, editable, problem, read) {
  const rate = key.tokens_per_minute === null ? "no limit" : `${whole(key.used)} of ${whole(key.tokens_per_minute)} used`;
  const revoke = async () => {
    if (!confirm(`Revoke the key ${key.name}? Its clients are refused within a second.`)) return;
    await postJson("keys/revoke", { name: key.name });
    announce(`${key.name} is revoked`);
    read();
  };
  const button = h("button", { type: "button", "aria-label": `Revoke ${key.name}`, click: (event) => act(event.currentTarget, problem, revoke) }, "Revoke");
  return [key.name, key.scopes.join(", "), key.models.map((model) => (model === "*" ? "all" : model)).join(", "), rate, key.current ? "this key" : editable && button];
}

function creation(created, read) {
  const name = h("input", { required: true, maxlength: 100, autocomplete: "off" });
  const manage = h("input", { type: "checkbox" });
  const models = h("input", { value: "*", autocomplete: "off", spellcheck: "false" });
  const rate = h("input", { type: "number", min: 1 });
  const problem = h("div", null);
  const button = h("button", { class: "main" }, "Create a key");
  const create = async () => {
    const scopes = manage.checked ? ["infer", "manage"] : ["infer"];
    const request = { name: name.value.trim(), scopes, models: models.value.split(/[\s,]+/).filter(Boolean), tokens_per_minute: Number(rate.value) || null };
    const key = await postJson("keys", request);
    show(created, h("section", { class: "panel" }, h("h2", null, `The key of ${key.name}`), h("p", null, "It is shown only now: the server stores its hash alone. Clients send it as their API key; “My key” at the top uses it here."), code(key.key)));
    read();
  };
  const submit = (event) => {
    event.preventDefault();
    act(button, problem, create);
  };
  return h(
    "form",
    { submit, class: "panel" },
    h("h2", null, "New key"),
    h("div", { class: "columns" }, field("Name of the client", name), field("Models", models, "Ids or patterns, such as BAAI/*; * is all"), field("Tokens a minute", rate, "Empty: no limit")),
    field("May also manage models, collections and keys", manage),
    h("div", { class: "row" }, button),
    problem,
  );
}
