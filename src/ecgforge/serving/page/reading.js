// The reading room: a name, the sheets one by one, the result. The truth about a sheet is never sent here.

import { Answers } from "./answers.js";
import { element } from "./elements.js";
import { call, Problem } from "./service.js";
import { SheetView } from "./sheet.js";

const at = (id) => document.getElementById(id);
const KEPT = "ecgforge-reader"; // of this tab, for a reload; the next reader on this tablet gets another name
const VIEWS = ["shut", "enter", "again", "sheet", "end"];
const LETTERS = {
  y: ["shows_statements", "yes"], n: ["shows_statements", "no"], u: ["shows_statements", "?"],
  s: ["is_synthetic", "yes"], r: ["is_synthetic", "no"], x: ["is_synthetic", "?"],
};

const view = new SheetView(at("holder"), at("picture"));
let kit;
let answers;
let current = 0;

// ------------------------------------------------------------------------------------------------ coming

async function start() {
  try {
    kit = await call("/kit");
  } catch (problem) {
    if (problem.status !== 404) throw problem;
    show("shut");
    return;
  }
  at("sheets").textContent = `There are ${kit.sheets.length} ECGs.`;
  const name = sessionStorage.getItem(KEPT);
  if (name) await goOn(await call(`/kit/readers/${name}`));
  else askForName();
}

function askForName() {
  answers?.leave();
  answers = null;
  sessionStorage.removeItem(KEPT);
  at("name").value = "";
  at("who").textContent = "";
  show("enter");
  at("name").focus();
}

async function enter() {
  const reader = await call(`/kit/readers/${encodeURIComponent(at("name").value.trim())}`);
  const count = new Answers(reader).answeredCount();
  if (!count) {
    await goOn(reader);
    return;
  }
  const sheets = `${count} of ${kit.sheets.length} sheets`;
  at("again-text").textContent = `${reader.reader} has answered ${sheets}. If that was somebody else, take another name.`;
  at("go-on").onclick = () => attempt(() => goOn(reader));
  show("again");
  at("again").querySelector("h2").focus();
}

function goOn(reader) {
  sessionStorage.setItem(KEPT, reader.reader);
  answers = new Answers(reader, tellSaved);
  at("who").textContent = answers.reader;
  const open = answers.firstOpen();
  return open < 0 || answers.closed ? end() : showSheet(open);
}

function show(name) {
  for (const id of VIEWS) at(id).hidden = id !== name;
  document.body.classList.toggle("full", name === "sheet");
  at("leave").hidden = !answers;
  at("place").hidden = name !== "sheet";
}

// ------------------------------------------------------------------------------------------- the sheets

async function showSheet(index) {
  current = index;
  show("sheet");
  const { name, number, statements } = kit.sheets[index];
  at("sheet-title").textContent = `ECG ${name}`;
  at("shown-statements").replaceChildren(...statements.map(({ code, description, grade }) =>
    element("li", {}, element("span", { class: "code" }, code), ` ${description}`, grade < 1 ? ` (${grade})` : "")));
  at("remark").value = answers.rows[index].comment;
  at("back").disabled = index === 0;
  at("next").textContent = index + 1 < kit.sheets.length ? "Next →" : "To the end →";
  if (!answers.unsaved.size) at("saved").textContent = "";
  showAnswers();
  at("sheet-title").focus({ preventScroll: true });
  await view.show(number, `ECG ${name} on paper, said to show ${statements.map(({ code }) => code).join(", ")}`);
  if (index + 1 < kit.sheets.length) view.prepare(number + 1);
}

function showAnswers() {
  for (const button of document.querySelectorAll("#questions button")) {
    const question = button.parentElement.dataset.question;
    button.setAttribute("aria-pressed", answers.rows[current][question] === button.value);
  }
  at("position").value = `${current + 1} of ${kit.sheets.length}`;
  at("progress").max = kit.sheets.length;
  at("progress").value = answers.answeredCount();
  at("answered").textContent = `${answers.answeredCount()} answered`;
}

function answer(question, word) {
  if (answers.rows[current][question] !== word) answers.set(current, { [question]: word });
  showAnswers();
  if (answers.isAnswered(current)) at("next").focus({ preventScroll: true }); // Enter goes on
}

function keepRemark() {
  const comment = at("remark").value.trim();
  if (answers && comment !== answers.rows[current].comment) answers.set(current, { comment });
}

function move(step) {
  keepRemark();
  const index = current + step;
  if (index < 0) return;
  attempt(() => (index < kit.sheets.length ? showSheet(index) : end()));
}

function tellSaved(what) {
  const problem = what instanceof Problem;
  at("saved").textContent = problem ? "Not saved." : { saving: "Saving …", saved: "Saved." }[what];
  at("saved").classList.toggle("mark", problem);
  if (problem) tell(`Not saved yet: ${what.message}`);
  else if (what === "saved") at("problem").hidden = true;
}

