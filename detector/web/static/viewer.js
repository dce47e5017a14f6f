// One image with its boxes over it: an SVG in pixels of the image, so that the boxes are those of the answer.

import { classColor, contrast, css, paintHeat } from "./colors.js";
import { confidence, element, svg } from "./elements.js";

const FIRM = 0.5; // probability from which the line of a box is solid
const measure = document.createElement("canvas").getContext("2d");

export class Viewer {
  // `events` are {activate, hover(detection | null), select(detection), draw(box)}
  constructor(events) {
    this.events = events;
    this.item = null;
    this.drawn = [];
    this.highlighted = null;
    this.canvas = element("canvas", { class: "image" });
    this.regions = element("canvas", { class: "regions", "aria-hidden": "true" });
    this.heat = element("canvas", { class: "heat", "aria-hidden": "true" });
    this.boxes = svg("g");
    this.proposals = svg("path", { class: "proposals" });
    this.cells = svg("path", { class: "cells" });
    this.bins = svg("path", { class: "bins" });
    this.marks = svg("g");
    this.svg = svg("svg", { role: "img" }, this.proposals, this.cells, this.bins, this.boxes, this.marks);
    this.sheet = element("div", { class: "sheet", hidden: "" }, this.canvas, this.regions, this.heat, this.svg);
    this.working = element("span");
    this.veil = element("div", { class: "veil", hidden: "" }, this.working, element("div", { class: "track" }));
    this.fault = element("p", { class: "fault", hidden: "" });
    this.frame = element("div", { class: "frame" }, this.sheet, this.fault, this.veil);
    this.name = element("span");
    this.size = element("span");
    this.root = element("figure", { class: "stage" }, this.frame, element("figcaption", {}, this.name, this.size));
    this.root.addEventListener("pointerdown", () => events.activate(this));
    this.listenToDrawing();
    new ResizeObserver(() => this.fit()).observe(this.frame);
  }

