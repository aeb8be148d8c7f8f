// The page: what is asked for on the left, what came of it on the right.

import { Calipers } from "./calipers.js";
import { Choice, StatementList, percent } from "./choice.js";
import { element, oneTabStop } from "./elements.js";
import { drawPaper, drawThumb } from "./paper.js";
import { call, download, Problem } from "./service.js";

const at = (id) => document.getElementById(id);
const ASK_AGAIN_MS = 400;
const ZOOM_STEP = 1.25;
const SHARES_OF_A = [1, 0.75, 0.5, 0.25, 0];
const FACTS = { age: "age", sex: "sex", heart_rate: "heart-rate" }; // name in the service: id here
const FILE_NAMES = {
  wfdb: "WFDB", csv: "CSV", npz: "NumPy npz", edf: "EDF+", dicom: "DICOM", aecg: "HL7 aECG", parquet: "Parquet",
};

const order = at("order");
const calipers = new Calipers(at("paper"), at("measured"));
const retabVariants = oneTabStop(at("variants"), "button");
let model;
let choices; // { a, b }
let list;
let run = null; // { id, kind, facts, statements, records }
let shown = 0;
let zoom = null; // CSS pixels a mm; null fits the width

// ------------------------------------------------------------------------------------------------ start

async function start() {
  const [about, statements] = await Promise.all([call("/models"), call("/statements")]);
  [model] = about.models;
  at("model").textContent = `Model ${model.name}${model.trained_on ? `, trained on ${model.trained_on}` : ""}.`;
  at("number").max = about.limits.records;
  offerFacts();
  offerSamplers();
  const files = about.file_formats.map((name) => option(name, FILE_NAMES[name] ?? name));
  const pictures = about.picture_formats.map((name) => option(name, `${name.toUpperCase()} picture`));
  at("format").append(group("Files", files), group("Pictures of this ECG", pictures));
  at("convert-format").append(...about.file_formats.map((name) => option(name, FILE_NAMES[name] ?? name)));
  const known = statements.filter((entry) => entry.known_to_model);
  const names = new Map(known.map((entry) => [entry.code, entry.description]));
  choices = Object.fromEntries(["a", "b"].map((key) => [key, new Choice(at(`choice-${key}`), names, showChoice)]));
  list = new StatementList(at("statements"), at("search"), at("found"), known, toggle);
  for (const [key, codes] of [["a", ["NORM", "SR"]], ["b", ["CLBBB", "SR"]]]) {
    codes.filter((code) => names.has(code)).forEach((code) => choices[key].set(code, 1));
  }
}

function offerFacts() {
  const strange = Object.keys(FACTS).filter((fact) => !model.facts.includes(fact));
  for (const fact of strange) at(FACTS[fact]).disabled = true;
  const names = strange.map((fact) => fact.replace("_", " "));
  if (names.length === Object.keys(FACTS).length) {
    at("facts-hint").textContent = "This model knows statements only, no age, sex or heart rate.";
  } else if (names.length) {
    at("facts-hint").textContent += ` This model cannot be asked for ${names.join(" and ")}.`;
  }
}

function offerSamplers() {
  at("sampler").append(...Object.keys(model.samplers).map((name) => option(name, name)));
  for (const label of order.querySelectorAll(".sampling")) label.hidden = !Object.keys(model.samplers).length;
  const showSteps = () => { at("steps").placeholder = model.samplers[at("sampler").value] ?? "model’s own"; };
  at("sampler").addEventListener("change", showSteps);
  showSteps();
}

function option(value, text) {
  return element("option", { value }, text);
}

function group(label, options) {
  return element("optgroup", { label }, ...options);
}

// ---------------------------------------------------------------------------------------------- choosing

function kind() {
  return order.elements.kind.value;
}

function target() {
  return kind() === "samples" ? choices.a : choices[order.elements.target.value];
}

function toggle(code, wanted) {
  if (wanted) target().set(code, 1);
  else target().remove(code);
}

function showChoice() {
  list?.show(target());
}

function showKind() {
  const two = kind() === "interpolation";
  at("choice-b").hidden = at("target").hidden = !two;
  at("number").disabled = two;
  at("title-a").textContent = two ? "A" : "Statements";
  showChoice();
}

