// The page of `spp teach`: an image to label, the detector that learns from it, and what to label next.

import { around, inside, iou, moved } from "./boxes.js";
import { Easel } from "./easel.js";
import { byId, complain, confidence } from "./elements.js";
import { History } from "./history.js";
import { Saver } from "./saver.js";
import * as api from "./teach_api.js";
import { drawBoxes, drawClasses, drawCurve, drawQuality, drawStrip, drawTiles } from "./teach_panel.js";

const NOTHING = { boxes: [], done: false };
const SAME_OBJECT = 0.5; // IoU of a suggestion with a label, from which on there is nothing to suggest
const POLL = 1000;

const images = []; // {name, boxes, done, failed}
const classes = []; // names; those at the end may have no box yet
const kept = new Map(); // labels by image, as they are on the page
const rejected = new Map(); // boxes by image that were no objects
const history = new History();
const view = { image: 0, size: null, selected: null, current: "", proposals: [], candidates: [], suggestions: [], touched: false, mark: null };
const known = { round: 0, curve: 0, next: "", state: {} };
const similar = { image: 0, label: "", box: null, read: 0 }; // what more is sought of, and among how many images

const easel = new Easel(byId("easel"), { draw: drawn, click: snap, select, change });
const saver = new Saver({ saved: took, failed: (error) => complain(error.message), status: (line) => { byId("saved").textContent = line; } });

const labels = () => kept.get(view.image) ?? NOTHING;

// ---- what is shown

// Labels of this image, and then suggestions that no label and no rejection covers.
function shown() {
  const own = labels().boxes;
  const off = rejected.get(view.image) ?? [];
  const covers = (box) => (each) => iou(each.box, box) >= SAME_OBJECT;
  const offered = labels().done ? [] : view.suggestions.filter(({ label, box }) =>
    !own.some(covers(box)) && !off.some((each) => each.label === label && covers(box)(each)));
  const extra = view.mark && !own.some(covers(view.mark.box)) ? [view.mark] : [];
  return [
    ...own.map(({ label, box }) => ({ label, box, index: classes.indexOf(label), text: label })),
    ...[...extra, ...offered].map((each) => ({ ...each, index: classes.indexOf(each.label), suggested: true, confidence: each.score === undefined ? "" : confidence(each), text: `${each.label}?` })),
  ];
}

function refresh() {
  const boxes = shown();
  if (view.selected !== null && view.selected >= boxes.length) view.selected = null;
  const chosen = boxes[view.selected];
  easel.show(boxes, view.selected);
  drawClasses(classes, chosen?.label ?? view.current, labels().boxes, { choose: useClass, rename: renameClass });
  drawBoxes(boxes, view.selected, { select, accept, remove });
  byId("delete").disabled = byId("similar").disabled = !chosen;
  byId("undo").disabled = !history.past.length;
  byId("redo").disabled = !history.future.length;
  const offers = boxes.filter(({ suggested }) => suggested).length;
  byId("accept-all").hidden = !offers;
  byId("accept-all").textContent = `Accept ${offers === 1 ? "suggestion" : `all ${offers}`}`;
  byId("done").textContent = labels().done ? "Next image" : "Done, next";
}

function hint(line) {
  byId("hint").textContent = line;
}

async function open(image, mark = null) {
  saver.flush();
  Object.assign(view, { image, selected: null, proposals: [], candidates: [], suggestions: [], touched: false, mark });
  complain("");
  known.round = -1;
  delete byId("easel").dataset.round;
  delete byId("easel").dataset.proposals;
  drawStrip(images, image, open);
  api.look(image).catch(() => {});
  try {
    const answer = await api.labels(image);
    if (view.image !== image) return;
    view.size = { width: answer.width, height: answer.height };
    if (!kept.has(image)) kept.set(image, { boxes: answer.boxes, done: answer.done });
    easel.open(api.imageAddress(image), view.size);
    byId("easel").setAttribute("aria-label", `${images[image].name}, image ${image + 1} of ${images.length}`);
    hint(`${images[image].name} · ${image + 1} of ${images.length}${labels().done ? " · done" : ""}`);
  } catch (error) {
    if (view.image !== image) return;
    view.size = null;
    images[image].failed = true;
    easel.open("", null, error.message);
    hint(images[image].name);
  }
  refresh();
  poll();
}

