// A form that creates a collection: its name, the model, and the settings that most need.

import { getJson, pathOf, postJson } from "../api.js";
import { act, field, h } from "../dom.js";

const NAME = "[a-z0-9][a-z0-9_\\-]{0,62}";
const FIELD_TYPES = ["str", "int", "float", "bool"];

export function creation(signal) {
  const models = h("datalist", { id: "collection-models" });
  suggest(models, signal);
  const controls = {
    name: h("input", { required: true, pattern: NAME, maxlength: 63, autocomplete: "off", spellcheck: "false" }),
    model: h("input", { list: "collection-models", autocomplete: "off", spellcheck: "false" }),
    language: h("input", { value: "en", maxlength: 64, autocomplete: "off" }),
    tokens: h("input", { type: "number", min: 8, max: 100000 }),
    fields: h("input", { autocomplete: "off", spellcheck: "false" }),
    ocr: h("input", { type: "checkbox" }),
    speech: h("input", { type: "checkbox" }),
  };
  const problem = h("div", null);
  const button = h("button", { class: "main" }, "Create the collection");
  const submit = (event) => {
    event.preventDefault();
    act(button, problem, async () => {
      const { name } = await postJson("collections", definition(controls));
      location.hash = `#/collections/${pathOf(name, "upload")}`;
    });
  };
  const form = h("form", { submit, class: "panel" }, parts(controls), models, h("div", { class: "row" }, button), problem);
  return h("details", null, h("summary", null, "New collection"), form);
}

function parts({ name, model, language, tokens, fields, ocr, speech }) {
  const columns = (...items) => h("div", { class: "columns" }, items);
  return [
    columns(
      field("Name", name, "Lower-case letters, digits, - and _, such as handbook"),
      field("Model", model, "It turns texts into vectors, and cannot be exchanged without computing all of them again. Empty: all-MiniLM-L6-v2, for English."),
    ),
    columns(
      field("Language", language, "Of the texts, as a code such as en or de: for sentences and keywords"),
      field("Tokens of a chunk", tokens, "Documents are split into chunks of at most so many. Empty: what the model reads well."),
    ),
    field("Fields", fields, "Values of documents that searches may filter by, such as year:int, team. Types: str, int, float, bool."),
    columns(
      field("Read the text of pictures and scanned pages", ocr, "OCR: some seconds for each page. The server needs the extra ocr."),
      field("Read what is said in sounds and videos", speech, "Slow. The server needs the extra speech."),
    ),
  ];
}

function definition({ name, model, language, tokens, fields, ocr, speech }) {
  const typed = fields.value.split(/[\s,]+/).filter(Boolean).map((each) => each.split(":"));
  const wrong = typed.find(([, type]) => type !== undefined && !FIELD_TYPES.includes(type));
  if (wrong) throw new Error(`${wrong.join(":")} is no field: its type is one of ${FIELD_TYPES.join(", ")}, such as year:int.`);
  return {
    name: name.value.trim(),
    fields: Object.fromEntries(typed.map(([key, type]) => [key, type ?? "str"])),
    ...(model.value.trim() && { features: { dense: { model: model.value.trim() } } }),
    ...(language.value.trim() && { language: language.value.trim() }),
    ...(tokens.value && { chunks: { tokens: Number(tokens.value) } }),
    ...(ocr.checked && { ocr: true }),
    ...(speech.checked && { speech: true }),
  };
}

/** Suggest the models that the server has; without them, a name is typed. */
async function suggest(list, signal) {
  const { models } = await getJson("models", { signal }).catch(() => ({ models: [] }));
  list.append(...models.map(({ id }) => h("option", { value: id })));
}
