// Pictures, pages and recordings of a collection. They need the key, so that they are fetched and not linked.

import { call } from "../api.js";
import { act, h, show } from "../dom.js";
import { clock } from "../format.js";

/** Say where a chunk is in its document. */
export function placeOf({ page, last_page: last, page_unit: unit, lines, start_time: from, end_time: to, start, end }) {
  if (page !== null) return last && last !== page ? `${unit}s ${page} to ${last}` : `${unit} ${page}`;
  if (from !== null) return to === null ? clock(from) : `${clock(from)} to ${clock(to)}`;
  if (lines) return `lines ${lines[0]} to ${lines[1]}`;
  return end > start ? `characters ${start} to ${end}` : "";
}

/** Show the thumbnail of a chunk or passage, and a button that plays its recording. */
export function media(chunk, signal) {
  return [chunk.thumbnail && thumbnail(chunk, signal), chunk.clip && player(chunk, signal)];
}

/** A picture that is fetched when it comes into view. */
function thumbnail(chunk, signal) {
  const image = h("img", { alt: `Picture of ${placeOf(chunk) || "it"}`, class: "thumbnail" });
  const seen = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    seen.disconnect();
    fetchFile(chunk.thumbnail, signal)
      .then(({ address }) => (image.src = address))
      .catch((error) => image.replaceWith(h("p", { class: "small" }, error.message)));
  });
  seen.observe(image);
  return image;
}

function player(chunk, signal) {
  const place = h("div", null);
  const problem = h("div", null);
  const play = async () => {
    const { address, type } = await fetchFile(chunk.clip, signal);
    const kind = type.startsWith("audio/") ? "audio" : "video";
    const element = h(kind, { src: address, controls: true, class: "player", "aria-label": placeOf(chunk) });
    show(place, element);
    element.play().catch(() => {});
  };
  const button = h("button", { type: "button", click: () => act(button, problem, play) }, `Play ${placeOf(chunk)}`);
  place.append(button);
  return [place, problem];
}

/** Return the address of a fetched file in this tab, until the signal, and its media type. */
async function fetchFile(path, signal) {
  const file = await (await call(path.replace(/^\//, ""), { signal })).blob();
  const address = URL.createObjectURL(file);
  signal.addEventListener("abort", () => URL.revokeObjectURL(address));
  return { address, type: file.type };
}
