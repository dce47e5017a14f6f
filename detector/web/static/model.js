// Whether the model is there, which the page asks the server from time to time.

import { health } from "./api.js";
import { byId } from "./elements.js";

// `leastScore` is that of the recipe: what scores less is no detection at all
export const model = { state: "loading", leastScore: -0.8 };

export async function watchModel() {
  let line = "Model is loading …";
  try {
    const answer = await health();
    model.state = answer.status;
    if (model.state === "ready") {
      model.leastScore = answer.min_score;
      line = `Ready, ${answer.class_names.length} classes`;
    }
  } catch {
    model.state = "lost";
    line = "Server is gone";
  }
  const node = byId("model");
  node.dataset.state = model.state;
  if (node.textContent !== line) node.textContent = line; // a screen reader reads it whenever it is set
  setTimeout(watchModel, model.state === "loading" ? 300 : 5000);
}
