// The page: opened images, what is shown of them, and what the user asks for.

import { ApiError, detect } from "./api.js";
import { byId, complain, element } from "./elements.js";
import { Explanations } from "./explanation.js";
import { framesOf, looksLikeFilm } from "./film.js";
import { How } from "./how.js";
import { bitmapOf, ownBitmap, takeImages } from "./images.js";
import { model, modelLoaded, watchModel } from "./model.js";
import { Filter, drawList, drawTimes } from "./results.js";
import { saveImage, saveJson } from "./saving.js";
import { addThumbnails, markThumbnails, paintThumbnail } from "./strip.js";
import { drawTimeline } from "./timeline.js";
import { Viewer } from "./viewer.js";

const MAX_PROPOSALS = 2000;
const CORNERS = ["x1", "y1", "x2", "y2"];

const items = []; // {name, file, state, result, error, bitmap, tiles, explanations}; frames have {film, time, load()}, too
const events = { activate, hover: (detection) => explanations.hover(detection), select: toggle, draw: explainOwn };
const viewers = [new Viewer(events), new Viewer(events)];
const filter = new Filter(refresh);
const desk = { viewers, active: viewers[0], filter, refresh, redrawExplanation: () => explanations.redraw(), closeExplanation };
const how = new How(desk);
const explanations = new Explanations(desk, how);
const ownForm = byId("own-card");
let mode = "detections";
let busy = false;

const viewed = () => viewers.filter(({ root }) => root.isConnected).map(({ item }) => item);

// ---- images come in; one after the other goes to the server

async function open(files) {
  const films = files.filter(looksLikeFilm);
  const images = files.filter((file) => !films.includes(file));
  const faults = files.length ? [] : ["There is no image or film among these files."];
  if (images.length) add(images.map((file) => ({ name: file.name || "pasted image", file })), true);
  for (const film of films) {
    byId("status").textContent = `Reading ${film.name} …`;
    try {
      add(await framesOf(film), !items.length); // what is in view stays
    } catch (error) {
      faults.push(error.message);
      byId("status").textContent = "";
    }
  }
  complain(faults.join(" "));
}

function add(opened, inView) {
  const first = items.length;
  items.push(...opened.map((item) => ({ ...item, state: "waiting", explanations: new Map() })));
  byId("welcome").hidden = true;
  byId("tools").hidden = byId("results").hidden = false;
  byId("side-by-side").hidden = items.length < 2;
  document.querySelector(".layout").classList.add("working");
  if (!viewers[0].root.isConnected) byId("stages").append(viewers[0].root);
  addThumbnails(items, (item) => select(item));
  if (inView) select(items[first]);
  work();
}

async function work() {
  if (busy) return;
  busy = true;
  // images in view go first
  const next = () => [...viewed(), ...items].find((item) => item.state === "waiting");
  for (let item = next(); item; item = next()) await process(item);
  busy = false;
}

async function process(item) {
  item.state = "working";
  const start = performance.now();
  const clock = setInterval(() => showProgress(item, (performance.now() - start) / 1000), 100);
  try {
    item.file ??= await item.load();
    item.bitmap ??= await ownBitmap(item.file);
    redraw(item);
    await modelLoaded;
    const asked = tiles();
    const result = await detect(item.file, { name: item.name, min_score: model.minScore, proposals: MAX_PROPOSALS, ...asked });
    if (desk.active.item === item) explanations.close();
    item.explanations.clear();
    Object.assign(item, { result, tiles: asked });
    const { width, height } = item.result;
    if (item.bitmap?.width !== width || item.bitmap?.height !== height) item.bitmap = await bitmapOf(item.file, item.result);
    item.state = asked.tiles === tiles().tiles ? "done" : "waiting"; // other tiles were chosen meanwhile
  } catch (error) {
    if (!(error instanceof ApiError)) console.error(error);
    item.result = undefined;
    item.error = error instanceof ApiError ? error.message : "This image cannot be shown.";
    item.state = "failed";
  }
  clearInterval(clock);
  redraw(item);
  release(item);
  announce(item);
}

// Free the pixels of images out of view; hundreds would fill the memory.
function release(item) {
  if (viewed().includes(item) || item.state === "waiting" || item.state === "working") return;
  item.bitmap?.close();
  item.bitmap = null;
}

function showProgress(item, seconds) {
  const text = model.state === "loading" ? "The model is still loading" : "Looking for objects";
  for (const viewer of viewers) if (viewer.item === item) viewer.progress(`${text} … ${seconds.toFixed(1)} s`);
}

function announce(item) {
  // an image in view shows its error itself
  if (item.error) complain(`${item.name}: ${item.error}`, viewed().includes(item));
  const waiting = items.filter(({ state }) => state === "waiting").length;
  const rest = items.length > 1 ? `${items.length - waiting} of ${items.length} images done. ` : "";
  byId("status").textContent = rest + summary(desk.active.item);
}

function summary({ name, result }) {
  if (!result) return "";
  const names = filter.shown(result).map(({ label }) => label);
  return names.length ? `Found in ${name}: ${names.join(", ")}.` : `Found nothing in ${name} above the threshold.`;
}

// ---- what is shown

function redraw(item) {
  for (const viewer of viewers) if (viewer.item === item) viewer.show(item);
  if (item.bitmap) paintThumbnail(item);
  filter.range(Math.max(0, ...items.flatMap(({ result }) => result?.detections[0]?.score ?? [])));
  fillClasses();
  refresh();
}

