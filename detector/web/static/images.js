// Images that come in: dropped, pasted, chosen, or a whole folder; and how the browser shows them.

import { render } from "./api.js";
import { looksLikeFilm } from "./film.js";

const MAX_FILES = 500;

const looksLikeImage = (file) => file.type.startsWith("image/") || /\.(jpe?g|jfif|png|webp|bmp|dib|tiff?|gif)$/i.test(file.name);
const naturally = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });

// Images and films of a folder, in natural order; files that were named one by one stay as they are.
function ofFolder(files) {
  return [...files].filter((file) => (looksLikeImage(file) || looksLikeFilm(file)) && !file.name.startsWith(".")).sort(naturally).slice(0, MAX_FILES);
}

async function dropped(transfer) {
  // entries must be taken before the first wait: the browser forgets them then
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files].slice(0, MAX_FILES);
  const files = [];
  for (const entry of entries) await collect(entry, files);
  return ofFolder(files);
}

async function collect(entry, files) {
  if (files.length >= MAX_FILES) return;
  if (entry.isFile) {
    files.push(await new Promise((resolve, reject) => entry.file(resolve, reject)));
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const each of some) await collect(each, files);
  }
}

// Call `open` with the files of every way in which the page takes images.
export function takeImages({ drop, files, folder, open }) {
  files.addEventListener("change", () => { open([...files.files].slice(0, MAX_FILES)); files.value = ""; });
  folder.addEventListener("change", () => { open(ofFolder(folder.files)); folder.value = ""; });
  document.addEventListener("paste", (event) => {
    const pasted = [...(event.clipboardData?.files ?? [])];
    if (pasted.length) open(pasted);
  });
  let depth = 0;
  document.addEventListener("dragenter", () => { depth += 1; drop.classList.add("dropping"); });
  document.addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) drop.classList.remove("dropping"); });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    depth = 0;
    drop.classList.remove("dropping");
    open(await dropped(event.dataTransfer));
  });
}

// What the browser makes of a file; null for a format that it does not know.
export function ownBitmap(file) {
  return createImageBitmap(file).catch(() => null);
}

// The image that the detector saw: the browser's, unless it does not know the format or turns it in another way.
export async function bitmapOf(file, { width, height }) {
  const bitmap = await ownBitmap(file);
  if (bitmap?.width === width && bitmap.height === height) return bitmap;
  return createImageBitmap(await render(file));
}
