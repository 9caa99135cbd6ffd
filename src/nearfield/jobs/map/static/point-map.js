// Points on a canvas, with the names of regions: moved, zoomed and searched, with the pointer or the keyboard.

/** Colours of the most frequent values; all others have the last one. */
export const COLOURS = ["#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#edc948", "#ff9da7", "#3b6fb6", "#a0cbe8", "#8cd17d", "#999999"];
/** Cells of the grid that finds the points near a place, and names of regions at the smallest zoom. */
const CELLS = 256, REGIONS = 40;
/** The part of the canvas that the map fills, and pixels around the pointer in which a point is found. */
const FILL = 0.92, REACH = 10;
/** The share of their colour that points keep which a search does not find. */
const FAINT = 0.12;
const MOVES = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] };

/** A map of points with places x and y from 0 to 1, and regions with name, x and y.
 *
 * `listen.point(number, x, y)` is called with the point under the pointer, or in the middle of the map after a key, and
 * its place on the canvas; the number is -1 if there is none. `listen.open(number)` is called for a click or Enter.
 */
export class PointMap {
  view = { x: 0.5, y: 0.5, zoom: 1 };
  found = null;
  current = -1;

  constructor(canvas, { x, y, regions }, listen) {
    Object.assign(this, { canvas, x, y, regions, listen, count: x.length, colours: new Uint8Array(x.length) });
    this.paint = canvas.getContext("2d");
    this.order = Uint32Array.from({ length: this.count }, (_, number) => number);
    this.sort();
    this.hear();
    new ResizeObserver(() => this.redraw()).observe(canvas);
  }

  /** Colour the points by numbers of values, the most frequent value first; rare ones are drawn above frequent ones. */
  colourBy(rows) {
    this.colours = Uint8Array.from(rows, (row) => Math.min(row, COLOURS.length - 1));
    const groups = COLOURS.map(() => []);
    for (let number = 0; number < this.count; number++) groups[this.colours[number]].push(number);
    this.order = Uint32Array.from(groups.flat());
    this.redraw();
  }

  /** Let the points stand out that a test of their numbers finds, and return how many; null shows all alike. */
  find(test) {
    this.found = test && Uint8Array.from({ length: this.count }, (_, number) => (test(number) ? 1 : 0));
    this.redraw();
    return this.found ? this.found.reduce((sum, value) => sum + value, 0) : this.count;
  }

  /** Show a place in the middle of the map. */
  go(x, y, zoom) {
    Object.assign(this.view, { x, y, zoom });
    this.redraw();
  }

  redraw() {
    this.waits ??= requestAnimationFrame(() => {
      this.waits = null;
      this.draw();
    });
  }

  // -- places --------------------------------------------------------------------------------------------------------

  /** Pixels of the canvas that the whole map takes. */
  get scale() {
    return Math.max(1, this.view.zoom * Math.min(this.canvas.clientWidth, this.canvas.clientHeight) * FILL);
  }

  /** Return the place on the canvas of a place on the map. */
  onCanvas(x, y) {
    return [this.canvas.clientWidth / 2 + (x - this.view.x) * this.scale, this.canvas.clientHeight / 2 + (y - this.view.y) * this.scale];
  }