const step = (by) => open((view.image + by + images.length) % images.length);

// The image that teaches most, or else the next one that is not finished.
function openNext() {
  const isOpen = (image) => !images[image].done && !images[image].failed && image !== view.image;
  const wanted = (known.state.next ?? []).find(isOpen);
  const order = images.map((_, offset) => (view.image + offset) % images.length);
  const next = wanted ?? order.find(isOpen);
  if (next === undefined) return hint("All images are done. Export the model, or check the labels that it doubts.");
  return open(next);
}

// ---- changes of labels: each is a new value, saved at once and undone as one

function put(next, image = view.image, undoable = true) {
  const before = kept.get(image) ?? NOTHING;
  if (undoable) history.add(image, before, next);
  kept.set(image, next);
  view.touched = true;
  Object.assign(images[image], { boxes: next.boxes.length, done: next.done });
  for (const { label } of next.boxes) if (!classes.includes(label)) classes.push(label);
  saver.put(image, next);
  drawStrip(images, view.image, open);
  refresh();
}

function took(answer) {
  // the server's order is that of the file; names that are not used yet stay at the end
  const own = classes.filter((name) => !answer.class_names.includes(name));
  classes.splice(0, classes.length, ...answer.class_names, ...own);
  refresh();
}

const withBoxes = (boxes) => ({ ...labels(), boxes });

async function travel(change) {
  if (!change) return;
  if (change.image !== view.image) await open(change.image);
  view.selected = null;
  put(change.labels, change.image, false);
}

async function drawn(box) {
  const { image, size } = view;
  if (!size) return;
  const label = view.current || (await askName());
  if (!label || view.image !== image) return;
  useName(label);
  put(withBoxes([...labels().boxes, { label, box }]));
  view.selected = labels().boxes.length - 1;
  hint(`${label} at ${box.join(" ")}. Drag its handles to correct it.`);
  refresh();
}

// The box of the proposals that fits best around a point; [ and ] show others.
function snap(point) {
  const usual = labels().boxes.map(({ box }) => box);
  view.candidates = around(point, view.proposals, usual, view.size).map((box) => inside(box, view.size));
  if (!view.candidates.length) {
    view.selected = null;
    refresh();
    return hint(view.proposals.length ? "Nothing to snap to here: drag to draw a box." : "Drag to draw a box.");
  }
  const [best] = view.candidates;
  view.candidates.sort((a, b) => (a[2] - a[0]) * (a[3] - a[1]) - (b[2] - b[0]) * (b[3] - b[1]));
  return drawn(best).then(() => hint("Snapped. [ and ] try smaller and larger boxes, Del removes it."));
}

function resnap(by) {
  const box = labels().boxes[view.selected]?.box;
  const index = view.candidates.findIndex((each) => each.join() === box?.join());
  const next = view.candidates[index + by];
  if (index >= 0 && next) change(view.selected, next);
}

function select(index) {
  view.selected = index === view.selected ? null : index;
  view.touched = true;
  refresh();
}

function change(index, box) {
  const own = labels().boxes;
  if (index < own.length) {
    put(withBoxes(own.map((each, row) => (row === index ? { ...each, box } : each))));
    view.selected = index;
  } else {
    // a suggestion that is moved is accepted
    put(withBoxes([...own, { label: shown()[index].label, box }]));
    view.selected = own.length;
  }
  refresh();
}

function accept(index) {
  const { label, box } = shown()[index];
  put(withBoxes([...labels().boxes, { label, box: inside(box, view.size) }]));
  view.selected = labels().boxes.length - 1;
  refresh();
}

function acceptAll() {
  const offers = shown().filter(({ suggested }) => suggested);
  if (offers.length) put(withBoxes([...labels().boxes, ...offers.map(({ label, box }) => ({ label, box: inside(box, view.size) }))]));
}

function remove(index) {
  const own = labels().boxes;
  if (index < own.length) {
    put(withBoxes(own.filter((_, row) => row !== index)));
    // what was deleted is not suggested again
    reject(own[index]);
  } else reject(shown()[index]);
  view.selected = null;
  refresh();
}