for (const radio of order.querySelectorAll("input[type=radio]")) radio.addEventListener("change", showKind);

// ------------------------------------------------------------------------------------------------ a job

// What is not said is not sent, and left to the model.
function said(id) {
  const { disabled, value, type } = at(id);
  if (disabled || value === "") return undefined;
  return type === "number" ? Number(value) : value;
}

function facts() {
  return Object.fromEntries(Object.entries(FACTS).map(([fact, id]) => [fact, said(id)]));
}

function request() {
  const sampling = { seed: said("seed"), sampler: said("sampler"), steps: said("steps"), ...facts() };
  if (kind() === "interpolation") {
    return { kind: kind(), a: choices.a.asked(), b: choices.b.asked(), grades: SHARES_OF_A, ...sampling };
  }
  return { kind: kind(), statements: choices.a.asked(), n: said("number"), ...sampling };
}

function factsInWords({ age, sex, heart_rate: rate }) {
  return [age !== undefined && `${age} years`, sex, rate && `${rate} beats per minute`].filter(Boolean);
}

async function generate() {
  for (const choice of kind() === "interpolation" ? [choices.a, choices.b] : [choices.a]) {
    if (!choice.grades.size) throw new Problem("Choose at least one statement from the list.");
  }
  const wanted = request();
  at("generate").disabled = true;
  let job;
  try {
    job = await call("/jobs", { method: "POST", json: wanted });
  } finally {
    at("generate").disabled = false;
  }
  const current = { id: job.id, kind: wanted.kind, facts: factsInWords(wanted), statements: job.statements, records: [] };
  run = current;
  shown = 0;
  at("variants").replaceChildren();
  at("between").hidden = wanted.kind !== "interpolation";
  at("shown").hidden = true;
  at("empty").hidden = false;
  busy(true);
  try {
    await follow(current, job);
  } finally {
    if (current === run) busy(false); // else the next job has begun
  }
}

async function follow(current, job) {
  while (current === run) {
    at("progress").value = job.progress;
    while (current.records.length < job.records_done) {
      const index = current.records.length;
      const record = await call(`/jobs/${current.id}/records/${index}`);
      if (current !== run) return;
      current.records.push(record);
      addVariant(record, index);
    }
    say(inWords(job));
    if (["done", "cancelled", "failed"].includes(job.state)) {
      if (job.state === "failed") throw new Problem(`Sampling failed: ${job.reason}`);
      return;
    }
    await new Promise((resolve) => { setTimeout(resolve, ASK_AGAIN_MS); });
    job = await call(`/jobs/${current.id}`);
  }
}

function inWords(job) {
  const ready = `${job.records_done} of ${job.statements.length} ECGs`;
  if (job.state === "queued") return `Waiting for ${job.jobs_before} other job${job.jobs_before === 1 ? "" : "s"}.`;
  return { running: `Sampling: ${ready}.`, done: `Done: ${ready}.`, cancelled: `Cancelled: ${ready}.` }[job.state] ?? "";
}

function busy(yes) {
  at("generate").disabled = yes;
  at("cancel").hidden = at("progress").hidden = !yes;
  at("cancel").disabled = false;
}

function say(text) {
  if (at("state").textContent !== text) at("state").textContent = text; // read out only when it changes
}

// Runs what a button asks for; what goes wrong is told beside it.
async function attempt(work) {
  at("problem").hidden = true;
  try {
    await work();
  } catch (problem) {
    if (!(problem instanceof Problem)) console.error(problem);
    at("problem").textContent = problem.message;
    at("problem").hidden = false;
    at("problem").scrollIntoView({ block: "nearest" });
  }
}

order.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!at("generate").disabled) attempt(generate);
});
at("cancel").addEventListener("click", () => {
  at("cancel").disabled = true;
  attempt(() => call(`/jobs/${run.id}`, { method: "DELETE" }));
  at("generate").disabled = false;
  at("generate").focus();
});

// ----------------------------------------------------------------------------------------------- showing

