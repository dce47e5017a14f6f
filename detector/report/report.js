"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = document.querySelector("svg").namespaceURI;
const PREVIEW = 6;

function svg(name, attributes, parent) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (parent) parent.append(node);
  return node;
}

// The boxes and their surroundings, at an aspect of 4 : 3.
function windowAround(boxes, width, height) {
  let x1 = Math.min(...boxes.map((box) => box[0])), y1 = Math.min(...boxes.map((box) => box[1]));
  let x2 = Math.max(...boxes.map((box) => box[2])), y2 = Math.max(...boxes.map((box) => box[3]));
  const wide = Math.max((x2 - x1) * 1.5, (y2 - y1) * 2, 48), high = wide * 0.75;
  const place = (low, side, middle, end) => (end && side >= end ? (end - side) / 2 : Math.min(Math.max(middle - side / 2, low), end ? end - side : Infinity));
  return [place(width ? 0 : -Infinity, wide, (x1 + x2) / 2, width), place(height ? 0 : -Infinity, high, (y1 + y2) / 2, height), wide, high];
}

function view(href, shown, parent) {
  const node = svg("svg", { viewBox: shown.map((value) => value.toFixed(1)).join(" "), role: "img" }, parent);
  if (href) svg("use", { href }, node);
  return node;
}

function draw(node, box, kind) {
  const sides = { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
  svg("rect", { ...sides, class: "halo" }, node);
  svg("rect", { ...sides, class: kind }, node);
}

function tile(number) {
  const [image, found, foundLabel, confidence, truth, truthLabel, difficult, note] = data.samples[number];
  const [name, width, height] = data.images[image];
  const embedded = document.getElementById("image-" + image) !== null;
  const shown = windowAround([found, truth].filter(Boolean), width, height);
  const node = document.createElement("figure");
  node.className = "tile";
  const views = document.createElement("div");
  views.className = "views";
  node.append(views);
  const main = view(embedded && "#image-" + image, shown, views);
  if (truth) draw(main, truth, "truth");
  if (found) draw(main, found, "found");
  if (number in data.attributions) {
    node.classList.add("explained");
    const heat = view("#attribution-" + number, shown, views);
    draw(heat, found, "found");
    heat.append(title(data.attributions[number]));
  }
  const words = [];
  if (found) words.push(data.classes[foundLabel] + " " + confidence);
  if (truth && (!found || truthLabel !== foundLabel)) words.push((found ? "is " : "") + data.classes[truthLabel] + (difficult ? ", difficult" : ""));
  const bold = document.createElement("b");
  bold.textContent = words.join(", ");
  const caption = document.createElement("span");
  caption.className = "caption";
  caption.append(bold, " " + note + " · " + name + (embedded ? "" : " (image not in this page)"));
  if (number in data.attributions) caption.append(" · " + data.attributions[number]);
  main.setAttribute("aria-label", words.join(", ") + ", " + note + ", in " + name);
  node.append(caption);
  return node;
}

function title(text) {
  const node = document.createElementNS(SVG, "title");
  node.textContent = text;
  return node;
}

for (const row of document.querySelectorAll("[data-preview]")) {
  const set = data.sets[row.dataset.preview];
  if (set) row.append(...set[2].slice(0, PREVIEW).map(tile));
}

const dialog = document.querySelector("dialog");
function show(key) {
  const set = data.sets[key];
  if (!set) return;
  const [heading, total, items] = set;
  const few = items.length < total ? ` (${items.length} of ${total})` : ` (${total})`;
  document.getElementById("dialog-title").textContent = heading + few;
  dialog.querySelector(".tiles").replaceChildren(...items.map(tile));
  dialog.showModal();
  dialog.scrollTop = 0;
}

document.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
  const from = event.target.closest("[data-set]");
  if (from) show(from.dataset.set);
});
document.addEventListener("keydown", (event) => {
  const from = event.target.closest("figure[data-set]");
  if (from && (event.key === "Enter" || event.key === " ")) {
    event.preventDefault();
    show(from.dataset.set);
  }
});

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text);
  return text === "" || Number.isNaN(number) ? (column ? -Infinity : text) : number;
}
for (const table of document.querySelectorAll("table.sortable")) {
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const up = head.getAttribute("aria-sort") === "descending" || (head.cellIndex === 0 && head.getAttribute("aria-sort") !== "ascending");
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...table.tBodies[0].rows].sort((a, b) => {
      const [x, y] = [valueOf(a, head.cellIndex), valueOf(b, head.cellIndex)];
      const order = x < y ? -1 : x > y ? 1 : 0;
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  });
}
