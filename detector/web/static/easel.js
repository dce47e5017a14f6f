// An image to draw boxes on, by mouse, pen, fingers or keys; it zooms and pans.

import { between, inside, moved } from "./boxes.js";
import { classColor, contrast, css } from "./colors.js";
import { element, svg } from "./elements.js";

const DRAG = 5; // pixels of the screen, from which a press is a drag
const MAX_ZOOM = 12;
const HANDLES = { nw: [0, 1], n: [1], ne: [2, 1], e: [2], se: [2, 3], s: [3], sw: [0, 3], w: [0] };
const measure = document.createElement("canvas").getContext("2d");

export class Easel {
  // `events` are {draw(box), click(point), select(index), change(index, box)}; an index counts `boxes` of `show`
  constructor(frame, events) {
    this.frame = frame;
    this.events = events;
    this.image = element("img", { alt: "", draggable: "false" });
    this.shapes = svg("g");
    this.ghost = svg("rect", { class: "ghost" });
    this.svg = svg("svg", { role: "group", "aria-label": "Boxes" }, this.shapes);
    this.sheet = element("div", { class: "paper", hidden: "" }, this.image, this.svg);
    this.fault = element("p", { class: "fault", hidden: "" });
    frame.append(this.sheet, this.fault);
    this.size = null;
    this.boxes = [];
    this.pointers = new Map();
    this.listen();
    new ResizeObserver(() => this.size && this.fit()).observe(frame);
  }

  // Show another image {width, height}, or the reason why it cannot be shown.
  open(address, size, fault = "") {
    this.size = size;
    this.fault.textContent = fault;
    this.fault.hidden = !fault;
    this.sheet.hidden = Boolean(fault);
    this.cancel();
    if (fault) return;
    this.image.src = address;
    this.svg.setAttribute("viewBox", `0 0 ${size.width} ${size.height}`);
    this.fit();
  }

  // ---- zoom and pan: the sheet is scaled by `zoom` and starts at (left, top) of the frame

  fit() {
    if (!this.size || !this.frame.clientWidth) return;
    const { clientWidth: width, clientHeight: height } = this.frame;
    this.smallest = Math.min(width / this.size.width, height / this.size.height);
    this.place(this.smallest, (width - this.size.width * this.smallest) / 2, (height - this.size.height * this.smallest) / 2);
  }

  zoomBy(factor, x = this.frame.clientWidth / 2, y = this.frame.clientHeight / 2) {
    const zoom = Math.max(this.smallest, Math.min(MAX_ZOOM * this.smallest, this.zoom * factor));
    const change = zoom / this.zoom;
    this.place(zoom, x - (x - this.left) * change, y - (y - this.top) * change);
  }

  place(zoom, left, top) {
    const limit = (value, room, length) => (length <= room ? (room - length) / 2 : Math.max(room - length, Math.min(0, value)));
    this.zoom = zoom;
    this.left = limit(left, this.frame.clientWidth, this.size.width * zoom);
    this.top = limit(top, this.frame.clientHeight, this.size.height * zoom);
    Object.assign(this.sheet.style, {
      width: `${this.size.width * zoom}px`,
      height: `${this.size.height * zoom}px`,
      transform: `translate(${this.left}px, ${this.top}px)`,
    });
    this.show(this.boxes, this.selected);
  }

  // ---- boxes {label, index, box, suggested, text}

  show(boxes, selected) {
    this.boxes = boxes;
    this.selected = selected;
    if (!this.size || this.zoom === undefined) return;
    const order = boxes.map((each, index) => ({ each, index }));
    const area = ({ each: { box } }) => (box[2] - box[0]) * (box[3] - box[1]);
    // large ones first, so that small ones can be pointed at; the selected one over all
    order.sort((a, b) => (a.index === selected) - (b.index === selected) || area(b) - area(a));
    this.shapes.replaceChildren(...order.map(({ each, index }) => this.group(each, index)), this.ghost);
  }

  group({ label, index: classIndex, box, suggested, text }, index) {
    const [x1, y1, x2, y2] = box;
    const color = classColor(classIndex);
    const sides = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
    const selected = index === this.selected;
    const name = `box${suggested ? " unsure" : ""}${selected ? " lit" : ""}`;
    const group = svg(
      "g",
      { class: name, "data-row": index, "data-label": label, "data-box": box.join(","), "data-suggested": String(Boolean(suggested)) },
      svg("rect", { ...sides, class: "rim", stroke: contrast(color) }),
      svg("rect", { ...sides, class: "line", stroke: css(color) }),
      ...this.tag(text, box, color),
    );
    if (selected) group.append(...this.handles(box));
    return group;
  }

  tag(text, [x1, y1], color) {
    const pixel = 1 / this.zoom;
    measure.font = "600 13px system-ui, sans-serif";
    const width = (measure.measureText(text).width + 12) * pixel;
    const left = Math.max(0, Math.min(x1, this.size.width - width));
    const top = Math.max(0, y1 - 20 * pixel);
    const ground = svg("rect", { class: "tag", x: left, y: top, width, height: 20 * pixel, rx: 3 * pixel });
    ground.style.fill = css(color);
    const letters = { x: left + 6 * pixel, y: top + 14.5 * pixel, "font-size": 13 * pixel, fill: contrast(color) };
    return [ground, svg("text", letters, text)];
  }

