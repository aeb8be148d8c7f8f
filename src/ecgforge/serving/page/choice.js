// A set of statements with a slider for the grade of each, and the list to choose from.

import { element, oneTabStop } from "./elements.js";

const STEP = 0.05;

export class Choice {
  constructor(section, names, changed) {
    this.title = section.querySelector("h2");
    this.list = section.querySelector(".grades");
    this.grades = new Map();
    this.names = names;
    this.changed = changed;
  }

  set(code, grade) {
    if (!this.grades.has(code)) this.list.append(this.#row(code, grade));
    this.grades.set(code, grade);
    this.changed();
  }

  remove(code) {
    this.grades.delete(code);
    [...this.list.children].find((row) => row.dataset.code === code)?.remove();
    this.changed();
  }

  asked() {
    return Object.fromEntries(this.grades);
  }

  #row(code, grade) {
    const id = `${this.title.id}-${code.replace(/\W/g, "-")}`;
    const label = element("label", { for: id }, element("span", { class: "code" }, code), ` ${this.names.get(code)}`);
    const slider = element("input", { type: "range", id, min: STEP, max: 1, step: STEP, value: grade });
    const output = element("output", { for: id }, percent(grade));
    const remove = element("button", { type: "button", "aria-label": `Remove ${code}`, title: "Remove" }, "×");
    slider.setAttribute("aria-valuetext", percent(grade));
    slider.addEventListener("input", () => {
      this.grades.set(code, Number(slider.value));
      output.value = percent(slider.value);
      slider.setAttribute("aria-valuetext", percent(slider.value));
    });
    remove.addEventListener("click", () => {
      this.remove(code);
      (this.list.querySelector("button") ?? document.getElementById("search")).focus();
    });
    return element("li", { "data-code": code }, label, slider, output, remove);
  }
}

export function percent(grade) {
  return `${Math.round(100 * grade)} %`;
}

export class StatementList {
  constructor(list, search, found, statements, toggled) {
    this.found = found;
    this.rows = statements.map((entry) => {
      const box = element("input", { type: "checkbox", value: entry.code });
      box.addEventListener("change", () => toggled(entry.code, box.checked));
      const text = element("span", {}, entry.description);
      const label = element("label", {}, box, element("span", { class: "code" }, entry.code), text);
      const words = `${entry.code} ${entry.description} ${entry.subclass} ${entry.superclass}`.toLowerCase();
      return { box, words, item: element("li", {}, label) };
    });
    list.append(...this.rows.map((row) => row.item));
    this.retab = oneTabStop(list, "input");
    search.addEventListener("input", () => this.#filter(search.value));
    search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") {
        event.preventDefault();
        this.rows.find((row) => !row.item.hidden)?.box.focus();
      }
      if (event.key === "Enter") event.preventDefault(); // a search is no order
    });
    this.#filter("");
  }

  show(choice) {
    for (const row of this.rows) row.box.checked = choice.grades.has(row.box.value);
  }

  #filter(text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of this.rows) row.item.hidden = !words.every((word) => row.words.includes(word));
    const count = this.rows.filter((row) => !row.item.hidden).length;
    this.found.textContent = words.length ? `${count} of ${this.rows.length} statements` : `${count} statements`;
    this.retab();
  }
}