// ---------------------------------------------------------------------------------------------- the end

async function end() {
  show("end");
  at("score").replaceChildren();
  at("look-again").hidden = answers.closed;
  at("finish").hidden = true;
  at("end-title").textContent = "The end";
  at("end-text").textContent = "";
  at("end-title").focus();
  if (answers.closed) {
    await showResult();
    return;
  }
  listSheets();
  const open = kit.sheets.length - answers.answeredCount();
  if (open) {
    at("end-title").textContent = `${open} of ${kit.sheets.length} sheets lack an answer`;
    at("end-text").textContent = "Choose one of those marked below; both questions need an answer, if need be “Cannot say”.";
    return;
  }
  at("end-title").textContent = "All sheets are answered";
  at("end-text").textContent = kit.scored
    ? "You can still change answers. Once the result was shown, they stay as they are."
    : "You can still change answers.";
  at("finish").hidden = !kit.scored;
  if (!kit.scored) await showResult();
}

function listSheets() {
  at("all-sheets").replaceChildren(...kit.sheets.map(({ name }, index) => {
    const open = !answers.isAnswered(index);
    const button = element("button", { type: "button", ...(open ? { class: "open" } : {}) }, name);
    button.setAttribute("aria-label", `ECG ${name}${open ? ", not answered" : ""}`);
    button.addEventListener("click", () => attempt(() => showSheet(index)));
    return element("li", {}, button);
  }));
}

async function showResult() {
  await answers.save();
  if (answers.unsaved.size) return; // the page says so
  const { file, command, tables, notes } = await call(`/kit/readers/${answers.reader}/result`, { method: "PUT" });
  const where = element("p", {}, "The answers are in ", element("code", {}, file), " on the machine that runs this service.");
  if (!tables.length) {
    const score = element("p", {}, "Whoever has the key scores them with:");
    at("score").replaceChildren(where, score, element("pre", {}, command));
    if (!answers.closed) return;
    at("end-title").textContent = "This reading has ended";
    at("end-text").textContent = "Its score was shown before, so the answers stay as they are.";
    return;
  }
  answers.closed = true;
  at("finish").hidden = at("look-again").hidden = true;
  at("end-title").textContent = "The result";
  at("end-text").textContent = "";
  at("score").replaceChildren(...tables.map(table), ...notes.map((text) => element("p", { class: "note" }, text)), where);
  at("end-title").focus();
}

function table({ title, columns, rows }) {
  const head = element("tr", {}, ...columns.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((text) => element("td", {}, text))));
  const made = element("table", {}, element("caption", {}, title), element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "table" }, made);
}

// ------------------------------------------------------------------------------------------- what is pressed

async function attempt(work) {
  at("problem").hidden = true;
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    tell(problem.message);
  }
}

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = false;
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(enter);
});
at("other-name").addEventListener("click", askForName);
at("leave").addEventListener("click", () => attempt(async () => {
  if (!at("sheet").hidden) keepRemark();
  await answers.save();
  if (!answers.unsaved.size || answers.closed) askForName();
}));
at("back").addEventListener("click", () => move(-1));
at("next").addEventListener("click", () => move(1));
at("finish").addEventListener("click", () => attempt(showResult));
at("remark").addEventListener("change", keepRemark);
at("larger").addEventListener("click", () => view.larger());
at("smaller").addEventListener("click", () => view.smaller());
at("fit").addEventListener("click", () => view.fit());
at("questions").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) answer(button.parentElement.dataset.question, button.value);
});

document.addEventListener("keydown", (event) => {
  if (at("sheet").hidden || at("token-dialog").open || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target === at("remark")) {
    if (event.key !== "Enter" && event.key !== "Escape") return;
    event.preventDefault();
    at("next").focus();
    return;
  }
  if (press(event)) event.preventDefault();
});

// Whether the key meant something here.
function press({ key, repeat, target }) {
  const letter = LETTERS[key.toLowerCase()];
  const scrolls = target === at("holder") && view.isLarge(); // arrow keys move the sheet
  if (letter) answer(...letter);
  else if (key === "ArrowRight" && !scrolls && !repeat) move(1);
  else if (key === "ArrowLeft" && !scrolls && !repeat) move(-1);
  else if (key === "Enter" && !repeat && target.tagName !== "BUTTON") enterPressed();
  else if (key === "+" || key === "=") view.larger();
  else if (key === "-") view.smaller();
  else if (key === "0") view.fit();
  else if (key.toLowerCase() === "c") at("remark").focus();
  else return key === "Enter" && repeat; // a key held down goes on once
  return true;
}

function enterPressed() {
  if (answers.isAnswered(current)) move(1);
  else at("saved").textContent = "Both questions need an answer; → goes on without.";
}

window.addEventListener("beforeunload", (event) => {
  if (answers?.unsaved.size && !answers.closed) event.preventDefault();
});

attempt(start);
