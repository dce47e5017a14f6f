// The strip of opened images: a thumbnail each, with the number of detections shown.

import { byId, element } from "./elements.js";

const [WIDTH, HEIGHT] = [176, 128];

export function addThumbnails(items, select) {
  for (const item of items.slice(byId("thumbnails").children.length)) {
    item.thumbnail = element("canvas", { "aria-hidden": "true", width: WIDTH, height: HEIGHT });
    item.badge = element("span", {}, "…");
    item.button = element("button", { type: "button", "aria-label": item.name, title: item.name }, item.thumbnail, item.badge);
    item.button.addEventListener("click", () => select(item));
    byId("thumbnails").append(element("li", {}, item.button));
  }
  byId("strip").hidden = items.length < 2;
}

export function paintThumbnail({ bitmap, thumbnail }) {
  const zoom = Math.max(WIDTH / bitmap.width, HEIGHT / bitmap.height);
  const [width, height] = [bitmap.width * zoom, bitmap.height * zoom];
  thumbnail.getContext("2d").drawImage(bitmap, (WIDTH - width) / 2, (HEIGHT - height) / 2, width, height);
}

export function markThumbnails(items, viewed, filter) {
  for (const item of items) {
    item.badge.textContent = item.error ? "!" : item.result ? filter.shown(item.result).length : "…";
    item.button.setAttribute("aria-current", String(viewed.includes(item)));
  }
}