  handles([x1, y1, x2, y2]) {
    const radius = 6 / this.zoom;
    const middle = [(x1 + x2) / 2, (y1 + y2) / 2];
    return Object.entries(HANDLES).map(([name, corners]) => {
      const x = corners.includes(0) ? x1 : corners.includes(2) ? x2 : middle[0];
      const y = corners.includes(1) ? y1 : corners.includes(3) ? y2 : middle[1];
      return svg("g", { class: `handle ${name}`, "data-handle": name },
        svg("circle", { class: "grip", cx: x, cy: y, r: 2.2 * radius }), svg("circle", { class: "knob", cx: x, cy: y, r: radius }));
    });
  }

  outline(box) {
    if (!box) return this.ghost.removeAttribute("width");
    const [x1, y1, x2, y2] = box;
    for (const [name, value] of Object.entries({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 })) this.ghost.setAttribute(name, value);
  }

  // ---- pointers

  position(event) {
    const place = this.svg.getBoundingClientRect();
    return [((event.clientX - place.left) / place.width) * this.size.width, ((event.clientY - place.top) / place.height) * this.size.height];
  }

  listen() {
    const on = (type, listener, options) => this.frame.addEventListener(type, (event) => this.size && !this.sheet.hidden && listener(event), options);
    on("pointerdown", (event) => this.press(event));
    on("pointermove", (event) => this.drag(event));
    on("pointerup", (event) => this.release(event));
    on("pointercancel", (event) => { this.pointers.delete(event.pointerId); this.cancel(); });
    on("wheel", (event) => {
      event.preventDefault();
      const place = this.frame.getBoundingClientRect();
      this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.002)), event.clientX - place.left, event.clientY - place.top);
    }, { passive: false });
    on("contextmenu", (event) => event.preventDefault());
  }

  press(event) {
    this.frame.focus({ preventScroll: true });
    this.frame.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    event.preventDefault();
    if (this.pointers.size > 1) {
      // two fingers zoom and pan; what the first one began is dropped
      this.cancel();
      this.pinch = this.fingers();
      return;
    }
    const start = { x: event.clientX, y: event.clientY, point: this.position(event), dragged: false };
    if (event.button === 1 || event.button === 2) {
      this.action = { ...start, kind: "pan", left: this.left, top: this.top };
      return;
    }
    const handle = event.target.closest?.("[data-handle]")?.dataset.handle;
    const row = event.target.closest?.("[data-row]")?.dataset.row;
    const index = row === undefined ? null : Number(row);
    // inside of an unselected box, a drag draws: objects lie on and in others
    const holds = index !== null && (index === this.selected || event.target.closest(".tag, text"));
    const kind = handle ? "resize" : holds ? "move" : "draw";
    this.action = { ...start, kind, handle, index, box: index === null ? null : this.boxes[index].box };
  }

  fingers() {
    const [[ax, ay], [bx, by]] = [...this.pointers.values()];
    const place = this.frame.getBoundingClientRect();
    return { distance: Math.hypot(ax - bx, ay - by), x: (ax + bx) / 2 - place.left, y: (ay + by) / 2 - place.top };
  }

  drag(event) {
    if (!this.pointers.has(event.pointerId)) return;
    this.pointers.set(event.pointerId, [event.clientX, event.clientY]);
    if (this.pinch && this.pointers.size === 2) {
      const now = this.fingers();
      this.place(this.zoom, this.left + now.x - this.pinch.x, this.top + now.y - this.pinch.y);
      this.zoomBy(now.distance / this.pinch.distance, now.x, now.y);
      this.pinch = now;
      return;
    }
    const { action } = this;
    if (!action) return;
    action.dragged ||= Math.hypot(event.clientX - action.x, event.clientY - action.y) >= DRAG;
    if (!action.dragged) return;
    if (action.kind === "pan") this.place(this.zoom, action.left + event.clientX - action.x, action.top + event.clientY - action.y);
    else this.outline(this.result(event));
  }

  // The box that the present drag makes.
  result(event) {
    const { kind, point, box, handle } = this.action;
    const [x, y] = this.position(event);
    if (kind === "draw") return between(point, [x, y], this.size);
    if (kind === "move") return moved(box, x - point[0], y - point[1], this.size);
    const corners = [...box];
    for (const corner of HANDLES[handle]) corners[corner] = corner % 2 ? y : x;
    return between([corners[0], corners[1]], [corners[2], corners[3]], this.size);
  }

  release(event) {
    this.pointers.delete(event.pointerId);
    const { action } = this;
    if (this.pointers.size === 0) this.pinch = null;
    if (!action) return;
    const box = action.dragged && action.kind !== "pan" ? this.result(event) : null;
    this.cancel();
    if (action.kind === "pan") return;
    if (!action.dragged) {
      if (action.index === null) this.events.click(action.point);
      else this.events.select(action.index);
    } else if (action.kind === "draw") {
      if ((box[2] - box[0]) * this.zoom >= DRAG && (box[3] - box[1]) * this.zoom >= DRAG) this.events.draw(box);
    } else this.events.change(action.index, inside(box, this.size));
  }

  cancel() {
    this.action = null;
    this.outline(null);
  }
}
