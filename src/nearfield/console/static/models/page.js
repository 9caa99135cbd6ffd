// Models: which are in memory, what they are, and how to load and unload them.

import { postJson } from "../api.js";
import { announce, empty, failure, field, h, show, waiting } from "../dom.js";
import { bytes, duration } from "../format.js";
import { describe, fetchModels, sorted, usage } from "./model-list.js";
import { repeat } from "../repeat.js";

export const title = "Models";
const SECONDS = 2;
const STATES = { loaded: "in memory", loading: "loading", failed: "failed", available: "not in memory" };

export function render(main, { signal }) {
  const view = new ModelsView(signal);
  main.append(view.memory, view.problem, view.list, view.other);
  show(view.list, waiting("Reading the models"));
  repeat(SECONDS, () => view.update(), signal);
}

class ModelsView {
  memory = h("div", null);
  problem = h("div", null);
  list = h("div", { class: "cards" });
  other = h("div", null);
  /** When this tab began to load a model, by id. */
  started = new Map();
  shown = "";

  constructor(signal) {
    this.signal = signal;
  }

  /** Read the models again; what has not changed is not drawn again. */
  async update() {
    try {
      const found = await fetchModels(this.signal);
      const drawn = JSON.stringify([found, [...this.started.keys()]], (name, value) => (name === "idle" ? undefined : value));
      if (drawn === this.shown) return this.count();
      this.shown = drawn;
      this.draw(found);
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
  }

  fail(error) {
    this.shown = "";
    show(this.list, failure(error, () => this.update()));
  }

  draw({ models, bytes: used, budget, patterns }) {
    show(this.memory, memoryBar(used, budget));
    const none = empty("No models", "Start the server with one, such as ", h("code", null, "nearfield serve all-MiniLM-L6-v2"), ".");
    show(this.list, models.length ? sorted(models).map((model) => this.card(model)) : none);
    if (!this.other.hasChildNodes() && patterns.length) show(this.other, this.otherModels(patterns));
  }

  card(model) {
    const isLoading = model.state === "loading" || this.started.has(model.id);
    return h(
      "article",
      { class: "card", "aria-label": model.id },
      h("h2", null, model.id, " ", h("span", { class: `badge ${model.state}` }, isLoading ? "loading" : STATES[model.state])),
      h("p", null, describe(model).join(" ") || "What it computes is known once it is loaded."),
      usage(model) && h("p", { class: "small" }, usage(model)),
      isLoading && this.progress(model),
      model.error && h("p", { class: "failure" }, model.error),
      h("div", { class: "row" }, this.button(model, isLoading)),
    );
  }

  progress(model) {
    const seconds = h("span", { class: "seconds", "data-model": model.id });
    const since = this.started.get(model.id);
    if (since) seconds.textContent = duration((Date.now() - since) / 1000);
    return h("p", { class: "waiting" }, h("progress", { "aria-label": `Loading ${model.id}` }), " ", seconds);
  }

  /** Count the seconds of models that are being loaded. */
  count() {
    for (const element of this.list.querySelectorAll(".seconds")) {
      const since = this.started.get(element.dataset.model);
      if (since) element.textContent = duration((Date.now() - since) / 1000);
    }
  }

  button(model, isLoading) {
    if (model.pinned || isLoading) return null;
    const verb = model.state === "loaded" ? "unload" : "load";
    const label = verb === "load" ? "Load" : "Unload";
    return h("button", { type: "button", id: `switch-${model.id}`, "aria-label": `${label} ${model.id}`, click: () => this.change(verb, model.id) }, label);
  }

  /** Load or unload a model; another tab may do the same, and the server says what became of it. */
  async change(verb, id) {
    show(this.problem);
    if (verb === "load") this.started.set(id, Date.now());
    this.update();
    try {
      await postJson(`models/${verb}`, { model: id });
      announce(verb === "load" ? `${id} is in memory` : `${id} is unloaded`);
    } catch (error) {
      show(this.problem, failure(error));
    } finally {
      this.started.delete(id);
      if (!this.signal.aborted) this.update();
    }
  }

  otherModels(patterns) {
    const input = h("input", { required: true, autocomplete: "off", spellcheck: "false" });
    const submit = (event) => {
      event.preventDefault();
      this.change("load", input.value.trim());
    };
    const hint = `Names that this server may load: ${patterns.join(", ")}`;
    return h("form", { submit, class: "panel" }, field("Load another model", input, hint), h("button", { class: "main" }, "Load"));
  }
}

function memoryBar(used, budget) {
  if (!budget) return h("p", null, `${bytes(used)} of memory are used by models. There is no budget.`);
  const bar = h("meter", { min: 0, max: budget, value: used, high: 0.9 * budget, "aria-label": "Memory of models" });
  return h("p", null, bar, ` ${bytes(used)} of ${bytes(budget)} are used by models.`);
}
