// The models of a server: those in memory, those that may be loaded, and what is known of each.

import { getJson } from "../api.js";
import { bytes, count, whole } from "../format.js";

/** Return the models by id, the memory they use and the budget. */
export async function fetchModels(signal) {
  const [memory, known] = await Promise.all([getJson("models", { signal }), getJson("v1/models", { signal })]);
  const facts = new Map(known.data.map(({ prompts, ...model }) => [model.id, model]));
  const states = new Map(memory.models.map((model) => [model.id, model]));
  const ids = new Set([...states.keys(), ...facts.keys(), ...memory.on_demand.filter(isName)]);
  return {
    models: [...ids].map((id) => ({ ...NOTHING, state: "available", ...states.get(id), ...facts.get(id), id })),
    bytes: memory.bytes,
    budget: memory.budget,
    patterns: memory.on_demand.filter((name) => !isName(name)),
  };
}

const NOTHING = { pinned: false, bytes: 0, users: 0, uses: 0, outputs: [], prompts: {}, error: "" };
const isName = (name) => !/[*?[]/.test(name);

const OUTPUTS = {
  dense: (model) => `one vector of ${whole(model.dimensions)} numbers`,
  sparse: () => "weights of words",
  multivector: () => "one vector for each token",
  scores: () => "scores",
};

/** Say in words what a model does. */
export function describe(model) {
  const prompts = Object.keys(model.prompts).filter((name) => model.prompts[name]);
  const made = model.outputs.map((name) => OUTPUTS[name]?.(model) ?? name).join(", and ");
  return [
    made && `Gives ${made}${model.modalities?.length > 1 ? ` of ${model.modalities.join(", ")}` : ""}.`,
    model.max_length && `Reads up to ${count(model.max_length, "token")} of each input, and cuts the rest.`,
    model.pooling?.length && `Pools tokens by ${model.pooling.join(" and ")}.`,
    prompts.length > 0 && `Prompts: ${prompts.join(", ")}.`,
    model.precision && `Computes in ${model.precision}.`,
    model.licence && `Licence: ${model.licence}.`,
  ].filter(Boolean);
}

/** Say in words what a model does in memory. */
export function usage(model) {
  if (model.state !== "loaded") return "";
  const now = model.users ? `, ${count(model.users, "request")} now` : "";
  return `${bytes(model.bytes)}, ${count(model.uses, "request")} so far${now}${model.pinned ? "; stays in memory" : ""}`;
}

/** Return the loaded models first, then the others, by name. */
export function sorted(models) {
  const order = (model) => (model.state === "loaded" ? 0 : 1);
  return [...models].sort((a, b) => order(a) - order(b) || a.id.localeCompare(b.id));
}
