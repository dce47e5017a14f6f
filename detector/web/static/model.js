// State and thresholds of the model, which the page polls from the server.

import { health } from "./api.js";
import { byId } from "./elements.js";

// From /health: `minScore` is the lowest score of a detection, `thresholds` are the defaults by class name.
// `tooWeak` says that no class is shown by default.
export const model = { state: "loading", calibrated: false, minScore: 0, thresholds: {}, tooWeak: false };

let resolve;
export const modelLoaded = new Promise((done) => { resolve = done; });

export async function watchModel() {
  let line = "Model is loading …";
  try {
    const answer = await health();
    model.state = answer.state ?? answer.status; // for Label Studio, the status is UP
    if (model.state === "ready") {
      model.calibrated = answer.calibrated;
      model.minScore = answer.min_score;
      model.thresholds = Object.fromEntries(answer.class_names.map((name, i) => [name, answer.thresholds[i] ?? Infinity]));
      model.tooWeak = answer.thresholds.every((each) => each === null);
      line = `Ready, ${answer.class_names.length} classes`;
    }
  } catch {
    model.state = "lost";
    line = "Server is gone";
  }
  if (model.state !== "loading") resolve();
  const node = byId("model");
  node.dataset.state = model.state;
  if (node.textContent !== line) node.textContent = line; // a screen reader reads it whenever it is set
  setTimeout(watchModel, model.state === "loading" ? 300 : 5000);
}
