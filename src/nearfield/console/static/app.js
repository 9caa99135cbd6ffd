// The console's frame: navigation by the address, the theme and the key.

import { askForKey, storedKey } from "./key.js";
import { h, show } from "./dom.js";
import * as collections from "./collections/page.js";
import * as keys from "./keys/page.js";
import * as live from "./live/page.js";
import * as map from "./map/page.js";
import * as models from "./models/page.js";
import * as reports from "./reports/page.js";
import * as trying from "./try/page.js";

const PAGES = { models, try: trying, collections, map, reports, live, keys };
const THEMES = ["system", "light", "dark"];
const main = document.getElementById("main");
let leaving = new AbortController();

/** Show the page of the address: `#/page/part/part?query`. */
function navigate() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").map(decode);
  const known = Object.hasOwn(PAGES, name) ? name : "models";
  leaving.abort();
  leaving = new AbortController();
  document.title = `${PAGES[known].title} – Nearfield`;
  for (const link of document.querySelectorAll("#pages a")) mark(link, link.hash === `#/${known}`);
  show(main, h("h1", null, PAGES[known].title));
  PAGES[known].render(main, { parts, query: new URLSearchParams(query), signal: leaving.signal });
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function mark(link, isCurrent) {
  if (isCurrent) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  document.getElementById("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem("nearfield-theme", theme);
}

function nextTheme() {
  setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
}

async function changeKey() {
  const earlier = storedKey();
  await askForKey("Servers with keys need one for each request. What it may do depends on its scopes.");
  if (storedKey() !== earlier) navigate(); // what was typed on the page stays
}

document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("key").addEventListener("click", changeKey);
document.getElementById("pages").append(...Object.entries(PAGES).map(([name, page]) => h("a", { href: `#/${name}` }, page.title)));
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
window.addEventListener("hashchange", () => {
  navigate();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
setTheme(THEMES.includes(localStorage.getItem("nearfield-theme")) ? localStorage.getItem("nearfield-theme") : "system");
navigate();
