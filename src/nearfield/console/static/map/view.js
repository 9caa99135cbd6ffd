// A map that has arrived: the canvas, search, colours, the text of a point, and the regions as a list.

import { COLOURS, PointMap } from "../point-map.js";
import { announce, field, h, select, show } from "../dom.js";
import { documentLink } from "../collections/documents.js";
import { count, shorten, whole } from "../format.js";

/** Matches of a search that are listed, values of a legend, and the zoom at which a region fills the canvas. */
const MAX_LISTED = 20, MAX_COLOURS = COLOURS.length - 1, CLOSE = 6;

export function mapView(name, data) {
  return new MapView(name, data).parts;
}

class MapView {
  tip = h("p", { class: "tip", hidden: true });
  chosen = h("div", { class: "chosen", "aria-live": "polite" });
  legend = h("ul", { class: "colours", "aria-label": "Colours" });
  counted = h("p", { class: "small", role: "status" });
  matches = h("div", null);
  lowered = null;

  constructor(name, data) {
    Object.assign(this, { name, data, total: data.texts.length });
    const label = "Map. Arrow keys move, plus and minus zoom, zero shows all, Enter opens the text in the middle.";
    this.canvas = h("canvas", { class: "map", tabindex: "0", role: "application", "aria-label": label });
    this.map = new PointMap(this.canvas, data, { point: (...place) => this.hover(...place), open: (number) => this.open(number) });
    this.search = h("input", { type: "search", autocomplete: "off", input: () => this.find() });
    this.field = select(Object.keys(data.fields).map((each) => [each]), { change: () => this.colour() });
    this.colour();
    this.find();
  }

  get parts() {
    const controls = h("div", { class: "columns" }, field("Search in the texts", this.search), field("Colour by", this.field));
    const frame = h("div", { class: "frame" }, this.canvas, this.tip);
    const note = h("p", { class: "small" }, "Near points have near meanings; distances between regions say little. Drag, pinch, or use the arrow keys, plus, minus and 0; a click or Enter shows the text.");
    return [controls, this.counted, frame, this.legend, this.chosen, this.matches, note, this.regions()];
  }

  colour() {
    const { values, rows } = this.data.fields[this.field.value];
    this.map.colourBy(rows);
    const shown = values.slice(0, MAX_COLOURS).map((value, place) => colourRow(value || "(none)", COLOURS[place]));
    show(this.legend, shown, values.length > MAX_COLOURS && colourRow("all others", COLOURS[MAX_COLOURS]));
  }

  find() {
    const words = this.search.value.trim().toLowerCase();
    this.lowered ??= this.data.texts.map((text, number) => `${this.data.titles[number]}\n${text}`.toLowerCase());
    const found = this.map.find(words ? (number) => this.lowered[number].includes(words) : null);
    this.counted.textContent = words ? `${whole(found)} of ${count(this.total, "point")} have it` : count(this.total, "point");
    show(this.matches, words && found > 0 && this.matchList(words, found));
  }

  matchList(words, found) {
    const numbers = [];
    for (let number = 0; number < this.total && numbers.length < MAX_LISTED; number++) if (this.map.found[number]) numbers.push(number);
    const rest = found > numbers.length && h("p", { class: "small" }, `and ${whole(found - numbers.length)} more`);
    return h("details", null, h("summary", null, `Texts with “${shorten(words, 60)}”`), this.textList(numbers), rest);
  }

  hover(number, x, y) {
    this.tip.hidden = number < 0;
    if (number < 0) return;
    this.tip.textContent = this.textOf(number);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const [left, right] = x > width / 2 ? ["auto", `${width - x + 12}px`] : [`${x + 12}px`, "auto"];
    const [top, bottom] = y > height / 2 ? ["auto", `${height - y + 12}px`] : [`${y + 12}px`, "auto"];
    Object.assign(this.tip.style, { left, right, top, bottom });
    if (document.activeElement === this.canvas) announce(this.textOf(number));
  }

  open(number) {
    show(this.chosen, h("article", { class: "panel" }, h("h2", null, this.data.titles[number]), h("p", { class: "passage" }, this.data.texts[number]), h("p", null, this.link(number, "Open the document"))));
  }

  textOf(number) {
    return `${shorten(this.data.titles[number], 80)}: ${shorten(this.data.texts[number], 160)}`;
  }

  link(number, text) {
    const address = documentLink(this.name, this.data.documents[this.data.document[number]]);
    return h("a", { href: `${address}&first=${this.data.number[number]}` }, text);
  }

  textList(numbers) {
    return h("ul", null, numbers.map((number) => h("li", null, this.link(number, this.textOf(number)))));
  }

  /** The map in words, for those who do not see it. */
  regions() {
    const { regions } = this.data;
    const items = regions.map((region) => {
      const go = () => {
        this.map.go(region.x, region.y, CLOSE);
        this.canvas.scrollIntoView({ block: "center" });
      };
      const button = h("button", { type: "button", click: go, "aria-label": `Show on the map: ${region.name}` }, "Show on the map");
      return h("section", { class: "region" }, h("h2", null, h("bdi", null, region.name), ` (${whole(region.size)})`), this.textList(region.examples), button);
    });
    return h("details", { open: true }, h("summary", null, `The ${count(regions.length, "region")}, with examples`), items);
  }
}

function colourRow(text, colour) {
  const mark = h("span", { class: "swatch" });
  mark.style.background = colour;
  return h("li", null, mark, shorten(String(text), 60));
}
