// The panel next to the image: classes, boxes, what comes next, how good the detector is.

import { classColor, css } from "./colors.js";
import { bar, byId, element, percent, svg } from "./elements.js";
import { thumbnailAddress } from "./teach_api.js";

function swatch(index) {
  const mark = element("i", { class: "swatch" });
  mark.style.background = css(classColor(index));
  return mark;
}

// Classes with their number of boxes in this image; `choose(name)`, `rename(name)`.
export function drawClasses(names, current, boxes, { choose, rename }) {
  byId("classes").replaceChildren(...names.map((name, index) => {
    const count = boxes.filter(({ label }) => label === name).length;
    const key = index < 9 ? ` (${index + 1})` : "";
    return element("li", {},
      element("button", { type: "button", class: "class", "aria-pressed": String(name === current), title: `Use “${name}”${key}`, onclick: () => choose(name) },
        swatch(index), element("span", { class: "name" }, name), element("kbd", {}, index < 9 ? String(index + 1) : ""),
        element("span", { class: "count" }, count ? String(count) : "")),
      element("button", { type: "button", class: "small", title: `Rename “${name}” everywhere`, "aria-label": `Rename ${name}`, onclick: () => rename(name) }, "Rename"));
  }));
}

const sides = ([x1, y1, x2, y2]) => `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`;

// Boxes and suggestions of this image; `select(index)`, `accept(index)`, `remove(index)`.
export function drawBoxes(shown, selected, { select, accept, remove }) {
  const n = shown.filter(({ suggested }) => !suggested).length;
  byId("box-count").textContent = `${n}${shown.length > n ? `, ${shown.length - n} suggested` : ""}`;
  byId("boxes").replaceChildren(...shown.map((each, index) => element("li", { class: each.suggested ? "suggested" : "" },
    element("button", { type: "button", class: "class", "aria-pressed": String(index === selected), title: "Select this box", onclick: () => select(index) },
      swatch(each.index), element("span", { class: "name" }, each.label), element("span", { class: "count" }, each.suggested ? each.confidence : sides(each.box))),
    ...(each.suggested ? [element("button", { type: "button", class: "small", title: "Accept this suggestion (Enter)", "aria-label": `Accept ${each.label}`, onclick: () => accept(index) }, "Accept")] : []),
    element("button", { type: "button", class: "small", title: each.suggested ? "Reject this suggestion (Del)" : "Delete this box (Del)", "aria-label": `${each.suggested ? "Reject" : "Delete"} ${each.label}`, onclick: () => remove(index) }, each.suggested ? "Reject" : "Delete"))
  ));
}

// Images as tiles, {image, title, caption}; `open(entry)`.
export function drawTiles(id, entries, open) {
  byId(id).replaceChildren(...entries.map((entry) => element("li", {},
    element("button", { type: "button", title: entry.title, onclick: () => open(entry) },
      element("img", { src: thumbnailAddress(entry.image), alt: entry.title, loading: "lazy", width: 96, height: 72 }),
      element("span", {}, entry.caption)))));
}

// Average precision over the number of finished images, with its standard error.
export function drawCurve(curve) {
  if (!curve.length) return byId("curve").replaceChildren();
  const [width, height, left, bottom] = [320, 120, 34, 18];
  const most = Math.max(...curve.map(({ images }) => images), 2);
  const x = (images) => left + ((width - left - 8) * images) / most;
  const y = (value) => 6 + (height - bottom - 6) * (1 - value);
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img", "aria-label": `AP50 by images: ${curve.map(({ images, AP50 }) => `${images}: ${percent(AP50)}`).join(", ")}` });
  for (const value of [0, 0.5, 1]) {
    drawing.append(svg("line", { class: "rule", x1: left, x2: width - 8, y1: y(value), y2: y(value) }), svg("text", { x: left - 5, y: y(value) + 4, "text-anchor": "end" }, `${100 * value}`));
  }
  drawing.append(svg("text", { x: width - 8, y: height - 3, "text-anchor": "end" }, `${most} images`));
  drawing.append(svg("polyline", { points: curve.map(({ images, AP50 }) => `${x(images)},${y(AP50)}`).join(" ") }));
  for (const { images, AP50, error } of curve) {
    if (error !== null) drawing.append(svg("line", { class: "error-bar", x1: x(images), x2: x(images), y1: y(Math.min(1, AP50 + error)), y2: y(Math.max(0, AP50 - error)) }));
    drawing.append(svg("circle", { cx: x(images), cy: y(AP50), r: 3 }));
  }
  byId("curve").replaceChildren(drawing);
}

// The last measurement; `open({image, box})` shows a doubtful label.
export function drawQuality(quality, open) {
  if (quality.AP50 === undefined) return;
  const error = quality.error === null ? "" : ` ± ${Math.round(100 * quality.error)}`;
  byId("ap").textContent = quality.AP50 === null ? "" : `AP50 ${Math.round(100 * quality.AP50)}${error} %`;
  byId("quality-help").textContent = `Measured on ${quality.measured} of your ${quality.images} finished images, each by a detector that has not learned from it.`;
  const classes = Object.entries(quality.classes).filter(([, value]) => value !== null).sort(([, a], [, b]) => a - b);
  byId("by-class").replaceChildren(...classes.map(([name, value]) => element("li", {},
    element("span", { class: "name" }, name), element("span", { class: "meter" }, bar(null, null, value)), element("span", { class: "count" }, percent(value)))));
  const confusions = quality.confusions.map(({ label, taken_for: other, count }) => element("li", {}, `${label} was taken for ${other}: ${count}`));
  byId("confusions").replaceChildren(...(confusions.length ? [element("h3", {}, "What it confuses"), element("ul", {}, ...confusions)] : []));
  const doubts = quality.doubts.slice(0, 8).map((doubt) => element("li", {},
    element("button", { type: "button", class: "link", title: "Show this label", onclick: () => open(doubt) }, `${doubt.kind}: ${doubt.line}`)));
  byId("doubts").replaceChildren(...(doubts.length ? [element("h3", {}, "Labels to check"), element("ul", {}, ...doubts)] : []));
}

// A window of the images around the one in view.
export function drawStrip(images, current, open) {
  const first = Math.max(0, Math.min(current - 100, images.length - 200));
  const list = byId("thumbnails");
  list.replaceChildren(...images.slice(first, first + 200).map(({ name, done, boxes, failed }, offset) => {
    const image = first + offset;
    const state = failed ? "cannot be read" : done ? `done, ${boxes} boxes` : boxes ? `${boxes} boxes, not done` : "not labeled";
    return element("li", {}, element("button", { type: "button", "aria-current": String(image === current), "aria-label": `${name}: ${state}`, title: `${name}: ${state}`, class: done ? "done" : "", onclick: () => open(image) },
      element("img", { src: thumbnailAddress(image), alt: "", loading: "lazy", width: 88, height: 64 }),
      element("span", {}, failed ? "!" : done ? `✓ ${boxes}` : boxes ? String(boxes) : "")));
  }));
  list.querySelector("[aria-current=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
}
