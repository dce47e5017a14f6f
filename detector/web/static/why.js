// What the user points at or asks about: lights a box, shows its heat map, and fills the evidence panel.

import { explain } from "./api.js";
import { byId, complain } from "./elements.js";
import { showEvidence, showFault, showWaiting } from "./evidence.js";
import { same } from "./results.js";

const HOVER_MS = 120;

async function evidenceOf(item, { box, label }, signal) {
  const key = `${label} ${box}`;
  if (!item.evidence.has(key)) item.evidence.set(key, await explain(item.file, box, label, signal));
  return item.evidence.get(key);
}

export class Why {
  // `desk` is {viewers, active, refresh()}
  constructor(desk) {
    this.desk = desk;
    this.chosen = null; // a detection, or {box, label, own: true}, whose evidence is shown
    this.pointed = null;
  }

  hover(detection) {
    clearTimeout(this.pointed?.timer);
    this.pointed?.stop.abort();
    this.pointed = null;
    this.clear();
    if (detection === null) {
      if (this.chosen) this.highlight();
      return;
    }
    const viewer = this.desk.active;
    viewer.light(detection);
    const stop = new AbortController();
    const timer = setTimeout(() => this.warm(viewer, detection, stop.signal), HOVER_MS);
    this.pointed = { timer, stop };
  }

  async warm(viewer, detection, signal) {
    try {
      const { heat } = await evidenceOf(viewer.item, detection, signal);
      if (!signal.aborted) viewer.showHeat(heat);
    } catch (error) {
      if (error.name !== "AbortError") complain(error.message);
    }
  }

  async choose(detection) {
    if (same(this.chosen, detection)) {
      this.forget();
      this.desk.refresh();
    } else {
      await this.show(detection);
    }
  }

  async show(target) {
    this.chosen = target;
    const { item, canvas } = this.desk.active;
    this.desk.refresh();
    showWaiting(target.label);
    try {
      target.evidence = await evidenceOf(item, target);
      if (this.chosen !== target) return;
      showEvidence(target.evidence, canvas);
      this.highlight();
      byId("status").textContent = `${byId("evidence-title").textContent} The evidence stands next to the image.`;
      byId("evidence").scrollIntoView({ block: "nearest", behavior: "smooth" });
    } catch (error) {
      if (this.chosen === target) showFault(error.message);
    }
  }

  highlight() {
    const viewer = this.desk.active;
    if (this.chosen.own) viewer.mark(this.chosen.box, this.chosen.evidence?.closest?.box);
    else viewer.light(this.chosen);
    if (this.chosen.evidence) viewer.showHeat(this.chosen.evidence.heat);
  }

  forget() {
    this.chosen = null;
    byId("evidence").hidden = true;
    this.clear();
    for (const viewer of this.desk.viewers) viewer.mark(null, null);
  }

  clear() {
    for (const viewer of this.desk.viewers) {
      viewer.light(null);
      viewer.hideHeat();
    }
  }
}