function refresh() {
  const slider = byId("proposal-count");
  for (const viewer of viewers) {
    const result = viewer.item?.result;
    viewer.drawBoxes(result && mode !== "proposals" ? filter.shown(result) : []);
    viewer.drawProposals(result && mode === "proposals" ? result.proposals.slice(0, slider.value) : []);
    viewer.drawing = mode === "draw";
    viewer.root.classList.toggle("active", viewer === desk.active);
  }
  markThumbnails(items, viewed(), filter);
  const { result, film } = desk.active.item ?? {};
  drawTimeline(film ? items.filter((item) => item.film === film) : [], desk.active.item, filter, (item) => select(item));
  how.refresh(desk.active.item);
  byId("results").classList.toggle("empty", !result);
  for (const id of ["save-json", "save-image"]) byId(id).disabled = !result;
  if (!result) return;
  filter.drawChips(result);
  drawList(filter.shown(result), result.detections.length, explanations.selected, { hover: events.hover, select: toggle });
  drawTimes(result.times);
  slider.max = result.proposals.length;
  byId("proposal-value").textContent = slider.value;
  byId("proposal-total").textContent = `${result.n_proposals} in all`;
}

async function select(item, viewer = desk.active) {
  const before = viewer.item;
  viewer.show(item);
  explanations.close();
  complain("");
  byId("status").textContent = summary(item);
  if (before) release(before);
  fillClasses();
  refresh();
  item.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  if (item.state === "done" && !item.bitmap) {
    item.bitmap = await bitmapOf(item.file, item.result);
    if (viewer.item === item) viewer.show(item);
    refresh();
  }
}

function step(by) {
  if (items.length) select(items.at((items.indexOf(desk.active.item) + by) % items.length));
}

function activate(viewer) {
  if (viewer === desk.active) return;
  desk.active = viewer;
  explanations.close();
  refresh();
}

function toggleSideBySide() {
  const [first, second] = viewers;
  const two = !second.root.isConnected;
  byId("side-by-side").setAttribute("aria-pressed", String(two));
  byId("stages").classList.toggle("two", two);
  if (two) {
    byId("stages").append(second.root);
    select(items[(items.indexOf(first.item) + 1) % items.length], second);
  } else {
    second.root.remove();
    activate(first);
    refresh();
  }
}

// The option of the API for tiles; {} for the model's.
const tiles = () => (byId("tiles").value ? { tiles: byId("tiles").value } : {});

function closeExplanation() {
  if (!explanations.selected) return;
  explanations.close();
  refresh();
}

// Search all images again: what is shown stays until its turn comes.
function searchAgain() {
  explanations.close();
  for (const item of items) {
    if (item.state === "working") continue; // it sees the choice at its end
    item.state = "waiting";
    item.error = undefined;
  }
  for (const viewer of viewers) if (viewer.item) viewer.show(viewer.item);
  refresh();
  work();
}

// ---- explanations, and the user's own box

function toggle(detection) {
  if (mode !== "draw") explanations.toggle(detection);
}

function fillClasses() {
  const result = desk.active.item?.result;
  const list = ownForm.elements.class;
  if (!result || list.length) return;
  list.replaceChildren(...result.class_names.map((name) => element("option", {}, name)));
  if (result.detections.length) list.value = result.detections[0].label;
}

function explainOwn(box) {
  CORNERS.forEach((name, i) => { ownForm.elements[name].value = box[i]; });
  desk.active.mark(box, null);
  explanations.show({ own: true, box, label: ownForm.elements.class.value });
}

function explainTyped() {
  if (ownForm.reportValidity()) explainOwn(CORNERS.map((name) => Number(ownForm.elements[name].value)));
}

function setMode(next) {
  mode = next;
  byId("proposal-card").hidden = mode !== "proposals";
  ownForm.hidden = mode !== "draw";
  explanations.close();
  refresh();
}

// ---- wiring

const on = (id, type, listener) => byId(id).addEventListener(type, listener);

takeImages({ drop: byId("stages"), files: byId("files"), folder: byId("folder"), open });
byId("choose-folder").hidden = !("webkitdirectory" in byId("folder"));
on("choose", "click", () => byId("files").click());
on("choose-here", "click", () => byId("files").click());
on("choose-folder", "click", () => byId("folder").click());
on("samples", "click", async (event) => {
  const name = event.target.closest("button")?.dataset.sample;
  if (!name) return;
  const answer = await fetch(`samples/${name}`);
  open([new File([await answer.blob()], name)]);
});
on("modes", "change", (event) => setMode(event.target.value));
on("proposal-count", "input", refresh);
on("tiles", "change", searchAgain);
on("side-by-side", "click", toggleSideBySide);
on("previous", "click", () => step(-1));
on("next", "click", () => step(1));
on("save-json", "click", () => saveJson(items, filter));
on("save-image", "click", () => saveImage(desk.active.item, desk.active.canvas, filter.shown(desk.active.item.result)));
on("own-card", "submit", (event) => { event.preventDefault(); explainTyped(); });
ownForm.elements.class.addEventListener("change", () => explanations.selected?.own && explainTyped());
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "ArrowRight") step(1);
  else if (event.key === "ArrowLeft") step(-1);
  else if (event.key === "Escape") { explanations.close(); refresh(); }
});
watchModel();
