// The picture of a sheet: as large as fits, or larger and moved about. It has 10 pixels a millimetre of paper.

import { picture } from "./service.js";

const STEP = 1.25;
const LARGEST = 4; // times the size that fits
const PINCH = 300; // wheel units for a factor of e

export class SheetView {
  constructor(holder, image) {
    this.holder = holder;
    this.image = image;
    this.zoom = 1;
    this.loaded = new Map();
    image.addEventListener("load", () => this.#resize());
    new ResizeObserver(() => this.#resize()).observe(holder);
    holder.addEventListener("dblclick", (event) => this.#toggle(event));
    holder.addEventListener("pointerdown", (event) => this.#begin(event));
    holder.addEventListener("pointermove", (event) => this.#drag(event));
    for (const end of ["pointerup", "pointercancel"]) holder.addEventListener(end, () => { this.from = null; });
    holder.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  async show(number, text) {
    this.wanted = number;
    const address = await this.#address(number);
    if (this.wanted !== number) return; // the reader has gone on
    this.image.src = address;
    this.image.alt = text;
    this.holder.scrollTo(0, 0);
  }

  // So that the next sheet is there at once.
  prepare(number) {
    this.#address(number).catch(() => this.loaded.delete(number));
  }

  larger() {
    this.zoomTo(this.zoom * STEP);
  }

  smaller() {
    this.zoomTo(this.zoom / STEP);
  }

  fit() {
    this.zoomTo(1);
  }

  // The point stays where it is on the screen; by default the middle.
  zoomTo(zoom, point) {
    const before = this.image.getBoundingClientRect();
    if (!before.width) return;
    const seen = this.holder.getBoundingClientRect();
    const [x, y] = point ?? [seen.left + seen.width / 2, seen.top + seen.height / 2];
    const share = [(x - before.left) / before.width, (y - before.top) / before.height];
    this.zoom = Math.min(Math.max(zoom, 1), LARGEST);
    this.#resize();
    const after = this.image.getBoundingClientRect();
    this.holder.scrollBy(after.left + share[0] * after.width - x, after.top + share[1] * after.height - y);
  }

  isLarge() {
    return this.zoom > 1;
  }

  async #address(number) {
    if (!this.loaded.has(number)) this.loaded.set(number, picture(`/kit/sheets/${number}/picture`));
    try {
      return await this.loaded.get(number);
    } catch (problem) {
      this.loaded.delete(number); // asked for again the next time
      throw problem;
    }
  }

  #resize() {
    const { naturalWidth: width, naturalHeight: height } = this.image;
    if (!width || !this.holder.clientWidth) return;
    // Not clientWidth: that changes when scroll bars come, and the size with it.
    const scale = this.zoom * Math.min((this.holder.offsetWidth - 2) / width, (this.holder.offsetHeight - 2) / height);
    this.image.style.width = `${Math.floor(scale * width)}px`;
    this.image.style.height = `${Math.floor(scale * height)}px`;
  }

  #toggle(event) {
    this.zoomTo(this.isLarge() ? 1 : 2, [event.clientX, event.clientY]);
  }

  // A finger moves the sheet by itself, a mouse does not.
  #begin(event) {
    if (event.pointerType !== "mouse" || event.button !== 0 || !this.isLarge()) return;
    this.holder.setPointerCapture(event.pointerId);
    this.from = [event.clientX, event.clientY];
  }

  #drag(event) {
    if (!this.from) return;
    this.holder.scrollBy(this.from[0] - event.clientX, this.from[1] - event.clientY);
    this.from = [event.clientX, event.clientY];
  }

  #wheel(event) {
    if (!event.ctrlKey) return; // also what a touch pad sends for a pinch
    event.preventDefault();
    this.zoomTo(this.zoom * Math.exp(-event.deltaY / PINCH), [event.clientX, event.clientY]);
  }
}
