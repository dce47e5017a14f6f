// The results next to the image: threshold, classes, the list of detections, and times.

import { classColor, css } from "./colors.js";
import { bar, byId, confidence, element, number } from "./elements.js";
import { model } from "./model.js";

const TIME_COLORS = ["#0f8a92", "#e0b04c", "#5b8fc4", "#7d72b8", "#b5658a", "#d98252", "#8a948f", "#7cb88f"];

// What is shown: detections that reach a limit, without the classes that were switched off. The limit is by default the
// model's thresholds by class; the slider replaces it by one probability or, of a model without calibration, one score.
export class Filter {
  constructor(changed) {
    this.slider = byId("threshold");
    this.limit = null; // null for the model's thresholds
    this.off = new Set();
    this.changed = changed;
    this.slider.addEventListener("input", () => this.set(Number(this.slider.value)));
    byId("threshold-default").addEventListener("click", () => this.set(null));
  }

  set(limit) {
    this.limit = limit;
    this.changed();
  }

  // The limit as an option of the API.
  query() {
    if (this.limit === null) return {};
    return model.calibrated ? { min_probability: this.limit } : { min_score: this.limit };
  }

  // The slider covers all probabilities, or the scores from the recipe's minimum to above the highest found.
  range(highest) {
    this.slider.min = model.calibrated ? 0 : model.minScore;
    this.slider.max = model.calibrated ? 1 : Math.max(1, Math.ceil(highest * 10 + 1) / 10);
    this.slider.value = this.limit ?? (model.calibrated ? 0.5 : 0);
  }

  reaches({ label, score, probability }) {
    if (this.limit === null) return score >= (model.thresholds[label] ?? 0);
    return (probability ?? score) >= this.limit;
  }

  shown(result) {
    return result.detections
      .filter((detection) => this.reaches(detection) && !this.off.has(detection.label))
      .map((detection) => ({ ...detection, index: result.class_names.indexOf(detection.label) }));
  }

  drawLimit() {
    const text = model.calibrated ? `${Math.round(100 * this.limit)} %` : number(this.limit ?? 0);
    const shown = this.limit === null && model.calibrated ? "model's default" : text;
    byId("threshold-label").textContent = model.calibrated ? "Minimum probability" : "Minimum score";
    byId("threshold-value").textContent = shown;
    byId("threshold-default").hidden = this.limit === null;
    byId("threshold-help").textContent = model.calibrated
      ? "By default, each class is shown from its best F1 on, and from 30 %."
      : "A score is a margin, not a probability: above 0 means yes.";
    this.slider.setAttribute("aria-valuetext", shown);
  }

  // A switch for every class that was found in the image at all.
  drawChips(result) {
    this.drawLimit();
    const counts = new Map();
    for (const detection of result.detections) {
      counts.set(detection.label, (counts.get(detection.label) ?? 0) + this.reaches(detection));
    }
    const names = [...counts.keys()].filter((name) => counts.get(name) || this.off.has(name));
    const fieldset = byId("classes");
    fieldset.hidden = names.length === 0;
    const wanted = names.map((name) => `${name} ${counts.get(name)}`).join();
    if (fieldset.dataset.wanted === wanted) return; // the focus stays where it is
    fieldset.dataset.wanted = wanted;
    fieldset.replaceChildren(fieldset.firstElementChild, ...names.map((name) => this.chip(name, counts.get(name), result)));
  }

  chip(name, count, result) {
    const input = element("input", { type: "checkbox", value: name });
    input.checked = !this.off.has(name);
    input.addEventListener("change", () => {
      if (input.checked) this.off.delete(name);
      else this.off.add(name);
      this.changed();
    });
    return element("label", {}, input, element("span", {}, swatch(result.class_names.indexOf(name)), `${name} ${count}`));
  }
}

function swatch(index) {
  const node = element("i", { class: "swatch" });
  node.style.background = css(classColor(index));
  return node;
}

// The list of detections: the way of keyboards and screen readers to each box.
export function drawList(shown, total, selected, { hover, select }) {
  byId("count").textContent = `${shown.length} of ${total}`;
  byId("nothing").hidden = shown.length > 0;
  byId("nothing").textContent = model.tooWeak
    ? "The model is too weak to show boxes by default: move the slider to the left to see its best guesses, or label more images."
    : "No detection is above the threshold. Move the slider to the left.";
  const values = shown.map(({ score, probability }) => probability ?? score);
  const [low, high] = [Math.min(0, ...values), Math.max(1, ...values)];
  const rows = shown.map((detection, i) => {
    const meter = element("span", { class: "meter", "aria-hidden": "true" }, bar("", null, (values[i] - low) / (high - low)));
    const button = element(
      "button",
      { type: "button", "aria-pressed": String(same(detection, selected)), "aria-label": describe(detection) },
      swatch(detection.index),
      element("span", { class: "name" }, detection.label),
      meter,
      element("span", { class: "number" }, confidence(detection)),
    );
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(detection));
    button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(null));
    button.addEventListener("focus", () => hover(detection));
    button.addEventListener("blur", () => hover(null));
    button.addEventListener("click", () => select(detection));
    return element("li", {}, button);
  });
  byId("found").replaceChildren(...rows);
}

export function same(one, other) {
  return Boolean(one && other) && one.label === other.label && one.box.join() === other.box.join();
}

function describe(detection) {
  const [x1, y1, x2, y2] = detection.box.map(Math.round);
  const kind = model.calibrated ? "probability" : "score";
  return `${detection.label}, ${kind} ${confidence(detection)}, from ${x1}, ${y1} to ${x2}, ${y2}. Explain`;
}

export function drawTimes(times) {
  const steps = Object.entries(times);
  const total = steps.reduce((sum, [, seconds]) => sum + seconds, 0);
  byId("time-total").textContent = `${total.toFixed(2)} s`;
  byId("time-bar").replaceChildren(...steps.map(([, seconds], i) => bar(TIME_COLORS[i % 8], null, seconds / total)));
  const rows = steps.flatMap(([name, seconds], i) => {
    const dot = element("i", { class: "swatch" });
    dot.style.background = TIME_COLORS[i % 8];
    return [dot, element("dt", {}, name), element("dd", {}, `${Math.round(seconds * 1000)} ms`)];
  });
  byId("times").replaceChildren(...rows);
}
