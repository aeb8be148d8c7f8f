// An ECG on paper: everything in millimetres, 25 mm a second and 10 mm a millivolt. Each lead lies with its median
// on the baseline; nothing else is done to the signal.

import { svg } from "./elements.js";

export const SPEED = 25; // mm a second
export const GAIN = 10; // mm a millivolt

const LAYOUTS = {
  "3x4": [["I", "aVR", "V1", "V4"], ["II", "aVL", "V2", "V5"], ["III", "aVF", "V3", "V6"], ["II"]],
  "12x1": ["I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6"].map((lead) => [lead]),
};
const BOX = 5;
const LEFT = 15; // calibration pulse and a box either side of it
const CUT = 40; // no trace goes further from its baseline
const CLEAR = 2;
const NAME_ABOVE = 6;

export function drawPaper(record, layout, lead) {
  const rows = (LAYOUTS[layout] ?? [[lead]]).map((names) => panels(record, names));
  const seconds = record.signal_mv[0].length / record.rate_hz;
  const width = boxes(LEFT + seconds * SPEED) + BOX;
  const baselines = placed(rows);
  const bottom = Math.max(...rows.at(-1).map((panel) => -panel.lowest));
  const height = boxes(baselines.at(-1) + Math.max(bottom + CLEAR, 10)) + BOX;
  const page = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": described(record, layout, lead) });
  page.append(grid(width, height - BOX));
  rows.forEach((row, number) => {
    page.append(pulse(baselines[number]));
    row.forEach((panel) => page.append(...drawn(panel, baselines[number], record.rate_hz)));
  });
  page.append(...footer(record, width, height));
  return { page, width, height };
}

export function drawThumb(record, lead = "II") {
  const samples = median0(record.signal_mv[record.leads.indexOf(lead)]).slice(0, 5 * record.rate_hz);
  const points = samples.map((value, at) => `${((100 * at) / samples.length).toFixed(1)},${limited(-12 * value, 20).toFixed(1)}`);
  return svg("svg", { viewBox: "0 -22 100 40", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("polyline", { class: "thumb", points: points.join(" ") }));
}

// One lead over its share of the time, in mm above the baseline.
function panels(record, names) {
  const length = record.signal_mv[0].length;
  return names.map((name, column) => {
    const [start, stop] = [column, column + 1].map((edge) => Math.round((edge * length) / names.length));
    const whole = median0(record.signal_mv[record.leads.indexOf(name)]);
    const trace = whole.slice(start, stop).map((value) => limited(GAIN * value, CUT));
    const first = trace.slice(0, Math.round((9 / SPEED) * record.rate_hz));
    const nameAt = Math.max(NAME_ABOVE, Math.max(...first) + 1.5);
    return { name, start, trace, nameAt, highest: Math.max(...trace, nameAt + 3, GAIN), lowest: Math.min(...trace, 0) };
  });
}

// Baselines from the top, on lines of the grid, so that no two rows collide.
function placed(rows) {
  const highest = (row) => Math.max(...row.map((panel) => panel.highest));
  const baselines = [boxes(highest(rows[0]) + CLEAR)];
  for (let at = 1; at < rows.length; at += 1) {
    const needed = rows[at].flatMap((panel) => rows[at - 1].filter((other) => meet(panel, other)).map((other) => panel.highest - other.lowest));
    baselines.push(baselines.at(-1) + Math.max(boxes(Math.max(...needed) + CLEAR), rows.length > 6 ? 15 : 20));
  }
  return baselines;
}

function meet(panel, other) {
  return panel.start < other.start + other.trace.length && other.start < panel.start + panel.trace.length;
}

function grid(width, height) {
  const lines = (step) => {
    const path = [];
    for (let x = 0; x <= width; x += step) path.push(`M${x} 0V${height}`);
    for (let y = 0; y <= height; y += step) path.push(`M0 ${y}H${width}`);
    return path.join("");
  };
  return svg("g", {}, svg("path", { class: "fine", d: lines(1) }), svg("path", { class: "box", d: lines(BOX) }));
}

function pulse(baseline) {
  return svg("path", { class: "pulse", d: `M2.5 ${baseline}h2.5v${-GAIN}h5v${GAIN}h2.5` });
}

function drawn(panel, baseline, rate) {
  const x = (at) => (LEFT + ((panel.start + at) / rate) * SPEED).toFixed(2);
  const points = panel.trace.map((value, at) => `${x(at)},${(baseline - value).toFixed(2)}`);
  const name = svg("text", { class: "name", x: Number(x(0)) + 1, y: baseline - panel.nameAt }, panel.name);
  const edge = panel.start ? [svg("path", { class: "trace", d: `M${x(0)} ${baseline - 4}v8` })] : [];
  return [svg("polyline", { class: "trace", "data-lead": panel.name, points: points.join(" ") }), name, ...edge];
}

function footer(record, width, height) {
  const scale = `${SPEED} mm/s · ${GAIN} mm/mV · ${record.rate_hz} Hz · no filter`;
  const marked = svg("text", { class: "small mark", x: width - 2, y: height - 1.5, "text-anchor": "end" }, "SYNTHETIC ECG");
  return [svg("text", { class: "small", x: 2, y: height - 1.5 }, scale), ...(record.synthetic ? [marked] : [])];
}

function described(record, layout, lead) {
  const what = layout === "single" ? `lead ${lead}` : `12 leads, ${layout}`;
  return `Synthetic ECG, ${what}, asked for ${Object.keys(record.statements).join(", ")}`;
}

function median0(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = (sorted[Math.floor((sorted.length - 1) / 2)] + sorted[Math.ceil((sorted.length - 1) / 2)]) / 2;
  return samples.map((value) => value - middle);
}

function limited(value, most) {
  return Math.min(Math.max(value, -most), most);
}

function boxes(length) {
  return BOX * Math.ceil(length / BOX - 1e-6);
}