function addVariant(record, index) {
  const name = run.kind === "interpolation" ? shareOf(index) : `ECG ${index + 1}`;
  const button = element("button", { type: "button", tabindex: -1 }, drawThumb(record), name);
  button.addEventListener("click", () => show(index));
  button.addEventListener("focus", () => { if (shown !== index) show(index); });
  at("variants").append(element("li", {}, button));
  retabVariants();
  if (index === 0) {
    at("shown").hidden = false;
    at("empty").hidden = true;
    show(0);
    if (at("result").getBoundingClientRect().top > window.innerHeight / 2) at("result").scrollIntoView();
  }
  at("share").max = Math.max(index, 1);
}

function shareOf(index) {
  return `A ${percent(SHARES_OF_A[index])}, B ${percent(1 - SHARES_OF_A[index])}`;
}

function show(index) {
  shown = Math.min(index, run.records.length - 1);
  [...at("variants").querySelectorAll("button")].forEach((button, number) => {
    button.setAttribute("aria-current", number === shown);
    if (number === shown) button.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  at("share").value = shown;
  at("share-text").value = run.kind === "interpolation" ? shareOf(shown) : "";
  at("share").setAttribute("aria-valuetext", at("share-text").value);
  draw();
}

function draw() {
  const record = run?.records[shown];
  if (!record) return;
  const { page, width, height } = drawPaper(record, at("layout").value, at("lead").value);
  at("paper").replaceChildren(page);
  calipers.putOn(page, width, height);
  const scale = zoom ?? Math.max((at("paper").clientWidth - 2) / width, 2.2);
  page.setAttribute("width", scale * width);
  page.setAttribute("height", scale * height);
  const statements = Object.entries(record.statements).map(([code, grade]) => (grade < 1 ? `${code} ${percent(grade)}` : code));
  at("caption").textContent = `${record.record_id}: asked for ${[...statements, ...run.facts].join(", ")}; seed ${record.seed}, record ${record.index}`;
}

const LEADS = ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"];
at("lead").append(...LEADS.map((lead) => option(lead, lead)));
at("lead").value = "II";
at("lead").addEventListener("change", () => {
  calipers.clear();
  draw();
});
at("layout").addEventListener("change", () => {
  calipers.clear();
  at("lead-label").hidden = at("layout").value !== "single";
  draw();
});
at("share").addEventListener("input", () => show(Number(at("share").value)));
at("calipers").addEventListener("click", () => {
  calipers.switch(!calipers.on);
  at("calipers").setAttribute("aria-pressed", calipers.on);
});

function zoomTo(scale) {
  zoom = scale && Math.min(Math.max(scale, 1), 24);
  draw();
}

const zoomBy = (factor) => zoomTo(factor * (at("paper").firstChild.width.baseVal.value / at("paper").firstChild.viewBox.baseVal.width));
at("larger").addEventListener("click", () => zoomBy(ZOOM_STEP));
at("smaller").addEventListener("click", () => zoomBy(1 / ZOOM_STEP));
at("fit").addEventListener("click", () => zoomTo(null));
at("true-size").addEventListener("click", () => zoomTo(96 / 25.4));
at("paper").addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey) return;
  if (event.key === "+") zoomBy(ZOOM_STEP);
  if (event.key === "-") zoomBy(1 / ZOOM_STEP);
});
window.addEventListener("resize", () => { if (zoom === null) draw(); });

// ------------------------------------------------------------------------------------------------- files

function fileAddress() {
  const format = at("format").value;
  const picture = at("format").selectedOptions[0].parentElement.label.startsWith("Pictures");
  if (!picture && at("scope").value === "all") return `/jobs/${run.id}/file?format=${format}`;
  const layout = at("layout").value === "single" ? "3x4" : at("layout").value;
  const record = `/jobs/${run.id}/records/${shown}`;
  return picture ? `${record}/plot?format=${format}&layout=${layout}` : `${record}/file?format=${format}`;
}

at("downloads").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => say(`Saved ${await download(fileAddress())}.`));
});
at("convert").addEventListener("submit", (event) => {
  event.preventDefault();
  const body = new FormData();
  for (const file of at("files").files) body.append("files", file);
  const path = `/convert?format=${at("convert-format").value}`;
  attempt(async () => say(`Saved ${await download(path, { method: "POST", body })}.`));
});

attempt(start);
