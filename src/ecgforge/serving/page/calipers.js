// Calipers: a rectangle on the paper whose width is a time and whose height is a voltage.

import { svg } from "./elements.js";
import { GAIN, SPEED } from "./paper.js";

const STEP = 0.25; // mm: 10 ms, 0.025 mV
const FAR = 5;
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Calipers {
  constructor(holder, output) {
    this.holder = holder;
    this.output = output;
    this.ends = null; // two points in mm; the last one is the one that moves
    this.both = false;
    this.on = true;
    holder.addEventListener("pointerdown", (event) => this.#begin(event));
    holder.addEventListener("pointermove", (event) => this.#drag(event));
    holder.addEventListener("pointerup", () => { this.dragging = false; });
    holder.addEventListener("pointercancel", () => { this.dragging = false; });
    holder.addEventListener("keydown", (event) => this.#key(event));
  }

  // The page under the calipers was drawn anew; a measurement stays where it was, if it is still on it.
  putOn(page, width, height) {
    this.page = page;
    this.size = [width, height];
    this.mark = svg("g", { "aria-hidden": "true" });
    page.append(this.mark);
    if (this.ends?.some(([x, y]) => x > width || y > height)) this.ends = null;
    this.switch(this.on);
  }

  switch(on) {
    this.on = on;
    if (!on) this.ends = null;
    this.page?.classList.toggle("measuring", on);
    this.#show();
  }

  clear() {
    this.ends = null;
    this.#show();
  }

  #begin(event) {
    if (!this.on || event.button !== 0 || !this.page?.contains(event.target)) return;
    event.preventDefault();
    this.holder.focus({ preventScroll: true });
    this.holder.setPointerCapture(event.pointerId);
    this.dragging = true;
    this.ends = [this.#point(event), this.#point(event)];
    this.#show();
  }

  #drag(event) {
    if (!this.dragging) return;
    this.ends[1] = this.#point(event);
    this.#show();
  }

  #key(event) {
    if (!this.on || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key in MOVES) this.#move(MOVES[event.key], event.shiftKey ? FAR * STEP : STEP);
    else if (event.key === " " && this.ends) this.ends.reverse();
    else if (event.key.toLowerCase() === "m" && this.ends) this.both = !this.both;
    else if (event.key === "Escape") this.ends = null;
    else return;
    event.preventDefault();
    this.#show();
  }

  #move([right, down], step) {
    this.ends ??= this.#middle();
    for (const end of this.both ? this.ends : [this.ends[1]]) {
      end[0] = Math.min(Math.max(end[0] + right * step, 0), this.size[0]);
      end[1] = Math.min(Math.max(end[1] + down * step, 0), this.size[1]);
    }
  }

  // In the middle of what can be seen, on a corner of the grid.
  #middle() {
    const seen = this.holder.getBoundingClientRect();
    const at = this.#point({ clientX: seen.left + seen.width / 2, clientY: seen.top + seen.height / 2 });
    const corner = at.map((value) => 5 * Math.round(value / 5));
    return [[...corner], [...corner]];
  }

  #point(event) {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.page.getScreenCTM().inverse());
    return [Math.min(Math.max(at.x, 0), this.size[0]), Math.min(Math.max(at.y, 0), this.size[1])];
  }

  #show() {
    this.mark?.replaceChildren();
    this.output.value = this.ends ? measured(...this.ends) : "";
    if (!this.ends || !this.mark) return;
    const [[x0, y0], [x1, y1]] = this.ends;
    this.mark.append(
      svg("rect", { class: "caliper", x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0), height: Math.abs(y1 - y0) }),
      svg("circle", { class: "caliper-end", cx: x1, cy: y1, r: 0.8 }),
    );
  }
}

// From the first end to the second: up is positive.
function measured([x0, y0], [x1, y1]) {
  const ms = Math.round((1000 * Math.abs(x1 - x0)) / SPEED);
  const mv = (y0 - y1) / GAIN;
  const rate = ms >= 200 ? ` (${Math.round(60000 / ms)}/min)` : "";
  return `${ms} ms${rate}, ${mv < 0 ? "−" : ""}${Math.abs(mv).toFixed(2)} mV`;
}
