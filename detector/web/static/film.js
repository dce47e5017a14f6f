// Films: the browser decodes them, and frames go to the server as images, one by one.

import { ApiError } from "./api.js";

const MAX_FRAMES = 120;
const MIN_STEP = 1; // seconds between frames
const QUALITY = 0.92;
const WAIT_MS = 20_000;

export const looksLikeFilm = ({ name, type }) => type.startsWith("video/") || /\.(mp4|m4v|mov|webm|mkv|avi|mpe?g)$/i.test(name);

// Frames of a film in equal steps, {name, film, time, load()}; `load` resolves to a JPEG file. A step is a second,
// and more in films of more than two minutes. Throws an ApiError for a film that the browser cannot read.
export async function framesOf(file) {
  const video = document.createElement("video");
  video.muted = true;
  video.preload = "auto";
  const loaded = happens(video, "loadeddata", `The browser cannot read ${file.name}: spp detect reads more kinds of films.`);
  video.src = URL.createObjectURL(file);
  try {
    await loaded;
    if (!Number.isFinite(video.duration)) throw new ApiError(`${file.name} has no known length: use spp detect.`);
    if (!video.videoWidth) throw new ApiError(`${file.name} has no pictures.`);
  } catch (error) {
    close(video);
    throw error;
  }
  const step = Math.max(MIN_STEP, video.duration / MAX_FRAMES);
  const count = Math.max(1, Math.ceil(video.duration / step - 1e-6));
  const film = { name: file.name, duration: video.duration, step };
  let last = Promise.resolve(); // one frame at a time: a film is in one place
  let left = count;
  return Array.from({ length: count }, (_, i) => {
    const time = i * step;
    let frame;
    const load = () => {
      frame ??= last = last.catch(() => null).then(() => frameAt(video, time)).finally(() => { left -= 1; if (!left) close(video); });
      return frame;
    };
    return { name: `${file.name} ${clock(time)}`, film, time, load };
  });
}

function close(video) {
  URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

async function frameAt(video, time) {
  const fault = `There is no frame at ${clock(time)}.`;
  if (video.currentTime !== time) {
    const sought = happens(video, "seeked", fault);
    video.currentTime = time;
    await sought;
  }
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", QUALITY); });
  if (!blob) throw new ApiError(fault);
  return blob;
}

function happens(video, type, otherwise) {
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const end = (settle, value) => { stop.abort(); clearTimeout(timer); settle(value); };
    const fail = () => end(reject, new ApiError(otherwise));
    const timer = setTimeout(fail, WAIT_MS);
    video.addEventListener(type, () => end(resolve), { signal: stop.signal });
    video.addEventListener("error", fail, { signal: stop.signal });
  });
}

// Minutes and seconds: "1:05", with tenths where frames are between seconds: "1:05.3".
export function clock(time) {
  const tenths = Math.round(10 * time);
  const seconds = (tenths % 600) / 10;
  const text = Number.isInteger(seconds) ? String(seconds) : seconds.toFixed(1);
  return `${Math.floor(tenths / 600)}:${seconds < 10 ? "0" : ""}${text}`;
}
