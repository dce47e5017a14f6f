// The JSON API of this page's own server. Errors are lines that may be shown as they are.

export const MAX_BYTES = 20_000_000;

export class ApiError extends Error {}

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const readable = await options.body?.slice(0, 1).arrayBuffer().catch(() => null);
    if (readable === null) throw new ApiError("This file has changed or is gone. Open it again.");
    throw new ApiError("The server cannot be reached. Is it still running?");
  }
  if (!response.ok) {
    const line = (await response.text()).trim();
    throw new ApiError(line.charAt(0).toUpperCase() + line.slice(1));
  }
  return response;
}

async function post(path, query, file, signal) {
  const address = `${path}?${new URLSearchParams(query)}`;
  return ask(address, { method: "POST", body: file, headers: { "Content-Type": "application/octet-stream" }, signal });
}

export async function health() {
  return (await ask("health")).json();
}

export async function detect(file, query) {
  if (file.size > MAX_BYTES) throw new ApiError("This file has more than 20 MB.");
  return (await post("detect", query, file)).json();
}

// `options` hold at most one of min_score, min_probability and precision, and the tiles of the detection.
export async function explain(file, box, label, options, signal) {
  return (await post("explain", { box: box.join(","), class: label, ...options }, file, signal)).json();
}

// The merges of selective search.
export async function search(file, signal) {
  return (await post("search", {}, file, signal)).json();
}

// The image as a PNG, for formats that the browser does not know.
export async function render(file) {
  return (await post("render", {}, file)).blob();
}
