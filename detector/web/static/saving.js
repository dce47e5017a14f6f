// Downloads: the records of spp detect as JSON, and the image with its boxes.

import { classColor, contrast, css } from "./colors.js";
import { confidence } from "./elements.js";
import { clock } from "./film.js";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const stem = (name) => name.replace(/\.[^.]*$/, "") || "image";
// Name of a file for an item: a frame has its time, "film_1m05s".
const fileStem = ({ name, film, time }) => (film ? `${stem(film.name)}_${clock(time).replace(":", "m")}s` : stem(name));

// The detections shown of every image, as spp detect --json writes them; frames have a time.
export function saveJson(items, filter) {
  const records = items.filter(({ result }) => result).map(({ name, film, time, result }) => ({
    image: film?.name ?? name,
    time,
    width: result.width,
    height: result.height,
    detections: filter.shown(result).map(({ label, score, probability, box }) => ({ label, score, probability, box })),
  }));
  const blob = new Blob([JSON.stringify(records, null, 2), "\n"], { type: "application/json" });
  save(blob, records.length === 1 ? `${stem(records[0].image)}.json` : "detections.json");
}

export function saveImage(item, image, detections) {
  const canvas = document.createElement("canvas");
  canvas.width = image.width;
  canvas.height = image.height;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const line = Math.max(2, Math.round(Math.min(image.width, image.height) / 180));
  for (const detection of [...detections].reverse()) drawBox(context, detection, line);
  canvas.toBlob((blob) => save(blob, `${fileStem(item)}_detections.png`), "image/png");
}

function drawBox(context, detection, line) {
  const { label, box: [x1, y1, x2, y2], index } = detection;
  const color = classColor(index);
  const inner = [x1 + line / 2, y1 + line / 2, x2 - x1 - line, y2 - y1 - line];
  context.lineJoin = "round";
  context.lineWidth = line * 1.7;
  context.strokeStyle = contrast(color);
  context.strokeRect(...inner);
  context.lineWidth = line;
  context.strokeStyle = css(color);
  context.strokeRect(...inner);
  const size = Math.max(12, line * 6);
  context.font = `600 ${size}px system-ui, sans-serif`;
  const text = `${label} ${confidence(detection)}`;
  const width = context.measureText(text).width + size;
  const left = Math.max(0, Math.min(x1, context.canvas.width - width));
  const top = Math.max(0, y1 - size * 1.5);
  context.fillStyle = css(color);
  context.fillRect(left, top, width, size * 1.5);
  context.fillStyle = contrast(color);
  context.fillText(text, left + size / 2, top + size * 1.1);
}
