// Elements without markup: whatever comes from the server or the user is set as text.

const SVG = "http://www.w3.org/2000/svg";

/** Create an element. Attributes that are functions listen to events; null, undefined and false are left out. */
export function h(tag, attributes, ...children) {
  return assemble(document.createElement(tag), attributes, children);
}

/** Create an element of SVG. */
export function svg(tag, attributes, ...children) {
  return assemble(document.createElementNS(SVG, tag), attributes, children);
}

function assemble(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...flatten(children));
  return element;
}

function flatten(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Replace what an element contains; the control with the focus keeps it if the new content has one with its id. */
export function show(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement.id : "";
  element.replaceChildren(...flatten(children));
  if (focused) document.getElementById(focused)?.focus();
}

/** Let screen readers say a text. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

// -- states ----------------------------------------------------------------------------------------------------------

export function waiting(text) {
  return h("p", { class: "waiting" }, h("progress", { "aria-label": text }), " ", text);
}

export function empty(title, ...hint) {
  return h("div", { class: "empty" }, h("p", { class: "strong" }, title), h("p", null, ...hint));
}

export function failure(error, retry) {
  const again = retry && h("button", { type: "button", click: retry }, "Try again");
  return h("div", { class: "failure", role: "alert" }, h("p", null, error.message), again);
}

/** Show that something is fetched, then what it gives, or the error with a button to try again. */
export async function load(element, text, fetching, render) {
  show(element, waiting(text));
  try {
    show(element, await render(await fetching()));
  } catch (error) {
    if (error.name === "AbortError") return;
    show(element, failure(error, () => load(element, text, fetching, render)));
  }
}

/** Run the action of a button, which is disabled until it ends; `element` shows an error. */
export async function act(button, element, action) {
  button.disabled = true;
  show(element);
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") show(element, failure(error));
  } finally {
    button.disabled = false;
  }
}

// -- parts -----------------------------------------------------------------------------------------------------------

let lastId = 0;

/** A labelled control. */
export function field(label, control, hint) {
  control.id ||= `control-${++lastId}`;
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("small", null, hint));
}

export function select(options, attributes) {
  return h("select", attributes, options.map(([value, label]) => h("option", { value }, label ?? value)));
}

/** A table that can be scrolled sideways. Cells are texts or elements. */
export function table(caption, heads, rows) {
  const head = h("tr", null, heads.map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map((cells) => h("tr", null, cells.map((cell) => h("td", null, cell))));
  const whole = h("table", null, h("caption", { class: "unseen" }, caption), h("thead", null, head), h("tbody", null, body));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, whole);
}

/** Code with a button that copies it. */
export function code(text) {
  const button = h("button", { type: "button", class: "quiet", click: () => copy(text, button) }, "Copy");
  return h("div", { class: "code" }, button, h("pre", { tabindex: "0" }, h("code", null, text)));
}

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    announce(button.textContent = "Copied");
  } catch {
    button.textContent = "Select and copy it: the browser does not allow this";
  }
}

/** Links or buttons as tabs of a page: pairs of a label and an address, of which one is current. */
export function tabs(label, links, current) {
  const items = links.map(([text, href]) => h("a", { href, "aria-current": href === current ? "page" : null }, text));
  return h("nav", { class: "tabs", "aria-label": label }, items);
}
