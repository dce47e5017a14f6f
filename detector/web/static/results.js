// The results next to the image: threshold, classes, the list of what was found, and where the time went.

import { classColor, css } from "./colors.js";
import { bar, byId, element, number } from "./elements.js";

const TIME_COLORS = ["#0f8a92", "#e0b04c", "#5b8fc4", "#7d72b8", "#b5658a", "#d98252", "#8a948f", "#7cb88f"];

// What is shown: least score and the classes that were switched off.
export class Filter {
  constructor(changed) {
    this.slider = byId("threshold");
    this.off = new Set();
    this.slider.addEventListener("input", changed);
    this.changed = changed;
  }

  get least() {
    return Number(this.slider.value);
  }

  // The slider reaches from the recipe's least score to above the best one that was found.
  range(least, most) {
    const value = this.slider.value;
    this.slider.min = least;
    this.slider.max = Math.max(1, Math.ceil(most * 10 + 1) / 10);
    this.slider.value = value;
  }

  shown(result) {
    return result.detections
      .filter(({ label, score }) => score >= this.least && !this.off.has(label))
      .map((detection) => ({ ...detection, index: result.class_names.indexOf(detection.label) }));
  }

  // A switch for every class that was found in the image at all.
  drawChips(result) {
    byId("threshold-value").textContent = number(this.least);
    this.slider.setAttribute("aria-valuetext", number(this.least));
    const counts = new Map();
    for (const { label, score } of result.detections) counts.set(label, (counts.get(label) ?? 0) + (score >= this.least));
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
export function drawList(shown, total, chosen, { hover, choose }) {
  byId("count").textContent = `${shown.length} of ${total}`;
  byId("nothing").hidden = shown.length > 0;
  const scores = shown.map(({ score }) => score);
  const [low, high] = [Math.min(0, ...scores), Math.max(1, ...scores)];
  const rows = shown.map((detection) => {
    const meter = element("span", { class: "meter", "aria-hidden": "true" }, bar("", null, (detection.score - low) / (high - low)));
    const button = element(
      "button",
      { type: "button", "aria-pressed": String(same(detection, chosen)), "aria-label": describe(detection) },
      swatch(detection.index),
      element("span", { class: "name" }, detection.label),
      meter,
      element("span", { class: "number" }, number(detection.score)),
    );
    button.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(detection));
    button.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hover(null));
    button.addEventListener("focus", () => hover(detection));
    button.addEventListener("blur", () => hover(null));
    button.addEventListener("click", () => choose(detection));
    return element("li", {}, button);
  });
  byId("found").replaceChildren(...rows);
}

export function same(one, other) {
  return Boolean(one && other) && one.label === other.label && one.box.join() === other.box.join();
}

function describe({ label, score, box }) {
  const [x1, y1, x2, y2] = box.map(Math.round);
  return `${label}, score ${number(score)}, from ${x1}, ${y1} to ${x2}, ${y2}. Show the evidence`;
}

export function drawTimes(times) {
  const stages = Object.entries(times);
  const total = stages.reduce((sum, [, seconds]) => sum + seconds, 0);
  byId("time-total").textContent = `${total.toFixed(2)} s`;
  byId("time-bar").replaceChildren(...stages.map(([, seconds], i) => bar(TIME_COLORS[i % 8], null, seconds / total)));
  const rows = stages.flatMap(([name, seconds], i) => {
    const dot = element("i", { class: "swatch" });
    dot.style.background = TIME_COLORS[i % 8];
    return [dot, element("dt", {}, name), element("dd", {}, `${Math.round(seconds * 1000)} ms`)];
  });
  byId("times").replaceChildren(...rows);
}
