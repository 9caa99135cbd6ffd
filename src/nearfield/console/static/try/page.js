// Try: how alike texts and pictures are to a model, what it reads of them, and the code to do the same.

import { postJson, SERVER } from "../api.js";
import { act, code, empty, failure, field, h, load, select, show, table } from "../dom.js";
import { readFile } from "../files.js";
import { count, score, shorten } from "../format.js";
import { storedKey } from "../key.js";
import { fetchModels, sorted } from "../models/model-list.js";
import { MEASURES, matrix } from "./similarity.js";
import { clientsOf } from "./snippets.js";
import { tokenView } from "./token-view.js";

export const title = "Try";
const EXAMPLE = "A cat sits on the mat.\nA kitten rests on a rug.\nInterest rates rose again.";
/** More rows would be too many to compare. */
const MAX_INPUTS = 40;
/** Longer texts are shortened in the code. */
const MAX_CODE_CHARACTERS = 200;

export function render(main, { signal }) {
  const content = h("div", null);
  main.append(content);
  load(content, "Reading the models", () => fetchModels(signal), ({ models }) => trial(sorted(models), signal));
}

function trial(models, signal) {
  if (!models.length) return empty("No models", "There is nothing to try until the server has a model.");
  const controls = createControls(models);
  const results = h("div", { "aria-live": "polite" });
  const problem = h("div", null);
  const button = h("button", { class: "main" }, "Compare");
  const submit = (event) => {
    event.preventDefault();
    act(button, problem, async () => show(results, await compare(controls, models, signal)));
  };
  const form = h("form", { submit, class: "panel" }, controls.fields, h("div", { class: "row" }, button), problem);
  return [form, results];
}

function createControls(models) {
  const options = models.map((model) => [model.id, model.state === "loaded" ? model.id : `${model.id} (is loaded first)`]);
  const texts = h("textarea", { rows: 6, spellcheck: "false" }, EXAMPLE);
  const pictures = h("input", { type: "file", accept: "image/*", multiple: true });
  const model = select(options);
  const second = select([["", "none"], ...options]);
  const prompt = select([]);
  const offer = () => show(prompt, promptOptions(models.find(({ id }) => id === model.value)));
  model.addEventListener("change", offer);
  offer();
  const fields = [
    field("Texts, one on each line", texts, "With a reranker, the first line is the query that ranks the others."),
    field("Pictures", pictures, "For models that read pictures."),
    h("div", { class: "columns" }, field("Model", model), field("Prompt", prompt), field("Second model", second, "Shown beside the first.")),
  ];
  return { texts, pictures, model, second, prompt, fields };
}

function promptOptions(model) {
  const named = Object.entries(model.prompts).map(([name, text]) => [name, `${name}: ${quoted(text)}`]);
  const options = [["", `default: ${quoted(model.default_prompt)}`], ...named];
  return options.map(([value, label]) => h("option", { value }, label));
}

const quoted = (text) => (text ? `“${shorten(text, 60)}”` : "none");

async function compare(controls, models, signal) {
  const texts = controls.texts.value.split("\n").filter((line) => line.trim());
  const pictures = await Promise.all([...controls.pictures.files].map(readFile));
  if (!texts.length && !pictures.length) return empty("Nothing to compare", "Type a text, or choose a picture.");
  if (texts.length + pictures.length > MAX_INPUTS) return empty("Too many inputs", `At most ${MAX_INPUTS} are compared at a time.`);
  const names = [...new Set([controls.model.value, controls.second.value])].filter(Boolean);
  const inputs = { texts, pictures, prompt: controls.prompt.value };
  const columns = await Promise.all(names.map((name) => column(models.find(({ id }) => id === name), inputs, signal)));
  return [h("div", { class: columns.length > 1 ? "columns" : "" }, columns), await codeView(names[0], inputs, signal).catch((error) => failure(error))];
}

/** What one model says: a section, with the error in it if there is one, so that the other model is shown. */
async function column(listed, inputs, signal) {
  const parts = await said(listed, inputs, signal).catch((error) => failure(error));
  return h("section", { "aria-label": listed.id }, h("h2", null, listed.id), parts);
}

async function said(listed, inputs, signal) {
  const model = await known(listed, signal);
  const isRanker = model.outputs.includes("scores");
  const prompt = model.prompts[inputs.prompt] === undefined ? "" : inputs.prompt;
  const words = !isRanker && (prompt ? model.prompts[prompt] : model.default_prompt);
  const note = words && h("p", { class: "small" }, "Prompt before each text: ", h("q", null, words));
  return [note, await (isRanker ? ranked : compared)(model.id, { ...inputs, prompt }, signal)];
}