  // Show an item {name, bitmap, result, error, state}; `bitmap` may come later.
  show(item) {
    this.item = item;
    this.name.textContent = item.name;
    this.size.textContent = item.result ? `${item.result.width} × ${item.result.height}` : "";
    this.veil.hidden = item.state !== "waiting" && item.state !== "working";
    this.fault.hidden = !item.error;
    this.fault.textContent = item.error ?? "";
    this.sheet.hidden = !item.bitmap || Boolean(item.error);
    this.marks.replaceChildren();
    this.hideHeat();
    this.showRegions(null);
    this.drawCells(null);
    this.pixel = null; // of the screen, in pixels of the image
    this.drawBoxes([]);
    if (!item.bitmap) return;
    this.width = item.result?.width ?? item.bitmap.width;
    this.height = item.result?.height ?? item.bitmap.height;
    this.canvas.width = this.width;
    this.canvas.height = this.height;
    const context = this.canvas.getContext("2d");
    context.fillStyle = "#fff"; // the detector puts transparent pixels on white, too
    context.fillRect(0, 0, this.width, this.height);
    context.drawImage(item.bitmap, 0, 0, this.width, this.height);
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${this.height}`);
    this.fit();
  }

  // As large as the frame allows: all of the image is seen at once.
  fit() {
    if (!this.item?.bitmap || !this.frame.clientWidth) return;
    const room = Math.max(280, window.innerHeight * 0.72);
    const zoom = Math.min(this.frame.clientWidth / this.width, room / this.height, 4);
    this.sheet.style.width = `${Math.round(this.width * zoom)}px`;
    this.sheet.style.height = `${Math.round(this.height * zoom)}px`;
    this.pixel = 1 / zoom;
    this.drawBoxes(this.drawn);
  }

  progress(text) {
    this.working.textContent = text;
  }

  // Detections {label, score, box, index}: large ones first, so that small ones can be pointed at.
  drawBoxes(detections) {
    this.drawn = detections;
    if (!this.pixel) detections = []; // there is no image to draw them on yet
    const area = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
    const groups = [...detections].sort((a, b) => area(b) - area(a)).map((detection) => this.group(detection));
    this.boxes.replaceChildren(...groups);
    this.highlight(this.highlighted);
    const names = detections.map((detection) => `${detection.label} ${confidence(detection)}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.item?.name ?? "image"}: ${names || "nothing found"}`);
  }

  group(detection) {
    const [x1, y1, x2, y2] = detection.box;
    const color = classColor(detection.index);
    const sides = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    const node = svg(
      "g",
      { class: detection.probability < FIRM ? "box unsure" : "box", "data-label": detection.label, "data-score": detection.score, "data-box": detection.box.join(",") },
      svg("rect", { ...sides, class: "rim", stroke: contrast(color) }),
      svg("rect", { ...sides, class: "line", stroke: css(color) }),
      ...this.tag(detection, color),
    );
    node.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && this.events.hover(detection));
    node.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && this.events.hover(null));
    node.addEventListener("click", () => this.events.select(detection));
    return node;
  }

  // Name and confidence on the color of the class, above the box or, at the edge, inside it.
  tag(detection, color) {
    const { label, box: [x1, y1] } = detection;
    const size = 13 * this.pixel;
    measure.font = "600 13px system-ui, sans-serif";
    const text = `${label} ${confidence(detection)}`;
    const width = (measure.measureText(text).width + 12) * this.pixel;
    const height = 20 * this.pixel;
    const left = Math.max(0, Math.min(x1, this.width - width));
    const top = Math.max(0, y1 - height);
    const ground = svg("rect", { class: "tag", x: left, y: top, width, height, rx: 3 * this.pixel });
    ground.style.fill = css(color);
    const letters = { x: left + 6 * this.pixel, y: top + 14.5 * this.pixel, "font-size": size, fill: contrast(color) };
    return [ground, svg("text", letters, text)];
  }

  highlight(detection) {
    this.highlighted = detection;
    this.svg.classList.toggle("some-lit", detection !== null);
    for (const { classList, dataset } of this.boxes.children) {
      classList.toggle("lit", dataset.label === detection?.label && dataset.box === detection?.box.join(","));
    }
  }

  drawProposals(boxes) {
    const path = boxes.map(([x1, y1, x2, y2]) => `M${x1} ${y1}H${x2}V${y2}H${x1}Z`).join("");
    this.proposals.setAttribute("d", path);
    this.proposals.dataset.count = boxes.length;
  }

  // A box of the user's, and the proposal next to it.
  mark(own, nearest) {
    const rectangle = (name, [x1, y1, x2, y2]) => svg("rect", { class: name, x: x1, y: y1, width: x2 - x1, height: y2 - y1 });
    this.marks.replaceChildren(...(nearest ? [rectangle("nearest", nearest)] : []), ...(own ? [rectangle("own", own)] : []));
  }

  // The regions of selective search, a canvas, over the image, and the box of the last merge; null for none.
  showRegions(canvas, box = null) {
    this.regions.classList.toggle("on", canvas !== null);
    if (canvas === null) return;
    this.regions.width = canvas.width;
    this.regions.height = canvas.height;
    this.regions.getContext("2d").drawImage(canvas, 0, 0);
    this.mark(null, box);
  }

  // The cells of a position {cells, grid} on the feature map, and windows of bins in cells; null for none.
  drawCells(position, windows = []) {
    const at = ([x1, y1, x2, y2]) => {
      const { left, top, side } = position.grid;
      return `M${left + x1 * side} ${top + y1 * side}H${left + x2 * side}V${top + y2 * side}H${left + x1 * side}Z`;
    };
    const each = [];
    if (position) {
      const [x1, y1, x2, y2] = position.cells;
      for (let x = x1; x < x2; x += 1) each.push([x, y1, x + 1, y2]);
      for (let y = y1; y < y2; y += 1) each.push([x1, y, x2, y + 1]);
    }
    this.cells.setAttribute("d", each.map(at).join(""));
    this.bins.setAttribute("d", windows.map(at).join(""));
    this.bins.dataset.count = windows.length;
  }

  showHeat(heat) {
    paintHeat(this.heat, heat);
    this.heat.classList.add("on");
  }

  hideHeat() {
    this.heat.classList.remove("on");
  }

  set drawing(on) {
    this.frame.classList.toggle("drawing", on);
  }

  listenToDrawing() {
    let start = null;
    const position = (event) => {
      const sheet = this.svg.getBoundingClientRect();
      const x = ((event.clientX - sheet.left) / sheet.width) * this.width;
      const y = ((event.clientY - sheet.top) / sheet.height) * this.height;
      return [Math.max(0, Math.min(this.width, Math.round(x))), Math.max(0, Math.min(this.height, Math.round(y)))];
    };
    const box = (event) => {
      const [x, y] = position(event);
      return [Math.min(x, start[0]), Math.min(y, start[1]), Math.max(x, start[0]), Math.max(y, start[1])];
    };
    this.svg.addEventListener("pointerdown", (event) => {
      if (!this.frame.classList.contains("drawing") || !this.item?.result) return;
      event.preventDefault();
      start = position(event);
      this.svg.setPointerCapture(event.pointerId);
    });
    this.svg.addEventListener("pointermove", (event) => start && this.mark(box(event), null));
    this.svg.addEventListener("pointercancel", () => { start = null; });
    this.svg.addEventListener("pointerup", (event) => {
      if (!start) return;
      const [x1, y1, x2, y2] = box(event);
      start = null;
      if (x2 - x1 >= 3 && y2 - y1 >= 3) this.events.draw([x1, y1, x2, y2]);
      else this.mark(null, null);
    });
  }
}