  /** Put the points into cells, so that the pointer looks at few of them. */
  sort() {
    const cell = (number) => this.cell(this.x[number]) + CELLS * this.cell(this.y[number]);
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let number = 0; number < this.count; number++) this.starts[cell(number) + 1]++;
    for (let place = 0; place < CELLS * CELLS; place++) this.starts[place + 1] += this.starts[place];
    const next = this.starts.slice();
    this.members = new Uint32Array(this.count);
    for (let number = 0; number < this.count; number++) this.members[next[cell(number)]++] = number;
  }

  cell(value) {
    return Math.max(0, Math.min(CELLS - 1, Math.floor(value * CELLS)));
  }

  /** Return the point nearest to a place on the canvas, of those that are found, or -1. */
  nearest(left, top, reach = REACH) {
    const x = this.view.x + (left - this.canvas.clientWidth / 2) / this.scale;
    const y = this.view.y + (top - this.canvas.clientHeight / 2) / this.scale;
    const far = reach / this.scale;
    let best = -1, least = far * far;
    for (let row = this.cell(y - far); row <= this.cell(y + far); row++) {
      for (let place = this.starts[this.cell(x - far) + CELLS * row]; place < this.starts[this.cell(x + far) + CELLS * row + 1]; place++) {
        const number = this.members[place];
        const distance = (this.x[number] - x) ** 2 + (this.y[number] - y) ** 2;
        if (distance < least && (!this.found || this.found[number])) [least, best] = [distance, number];
      }
    }
    return best;
  }

  // -- drawing -------------------------------------------------------------------------------------------------------

  draw() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(this.canvas.clientWidth * ratio), Math.round(this.canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const image = this.paint.createImageData(width, height);
    this.fill(new Uint32Array(image.data.buffer), width, height, ratio);
    this.paint.putImageData(image, 0, 0);
    this.paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.drawNames();
    this.drawCurrent();
  }

  /** Write the points into the pixels of a picture, without a call for each. */
  fill(pixels, width, height, ratio) {
    const back = channels(this.paint, getComputedStyle(this.canvas).backgroundColor);
    const strong = COLOURS.map((colour) => packed(channels(this.paint, colour), back, 1));
    const faint = COLOURS.map((colour) => packed(channels(this.paint, colour), back, FAINT));
    const size = Math.round(ratio * Math.max(2, Math.min(7, Math.sqrt((40000 / this.count) * this.view.zoom))));
    const [left, top] = this.onCanvas(0, 0).map((value) => value * ratio - size / 2);
    const factor = this.scale * ratio;
    pixels.fill(packed(back, back, 1));
    for (const isFound of this.found ? [0, 1] : [1]) {
      const colours = isFound ? strong : faint;
      for (const number of this.order) {
        if (this.found && this.found[number] !== isFound) continue;
        const x = Math.round(left + this.x[number] * factor), y = Math.round(top + this.y[number] * factor);
        if (x < 0 || y < 0 || x + size > width || y + size > height) continue;
        const colour = colours[this.colours[number]];
        for (let row = y * width + x; row < (y + size) * width + x; row += width) {
          for (let pixel = row; pixel < row + size; pixel++) pixels[pixel] = colour;
        }
      }
    }
  }

  drawNames() {
    const style = getComputedStyle(this.canvas), taken = [];
    Object.assign(this.paint, { font: "600 13px system-ui, sans-serif", textAlign: "center", lineWidth: 4, lineJoin: "round" });
    Object.assign(this.paint, { strokeStyle: style.backgroundColor, fillStyle: style.color });
    for (const region of this.regions.slice(0, REGIONS * this.view.zoom)) {
      const [x, y] = this.onCanvas(region.x, region.y), half = this.paint.measureText(region.name).width / 2;
      if (taken.some((box) => Math.abs(box.x - x) < box.half + half + 6 && Math.abs(box.y - y) < 18)) continue;
      taken.push({ x, y, half });
      this.paint.strokeText(region.name, x, y);
      this.paint.fillText(region.name, x, y);
    }
  }

  drawCurrent() {
    if (this.current < 0) return;
    const [x, y] = this.onCanvas(this.x[this.current], this.y[this.current]);
    Object.assign(this.paint, { strokeStyle: getComputedStyle(this.canvas).color, lineWidth: 2 });
    this.paint.beginPath();
    this.paint.arc(x, y, 8, 0, 2 * Math.PI);
    this.paint.stroke();
  }

  // -- pointer and keyboard ------------------------------------------------------------------------------------------

  hear() {
    this.pointers = new Map();
    const on = (name, action, options) => this.canvas.addEventListener(name, (event) => action(event), options);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) on(name, (event) => this.release(event));
    on("pointerleave", () => this.pointers.size || this.choose(-1));
    on("wheel", (event) => this.wheel(event), { passive: false });
    on("keydown", (event) => this.key(event));
  }

  press(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = 0;
  }

  release(event) {
    const pressed = this.pointers.delete(event.pointerId);
    if (event.type === "pointercancel" || !pressed || this.pointers.size || this.moved > 6) return;
    const number = this.nearest(event.offsetX, event.offsetY, event.pointerType === "touch" ? 2 * REACH : REACH);
    this.choose(number);
    if (number >= 0) this.listen.open(number);
  }

  move(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return this.choose(this.nearest(event.offsetX, event.offsetY));
    const other = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
    const here = [event.offsetX, event.offsetY];
    this.moved += Math.hypot(here[0] - before[0], here[1] - before[1]);
    this.pointers.set(event.pointerId, here);
    if (other) this.zoom(distance(here, other) / Math.max(1, distance(before, other)), ...other);
    else this.shift((before[0] - here[0]) / this.scale, (before[1] - here[1]) / this.scale);
  }

  wheel(event) {
    event.preventDefault();
    this.zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, event.offsetX, event.offsetY);
  }

  key(event) {
    const move = MOVES[event.key], middle = [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Enter" && this.current >= 0) return this.listen.open(this.current);
    if (move) this.shift(-move[0] / this.view.zoom, -move[1] / this.view.zoom);
    else if (event.key === "+" || event.key === "-") this.zoom(event.key === "+" ? 1.3 : 1 / 1.3, ...middle);
    else if (event.key === "0") this.go(0.5, 0.5, 1);
    else return;
    event.preventDefault();
    this.choose(this.nearest(...middle, Infinity));
  }

  shift(x, y) {
    this.go(this.view.x + x, this.view.y + y, this.view.zoom);
  }

  /** Zoom by a factor; what is at a place on the canvas stays there. */
  zoom(factor, left, top) {
    const zoom = Math.max(0.5, Math.min(200, this.view.zoom * factor));
    const share = 1 - this.view.zoom / zoom;
    const x = this.view.x + (share * (left - this.canvas.clientWidth / 2)) / this.scale;
    this.go(x, this.view.y + (share * (top - this.canvas.clientHeight / 2)) / this.scale, zoom);
  }

  choose(number) {
    if (number === this.current) return;
    this.current = number;
    this.redraw();
    this.listen.point(number, ...(number < 0 ? [0, 0] : this.onCanvas(this.x[number], this.y[number])));
  }
}

const distance = (first, second) => Math.hypot(first[0] - second[0], first[1] - second[1]);

const known = new Map();

/** Return red, green and blue of a colour of CSS. */
function channels(paint, colour) {
  if (!known.has(colour)) {
    paint.fillStyle = colour;
    const [, ...digits] = /^#(..)(..)(..)$/.exec(paint.fillStyle) ?? ["", "ff", "ff", "ff"];
    known.set(colour, digits.map((digit) => parseInt(digit, 16)));
  }
  return known.get(colour);
}

/** Return a colour mixed with the background, as a pixel of a picture (little endian). */
function packed(colour, back, share) {
  const [red, green, blue] = colour.map((value, place) => Math.round(back[place] + share * (value - back[place])));
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
