// "Show how": the merges of selective search as a slider, and the cells and bins of a box over the image.

import { search } from "./api.js";
import { byId, complain } from "./elements.js";

const WAIT_MS = 250;

export class How {
  // `desk` is {viewers, active, refresh(), redrawExplanation(), closeExplanation()}
  constructor(desk) {
    this.desk = desk;
    this.canvas = document.createElement("canvas");
    this.slider = byId("merges");
    this.slider.addEventListener("input", () => { this.desk.closeExplanation(); this.count(); this.paint(); });
    byId("show-how").addEventListener("click", () => this.toggle());
  }

  get on() {
    return byId("show-how").getAttribute("aria-pressed") === "true";
  }

  toggle() {
    byId("show-how").setAttribute("aria-pressed", String(!this.on));
    this.desk.redrawExplanation();
    this.desk.refresh();
  }

  // Show or hide the search of the image in view; called whenever another one is.
  async refresh(item) {
    byId("search-card").hidden = !this.on || !item?.result;
    if (byId("search-card").hidden) {
      this.stop?.abort();
      this.shown = null;
      for (const viewer of this.desk.viewers) viewer.showRegions(null);
      return;
    }
    if (this.shown === item) return;
    this.shown = item;
    this.slider.value = 0;
    this.slider.disabled = true;
    byId("merge-count").textContent = "…";
    this.stop?.abort();
    const { signal } = (this.stop = new AbortController());
    try {
      if (!item.search) await pause(signal); // the user may only pass by
      item.search ??= decoded(await search(item.file, signal));
    } catch (error) {
      if (this.shown !== item || error.name === "AbortError") return;
      this.shown = null; // to try again
      complain(error.message);
      return;
    }
    if (this.shown !== item) return;
    this.slider.disabled = false;
    this.slider.max = item.search.parts.length;
    this.slider.value = 0;
    this.count();
  }

  count() {
    const { search: found } = this.shown;
    const merges = Number(this.slider.value);
    const left = found.n_regions - merges;
    const counted = (count, name) => `${count} ${name}${count === 1 ? "" : "s"}`;
    const text = counted(left, "region") + (merges ? ` after ${counted(merges, "merge")}` : " at first");
    byId("merge-count").textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
  }

  paint() {
    const { search: found, bitmap } = this.shown;
    if (!bitmap) return;
    const merges = Number(this.slider.value);
    paintRegions(this.canvas, found, merges, bitmap);
    this.desk.active.showRegions(this.canvas, merges ? found.boxes[merges - 1] : null);
  }
}

function pause(signal) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, WAIT_MS);
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

function decoded(answer) {
  const bytes = Uint8Array.from(atob(answer.labels), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return { ...answer, labels: Uint16Array.from({ length: bytes.length / 2 }, (_, i) => view.getUint16(2 * i, true)) };
}

// The number of the region that each first region is a part of, after so many merges.
export function regionsAfter({ n_regions: count, parts }, merges) {
  const parents = Array.from({ length: count + merges }, (_, i) => i);
  for (let i = 0; i < merges; i += 1) for (const part of parts[i]) parents[part] = count + i;
  for (let i = count + merges - 1; i >= 0; i -= 1) parents[i] = parents[parents[i]];
  return parents.slice(0, count);
}

// Every region in the mean color of its pixels.
function paintRegions(canvas, found, merges, bitmap) {
  const { width, height, labels } = found;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0, width, height);
  const pixels = context.getImageData(0, 0, width, height);
  const owners = regionsAfter(found, merges);
  const sums = new Float64Array(4 * (found.n_regions + merges));
  labels.forEach((label, i) => {
    for (let c = 0; c < 3; c += 1) sums[4 * owners[label] + c] += pixels.data[4 * i + c];
    sums[4 * owners[label] + 3] += 1;
  });
  labels.forEach((label, i) => {
    const at = 4 * owners[label];
    for (let c = 0; c < 3; c += 1) pixels.data[4 * i + c] = sums[at + c] / sums[at + 3];
    pixels.data[4 * i + 3] = 255;
  });
  context.putImageData(pixels, 0, 0);
}

// The windows of the n x n bins of cells [x1, y1, x2, y2], half-open: bin i is floor(i w / n) to ceil((i + 1) w / n).
export function binWindows([x1, y1, x2, y2], n) {
  const span = (start, size, i) => [start + Math.floor((i * size) / n), start + Math.ceil(((i + 1) * size) / n)];
  return Array.from({ length: n * n }, (_, i) => {
    const [left, right] = span(x1, x2 - x1, i % n);
    const [top, bottom] = span(y1, y2 - y1, Math.floor(i / n));
    return [left, top, right, bottom];
  });
}