function reject({ label, box }) {
  view.touched = true;
  rejected.set(view.image, [...(rejected.get(view.image) ?? []), { label, box }]);
  if (view.mark?.box === box) view.mark = null;
}

function finish() {
  if (!view.size) return openNext();
  if (!labels().done) put({ ...labels(), done: true });
  return openNext();
}

function nothingHere() {
  if (!view.size) return;
  put({ boxes: [], done: true });
  openNext();
}

// ---- classes

function useName(name) {
  view.current = name;
  if (!classes.includes(name)) classes.push(name);
}

function useClass(name) {
  useName(name);
  const chosen = shown()[view.selected];
  if (chosen && chosen.label !== name) {
    if (chosen.suggested) put(withBoxes([...labels().boxes, { label: name, box: inside(chosen.box, view.size) }]));
    else put(withBoxes(labels().boxes.map((each, row) => (row === view.selected ? { ...each, label: name } : each))));
    hint(`The selected box is ${name} now. To name only the next ones, press Esc before.`);
  }
  refresh();
  byId("easel").focus({ preventScroll: true });
}

async function renameClass(name) {
  const next = await askName(name, `Rename “${name}”`);
  if (!next || next === name) return;
  await saver.flush();
  try {
    const used = [...kept.values()].some(({ boxes }) => boxes.some(({ label }) => label === name)) || images.some(({ boxes }) => boxes);
    const answer = used ? await api.rename(name, next).catch((error) => { if (/no class/.test(error.message)) return null; throw error; }) : null;
    const renamed = ({ boxes, done }) => ({ boxes: boxes.map((each) => (each.label === name ? { ...each, label: next } : each)), done });
    for (const [image, each] of kept) kept.set(image, renamed(each));
    for (const each of [...history.past, ...history.future]) Object.assign(each, { before: renamed(each.before), after: renamed(each.after) });
    const place = classes.indexOf(name);
    if (classes.includes(next)) classes.splice(place, 1);
    else classes[place] = next;
    if (view.current === name) view.current = next;
    view.suggestions = [];
    if (answer) took(answer);
    refresh();
  } catch (error) {
    complain(error.message);
  }
}

// The name that the user gives; null if none is given.
function askName(value = "", title = "What is it?") {
  const dialog = byId("naming");
  byId("naming-title").textContent = title;
  byId("naming-name").value = value;
  dialog.returnValue = "";
  dialog.showModal();
  byId("naming-name").select();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue.trim().replace(/\s+/g, " ") || null), { once: true }));
}

// ---- the learner

let polling = null;

async function poll() {
  clearTimeout(polling);
  polling = setTimeout(poll, POLL);
  const { image } = view;
  let state;
  try {
    state = await api.state(image);
  } catch {
    return learnerSays("lost", "The server cannot be reached");
  }
  if (view.image !== image) return;
  known.state = state;
  for (const number of Object.keys(state.failed)) images[number].failed = true;
  learnerSays(state.state, learning(state));
  seekMore();
  if (state.proposed && !view.proposals.length) propose(image);
  if (state.suggestions && state.suggestions.round !== known.round && maySuggest()) {
    known.round = state.suggestions.round;
    view.suggestions = state.suggestions.boxes.map(({ box, ...rest }) => ({ ...rest, box: box.map(Math.round) }));
    byId("easel").dataset.round = known.round;
    refresh();
  }
  if (state.curve.length !== known.curve) {
    known.curve = state.curve.length;
    drawCurve(state.curve.filter(({ AP50 }) => AP50 !== null));
    drawQuality(state.quality, ({ image: doubtful, box }) => showBox(doubtful, box));
  }
  const next = state.next.filter((number) => !images[number].done).slice(0, 5);
  if (next.join() !== known.next) {
    known.next = next.join();
    byId("next-help").hidden = next.length > 0;
    drawTiles("next-list", next.map((number) => ({ image: number, title: images[number].name, caption: "" })), (entry) => open(entry.image));
  }
}

