// The explanation of one box and class: its score as a sum of attributions, by level and by cell, and its positions.

import { attributionColor, paintHeat } from "./colors.js";
import { byId, element, number, percent } from "./elements.js";
import { binWindows } from "./how.js";

const sum = (rows) => rows.flat().reduce((total, value) => total + value, 0);

// With a `viewer`, show how: its image gets the cells and bins, and the panel what the box suppressed.
export function showAttribution(explanation, canvas, viewer = null) {
  const question = explanation.outcome === "found" ? "Why" : "Why not";
  const chance = explanation.probability === undefined ? "" : ` (${percent(explanation.probability)})`;
  byId("explanation-title").textContent = `${question} ${explanation.label}${chance}?`;
  byId("explanation-body").replaceChildren(
    element("div", { class: "part" }, crop(explanation, canvas), legend(), balance(explanation)),
    element("div", { class: "part" }, ...grids(explanation, viewer), ...details(explanation)),
    ...(viewer ? [element("div", { class: "part" }, ...story(explanation, viewer))] : []),
  );
}

export function showWaiting(label) {
  byId("explanation").hidden = false;
  byId("explanation-title").textContent = `Explanation of ${label}`;
  byId("explanation-body").replaceChildren(element("p", { class: "help" }, "Computing the attributions …"));
}

export function showError(line) {
  byId("explanation-body").replaceChildren(element("p", { class: "error" }, line));
}

// The box cut out of the image, with its heat map over it.
function crop({ box, heat }, image) {
  const [x1, y1, x2, y2] = box;
  const size = { width: Math.max(1, Math.round(x2 - x1)), height: Math.max(1, Math.round(y2 - y1)) };
  const below = element("canvas", { ...size, class: "image", role: "img", "aria-label": "The box, with the regions for and against the class" });
  const above = element("canvas", { ...size, "aria-hidden": "true" });
  below.getContext("2d").drawImage(image, -x1, -y1);
  const layer = document.createElement("canvas");
  paintHeat(layer, heat);
  above.getContext("2d").drawImage(layer, -x1, -y1, image.width, image.height);
  return element("div", { class: "crop" }, below, above);
}

function legend() {
  return element("p", { class: "legend" }, element("span", { class: "for" }, "for"), element("span", { class: "against" }, "against"));
}

// Bias and levels as a balance: each bar begins where the one above it ended.
function balance({ bias, levels, score }) {
  const rows = [["Bias", bias]];
  for (const level of Object.keys(levels).map(Number).sort((a, b) => b - a)) rows.push([`${level} × ${level}`, sum(levels[level])]);
  const ends = rows.reduce((list, [, value]) => [...list, list.at(-1) + value], [0]);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const at = (value) => (value - low) / (high - low || 1);
  const list = element("dl", { class: "attributions" });
  const row = (name, from, to, extra = "") => {
    const part = element("i", { class: to < from ? "against" : "for" });
    part.style.left = `${100 * at(Math.min(from, to))}%`;
    part.style.width = `${100 * Math.abs(at(to) - at(from))}%`;
    const track = element("div", { class: "balance", "aria-hidden": "true" }, part);
    track.style.setProperty("--zero", `${100 * at(0)}%`);
    list.append(element("dt", { class: extra }, name), element("div", { class: extra }, track), element("dd", { class: extra }, number(to - from)));
  };
  rows.forEach(([name, value], i) => row(name, ends[i], ends[i] + value));
  row("Score", 0, score, "total");
  return list;
}

// A table of attributions by cell, and a switch for the level.
function grids({ levels, positions }, viewer) {
  const names = Object.keys(levels).map(Number).sort((a, b) => b - a);
  const table = element("table", { class: "grid" });
  const strongest = Math.max(...names.flatMap((level) => levels[level].flat().map(Math.abs)), 1e-9);
  const draw = (level) => {
    const rows = levels[level].map((row) => element("tr", {}, ...row.map((value) => cell(value, strongest))));
    table.replaceChildren(element("caption", {}, `Attribution of each of the ${level} × ${level} bins`), element("tbody", {}, ...rows));
    viewer?.drawCells(positions[0], binWindows(positions[0].cells, level));
  };
  const choices = names.map((level) => {
    const input = element("input", { type: "radio", name: "level", value: level });
    input.checked = level === names[0];
    input.addEventListener("change", () => draw(level));
    return element("label", {}, input, element("span", {}, `${level} × ${level}`));
  });
  draw(names[0]);
  return [element("fieldset", { class: "segments levels" }, element("legend", { class: "unseen" }, "Level of the pyramid"), ...choices), table];
}

function cell(value, strongest) {
  const node = element("td", {}, number(value));
  node.style.background = attributionColor(value / strongest, 0.6);
  return node;
}

// How the box was pooled and, of a detection, which boxes lost against it.
function story({ positions, suppressed, label, refined }, viewer) {
  const isDetection = refined === undefined;
  const [{ cells: [x1, y1, x2, y2], short_side: shortSide }] = positions;
  const pooled = `At ${shortSide} pixels, the ${isDetection ? "proposed box" : "box"} covers ${x2 - x1} × ${y2 - y1} cells of the feature map. They are
    drawn in the image, with the bins of the level chosen above. A bin keeps the largest value of its cells.`;
  const lost = suppressed.map(({ box, score, iou }) => {
    const text = `score ${number(score)}, IoU ${iou.toFixed(2)}`;
    const button = element("button", { type: "button", class: "link", "aria-label": `Show the box with ${text}` }, text);
    for (const type of ["pointerenter", "focus", "click"]) button.addEventListener(type, () => viewer.mark(null, box));
    for (const type of ["pointerleave", "blur"]) button.addEventListener(type, () => viewer.mark(null, null));
    return element("li", {}, button);
  });
  const from = [element("h3", {}, "From the box to bins"), element("p", { class: "help" }, pooled)];
  if (!isDetection) return from;
  const suppression = lost.length
    ? [element("p", { class: "help" }, `Suppressed boxes of ${label}. Each overlaps this one, which has a better score:`), element("ol", { class: "lost" }, ...lost)]
    : [element("p", { class: "help" }, "No other box lost against this one.")];
  return [...from, element("h3", {}, "Suppression"), ...suppression];
}

// The diagnosis, and the positions whose mean is the score.
function details({ sentence, positions }) {
  const rows = positions.map(({ short_side: shortSide, cells: [x1, y1, x2, y2], score }) => {
    const where = `${x2 - x1} × ${y2 - y1} cells, ${x1} to ${x2} across, ${y1} to ${y2} down`;
    return element("li", {}, `${number(score)} at ${shortSide} pixels: ${where}`);
  });
  const title = positions.length === 1 ? "Where it was pooled" : `The mean of ${positions.length} positions`;
  const node = element("details", {}, element("summary", {}, title), element("ol", {}, ...rows));
  return [...(sentence ? [element("p", { class: "sentence" }, sentence)] : []), node];
}
