// The API of `spp teach`. Errors are lines that may be shown as they are.

import { ask } from "./api.js";

const query = (path, values) => `teach/${path}?${new URLSearchParams(values)}`;
const json = async (path, options) => (await ask(path, options)).json();
const post = (path, values, body) => json(query(path, values), { method: "POST", body });

export const imageAddress = (image) => query("image", { image });
export const thumbnailAddress = (image) => query("image", { image, thumbnail: 1 });

export const project = () => json("teach/project");
export const state = (image) => json(query("state", { image }));
export const labels = (image) => json(query("labels", { image }));
export const proposals = async (image) => (await json(query("proposals", { image }))).boxes;
export const look = (image) => post("look", { image });
export const similar = async (image, box) => (await post("similar", { image, box: box.join(",") })).matches;
export const rename = (from, to) => post("rename", { from, to });
export const exportAs = (format) => post("export", { format });
export const importLabels = (file) => post("import", { name: file.name }, file);

export function saveLabels(image, { boxes, done }) {
  const body = new Blob([JSON.stringify({ boxes, done })], { type: "application/json" });
  // a page that is being closed still sends it; browsers allow that for 64 KB
  return json(query("labels", { image }), { method: "PUT", body, keepalive: body.size < 60_000 });
}