async function propose(image) {
  const boxes = await api.proposals(image).catch(() => []);
  if (view.image !== image) return;
  view.proposals = boxes;
  byId("easel").dataset.proposals = boxes.length;
}

// Suggestions never change under the hand of someone who works on them.
function maySuggest() {
  return !view.touched || !shown().some(({ suggested }) => suggested);
}

function learnerSays(state, line) {
  byId("model").dataset.state = state === "ready" ? "ready" : state;
  byId("model").textContent = line;
}

const nRead = ({ computed = 0, failed = {} }) => computed + Object.keys(failed).length;

function learning({ state, round, ...rest }) {
  if (state === "loading") return "The detector is loading; label already";
  if (state === "lost") return "The detector has stopped; labels are still saved";
  const features = nRead(rest) < images.length ? ` · ${nRead(rest)} of ${images.length} images read` : "";
  if (!round.round) return `Ready to learn${features}`;
  return `Learned from ${round.images} ${round.images === 1 ? "image" : "images"}, ${round.objects} ${round.objects === 1 ? "box" : "boxes"}${features}`;
}

async function showBox(image, box) {
  await open(image);
  const row = labels().boxes.findIndex((each) => iou(each.box, box) > 0.9);
  view.selected = row < 0 ? null : row;
  refresh();
}

async function findSimilar() {
  const chosen = shown()[view.selected];
  if (!chosen) return;
  Object.assign(similar, { image: view.image, label: chosen.label, box: chosen.box });
  try {
    await showSimilar();
    byId("similar-card").hidden = false;
    byId("similar-card").scrollIntoView({ block: "nearest" });
  } catch (error) {
    complain(error.message);
  }
}

async function showSimilar() {
  const { image: own, label, box: wanted, read } = Object.assign(similar, { read: nRead(known.state) });
  const matches = await api.similar(own, wanted);
  if (wanted !== similar.box) return;
  const entries = matches.slice(0, 24).map(({ image, box, similarity }) => ({ image, title: images[image].name, caption: similarity.toFixed(2), box }));
  drawTiles("similar-list", entries, (entry) => open(entry.image, { label, box: inside(entry.box, { width: Infinity, height: Infinity }) }));
  byId("similar-line").textContent = read < images.length ? `${read} of ${images.length} images are read so far; more may come.` : `${matches.length} images, the most similar first.`;
}

// Seek again while images are read: each time among a quarter more, since a search takes up to a second.
function seekMore() {
  const read = nRead(known.state);
  if (byId("similar-card").hidden || read === similar.read) return;
  if (read >= images.length || read >= similar.read * 1.25) showSimilar().catch(() => {});
}

// ---- files

async function exportAs() {
  byId("file-line").textContent = "Writing …";
  await saver.flush();
  byId("file-line").textContent = await api.exportAs(byId("export-format").value).then(({ line }) => line, (error) => error.message);
}

async function importFile(file) {
  byId("file-line").textContent = "Reading …";
  try {
    byId("file-line").textContent = (await api.importLabels(file)).line;
    kept.clear();
    await load();
    await open(view.image);
  } catch (error) {
    byId("file-line").textContent = error.message;
  }
}

async function load() {
  const project = await api.project();
  byId("project-name").textContent = `Teach: ${project.photos}`;
  document.title = `Teach: ${project.photos}`;
  images.splice(0, images.length, ...project.images);
  took(project);
  view.current ||= classes[0] ?? "";
  byId("export-format").replaceChildren(...project.exports.map((name) => new Option(["model", "report"].includes(name) ? name : `${name.toUpperCase()} labels`, name)));
}

// ---- keys and buttons

const KEYS = {
  n: () => step(1), p: () => step(-1), d: finish, 0: nothingHere, b: addBox, s: findSimilar, f: () => easel.fit(), a: acceptAll,
  "+": () => easel.zoomBy(1.5), "=": () => easel.zoomBy(1.5), "-": () => easel.zoomBy(1 / 1.5), "[": () => resnap(-1), "]": () => resnap(1),
  "?": () => byId("help").showModal(), Delete: removeSelected, Backspace: removeSelected,
  Escape: () => { view.selected = null; easel.cancel(); refresh(); },
};

