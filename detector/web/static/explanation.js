// Explain what the user points at or asks about: highlight a box, show its heat map, and fill the explanation panel.

import { explain } from "./api.js";
import { showAttribution, showError, showWaiting } from "./attribution.js";
import { byId, complain } from "./elements.js";
import { same } from "./results.js";

const HOVER_MS = 120;

export class Explanations {
  // `desk` is {viewers, active, filter, refresh()}; `how` is whether the steps are shown, {on}.
  constructor(desk, how) {
    this.desk = desk;
    this.how = how;
    this.selected = null; // a detection, or {box, label, own: true}, whose explanation is shown
    this.pointed = null;
  }

  async fetch(item, { box, label, own }, signal) {
    const limit = own ? this.desk.filter.query() : {}; // a detection does not depend on it
    const options = { ...limit, ...item.tiles };
    const key = `${label} ${box} ${JSON.stringify(options)}`;
    if (!item.explanations.has(key)) item.explanations.set(key, await explain(item.file, box, label, options, signal));
    return item.explanations.get(key);
  }

  hover(detection) {
    clearTimeout(this.pointed?.timer);
    this.pointed?.stop.abort();
    this.pointed = null;
    this.clear();
    if (detection === null) {
      if (this.selected) this.highlight();
      return;
    }
    const viewer = this.desk.active;
    viewer.highlight(detection);
    const stop = new AbortController();
    const timer = setTimeout(() => this.showHeat(viewer, detection, stop.signal), HOVER_MS);
    this.pointed = { timer, stop };
  }

  async showHeat(viewer, detection, signal) {
    try {
      const { heat } = await this.fetch(viewer.item, detection, signal);
      if (!signal.aborted) viewer.showHeat(heat);
    } catch (error) {
      if (error.name !== "AbortError") complain(error.message);
    }
  }

  async toggle(detection) {
    if (same(this.selected, detection)) {
      this.close();
      this.desk.refresh();
    } else {
      await this.show(detection);
    }
  }

  async show(target) {
    this.selected = target;
    const { item } = this.desk.active;
    this.desk.active.showRegions(null);
    this.desk.refresh();
    showWaiting(target.label);
    try {
      target.explanation = await this.fetch(item, target);
      if (this.selected !== target) return;
      this.redraw();
      byId("status").textContent = `${byId("explanation-title").textContent} The explanation is next to the image.`;
      byId("explanation").scrollIntoView({ block: "nearest", behavior: "smooth" });
    } catch (error) {
      if (this.selected === target) showError(error.message);
    }
  }

  redraw() {
    for (const viewer of this.desk.viewers) viewer.drawCells(null);
    if (!this.selected?.explanation) return;
    const viewer = this.desk.active;
    showAttribution(this.selected.explanation, viewer.canvas, this.how.on ? viewer : null);
    this.highlight();
  }

  highlight() {
    const viewer = this.desk.active;
    if (this.selected.own) viewer.mark(this.selected.box, this.selected.explanation?.closest?.box);
    else viewer.highlight(this.selected);
    if (this.selected.explanation) viewer.showHeat(this.selected.explanation.heat);
  }

  close() {
    this.selected = null;
    for (const viewer of this.desk.viewers) viewer.drawCells(null);
    byId("explanation").hidden = true;
    this.clear();
    for (const viewer of this.desk.viewers) viewer.mark(null, null);
  }

  clear() {
    for (const viewer of this.desk.viewers) {
      viewer.highlight(null);
      viewer.hideHeat();
    }
  }
}