/** Return a model with what it gives and its prompts; its first request loads it. */
async function known(model, signal) {
  if (model.outputs.length) return model;
  await postJson("tokenize", { model: model.id, inputs: ["a"] }, { signal });
  const { models } = await fetchModels(signal);
  return models.find(({ id }) => id === model.id) ?? model;
}

// -- rerankers -------------------------------------------------------------------------------------------------------

async function ranked(model, { texts: [query, ...documents], pictures }, signal) {
  if (pictures.length) return empty("Pictures are not ranked here", "Compare them with a model that gives vectors, or send them to /rank.");
  if (!documents.length) return empty("One text", "A reranker needs a query and texts to rank: type at least two lines.");
  const reply = await postJson("rank", { model, query, documents }, { signal });
  const rows = reply.results.map(({ index, score: value }) => [score(value), shorten(documents[index], 200), cutNote(reply, index)]);
  return [h("p", null, "By ", h("q", null, shorten(query, 200))), table(`Texts ranked by ${model}`, ["Score", "Text", "Cut"], rows)];
}

const cutNote = (reply, index) => (reply.dropped[index] ? count(reply.dropped[index], "token") : "–");

// -- encoders --------------------------------------------------------------------------------------------------------

async function compared(model, { texts, pictures, prompt }, signal) {
  const input = [...texts, ...pictures.map(({ uri }) => ({ image: uri }))];
  const options = prompt ? { prompt_name: prompt } : {};
  const reply = await postJson("encode", { model, input, ...options }, { signal });
  const kind = Object.keys(MEASURES).find((name) => reply[name]);
  const [words, measure] = MEASURES[kind];
  const labels = [...texts, ...pictures.map(({ name }) => name)];
  const tokens = texts.length ? await tokenView(model, texts, reply, options, signal).catch((error) => failure(error)) : null;
  return [h("p", { class: "small" }, `Similarity: ${words}.`), matrixTable(labels, matrix(reply[kind].data, measure)), tokens];
}

function matrixTable(labels, values) {
  const head = (text, scope) => h("th", { scope, title: shorten(text, 500) }, shorten(text, 40));
  const rows = values.map((row, number) => h("tr", null, head(labels[number], "row"), row.map(heatCell)));
  const heads = h("tr", null, h("td", null), labels.map((text) => head(text, "col")));
  const whole = h("table", { class: "matrix" }, h("caption", { class: "unseen" }, "Similarity"), h("thead", null, heads), h("tbody", null, rows));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Similarity" }, whole);
}

function heatCell(value) {
  const cell = h("td", { class: "heat" }, score(value));
  cell.style.setProperty("--heat", `${Math.round(100 * Math.max(0, Math.min(1, value)))}%`);
  return cell;
}

// -- code ------------------------------------------------------------------------------------------------------------

/** The same request in code, if the model answered: what it gives is known then. */
async function codeView(name, { texts, pictures, prompt }, signal) {
  const { models } = await fetchModels(signal);
  const model = models.find(({ id }) => id === name);
  const isOnly = models.filter(({ outputs }) => outputs.includes("dense")).length === 1;
  const inputs = {
    texts: texts.map((text) => shorten(text, MAX_CODE_CHARACTERS)),
    pictures: pictures.map((picture) => picture.name),
    prompt: model?.prompts[prompt] === undefined ? "" : prompt,
  };
  const clients = clientsOf(model?.outputs ?? [], inputs, isOnly);
  const isPart = texts.some((text) => text.length > MAX_CODE_CHARACTERS);
  return Object.keys(clients).length > 0 && codeChoice(clients, { ...inputs, server: SERVER.href, model: name }, isPart);
}

function codeChoice(clients, facts, isPart) {
  const choice = select(Object.keys(clients).map((name) => [name]));
  const withKey = h("input", { type: "checkbox" });
  const shown = h("div", null);
  const draw = () => show(shown, code(clients[choice.value]({ ...facts, key: keyOf(withKey.checked) })));
  for (const control of [choice, withKey]) control.addEventListener("change", draw);
  draw();
  const key = storedKey() && field("Show the key of this tab", withKey, "Everyone who reads the code can use it.");
  return h("section", { class: "panel" }, h("h2", null, `The same in code, for ${facts.model}`), h("div", { class: "columns" }, field("Client", choice), key), isPart && h("p", { class: "small" }, `Texts are cut after ${MAX_CODE_CHARACTERS} characters here.`), shown);
}

/** The key to show: clients want one, even if the server has none. */
const keyOf = (isShown) => (storedKey() === "" ? "none" : isShown ? storedKey() : "YOUR_KEY");
