// Map: the passages or documents of a collection in two dimensions, with names of regions.

import { getJson, pathOf, queryOf } from "../api.js";
import { empty, field, h, load, select } from "../dom.js";
import { survey } from "../survey.js";
import { mapView } from "./view.js";

export const title = "Map";
const KINDS = [["passages"], ["documents"]];

export function render(main, { parts: [name], query, signal }) {
  const content = h("div", null);
  main.append(content);
  load(content, "Reading the collections", () => getJson("collections", { signal }), ({ collections }) => {
    if (!collections.length) return empty("No collections", "A map shows the passages of one: create it on the page Collections.");
    const of = query.get("of") === "documents" ? "documents" : "passages";
    const body = h("div", null);
    const known = collections.some((each) => each.name === name);
    if (known) survey(body, `collections/${pathOf(name)}/map`, { of }, signal, ({ map }) => mapView(name, map));
    else body.append(empty(name ? "It is not served here" : "Which collection?", "Choose one above. The first map of it takes up to some minutes."));
    return [choices(collections, known ? name : "", of), body];
  });
}

function choices(collections, name, of) {
  const collection = select([["", "Choose"], ...collections.map((each) => [each.name])], { change: () => go() });
  const kind = select(KINDS, { change: () => go() });
  collection.value = name;
  kind.value = of;
  const go = () => (location.hash = collection.value ? `#/map/${pathOf(collection.value)}?${queryOf({ of: kind.value })}` : "#/map");
  return h("div", { class: "columns" }, field("Collection", collection), field("Points are", kind));
}