function addBox() {
  if (!view.size) return;
  const { width, height } = view.size;
  drawn(inside([width * 0.4, height * 0.4, width * 0.6, height * 0.6], view.size)).then(() => byId("easel").focus());
}

function removeSelected() {
  if (view.selected !== null) remove(view.selected);
}

function enter() {
  if (view.selected === null) acceptAll();
  else if (shown()[view.selected].suggested) accept(view.selected);
}

function arrow(event, dx, dy) {
  const chosen = shown()[view.selected];
  if (!chosen) return dx ? step(dx) : undefined;
  const far = event.ctrlKey || event.metaKey ? 10 : 1;
  const [x1, y1, x2, y2] = chosen.box;
  const box = event.shiftKey ? inside([x1, y1, Math.max(x1 + 1, x2 + dx * far), Math.max(y1 + 1, y2 + dy * far)], view.size) : moved(chosen.box, dx * far, dy * far, view.size);
  return change(view.selected, box);
}

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function tab(event) {
  const boxes = shown();
  if (document.activeElement !== byId("easel") || !boxes.length) return;
  const next = view.selected === null ? (event.shiftKey ? boxes.length - 1 : 0) : view.selected + (event.shiftKey ? -1 : 1);
  // after the last box, the focus leaves the image
  if (next < 0 || next >= boxes.length) { view.selected = null; refresh(); return; }
  event.preventDefault();
  view.selected = next;
  hint(`${boxes[next].label}${boxes[next].suggested ? ", suggested" : ""}, ${next + 1} of ${boxes.length}`);
  refresh();
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog") || event.altKey) return;
  if (event.key === "Tab") return tab(event);
  const control = event.ctrlKey || event.metaKey;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (ARROWS[key] && !event.target.closest(".strip")) { event.preventDefault(); return arrow(event, ...ARROWS[key]); }
  if (control && key === "z") { event.preventDefault(); return travel(event.shiftKey ? history.redo() : history.undo()); }
  if (control && key === "y") { event.preventDefault(); return travel(history.redo()); }
  if (control) return;
  if (key === "Enter") { if (!event.target.closest("button")) enter(); return; }
  if (/^[1-9]$/.test(key)) { if (classes[key - 1]) useClass(classes[key - 1]); return; }
  if (KEYS[key]) { event.preventDefault(); KEYS[key](); }
});

const on = (id, type, listener) => byId(id).addEventListener(type, listener);
on("undo", "click", () => travel(history.undo()));
on("redo", "click", () => travel(history.redo()));
on("zoom-in", "click", () => easel.zoomBy(1.5));
on("zoom-out", "click", () => easel.zoomBy(1 / 1.5));
on("zoom-fit", "click", () => easel.fit());
on("add-box", "click", addBox);
on("delete", "click", removeSelected);
on("similar", "click", findSimilar);
on("similar-close", "click", () => { byId("similar-card").hidden = true; });
on("accept-all", "click", acceptAll);
on("nothing-here", "click", nothingHere);
on("done", "click", finish);
on("previous", "click", () => step(-1));
on("next", "click", () => step(1));
on("help-open", "click", () => byId("help").showModal());
on("export", "click", exportAs);
on("import", "click", () => byId("import-file").click());
on("import-file", "change", (event) => { const [file] = event.target.files; event.target.value = ""; if (file) importFile(file); });
on("add-class", "submit", (event) => {
  event.preventDefault();
  const name = byId("class-name").value.trim().replace(/\s+/g, " ");
  byId("class-name").value = "";
  if (name) useClass(name);
});
on("naming-form", "submit", (event) => { event.preventDefault(); byId("naming").close(byId("naming-name").value); });
on("naming-cancel", "click", () => byId("naming").close(""));
window.addEventListener("pagehide", () => saver.flush());

load().then(() => {
  if (!images.some(({ done, boxes }) => done || boxes)) byId("help").showModal();
  const first = images.findIndex(({ done }) => !done);
  return open(Math.max(0, first));
}).catch((error) => complain(error.message === "Not Found" ? "Start this page by: spp teach PHOTOS/ (this server only detects)" : error.message));
