// A reader's answers: what is on the page, and what of it the service has. Each is sent as soon as it is given; what
// could not be sent stays here and is sent again.

import { call, Problem } from "./service.js";

const AGAIN_MS = 3000;

export class Answers {
  constructor({ reader, answers, closed }, told) {
    this.reader = reader;
    this.rows = answers;
    this.closed = closed; // the score was shown; the service takes no more answers
    this.told = told; // called with "saving", with "saved" when nothing is left to save, or with a Problem
    this.unsaved = new Set();
    this.sending = null;
    this.left = false;
  }

  isAnswered(index) {
    return Boolean(this.rows[index].shows_statements && this.rows[index].is_synthetic);
  }

  answeredCount() {
    return this.rows.filter((_, index) => this.isAnswered(index)).length;
  }

  firstOpen() {
    return this.rows.findIndex((_, index) => !this.isAnswered(index));
  }

  set(index, change) {
    this.rows[index] = { ...this.rows[index], ...change };
    this.unsaved.add(index);
    this.told("saving");
    return this.save();
  }

  // One request at a time, so that the last answer given is the last one saved.
  save() {
    this.sending ??= this.#sendAll().finally(() => { this.sending = null; });
    return this.sending;
  }

  // Another reader comes: nothing more is sent under this name.
  leave() {
    this.left = true;
  }

  async #sendAll() {
    try {
      while (this.unsaved.size) {
        const [index] = this.unsaved;
        const row = this.rows[index];
        await call(`/kit/readers/${this.reader}/answers/${index + 1}`, { method: "PUT", json: row });
        if (this.rows[index] === row) this.unsaved.delete(index);
      }
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      const hopeless = problem.status >= 400 && problem.status < 500;
      if (!hopeless) setTimeout(() => { if (!this.left) this.save(); }, AGAIN_MS);
      this.told(problem);
      return;
    }
    this.told("saved");
  }
}
