// The timeline of a film: a row for each class, a bar for each frame, as high as the number of objects shown there.

import { classColor, css } from "./colors.js";
import { byId, element, svg } from "./elements.js";
import { clock } from "./film.js";

// `frames` are the items of one film, `active` the one in view; `select(item)` shows another.
export function drawTimeline(frames, active, filter, select) {
  byId("timeline-card").hidden = !frames.length;
  if (!frames.length) return;
  const rows = new Map(); // class name -> {index, counts by frame}
  frames.forEach(({ result }, i) => {
    for (const { label, index } of result ? filter.shown(result) : []) {
      if (!rows.has(label)) rows.set(label, { index, counts: new Array(frames.length).fill(0) });
      rows.get(label).counts[i] += 1;
    }
  });
  const done = frames.filter(({ result, error }) => result || error).length;
  const { step, duration } = active.film;
  byId("timeline-count").textContent = `${done} of ${frames.length} frames`;
  byId("timeline-help").textContent = `One frame every ${step === 1 ? "second" : `${step.toFixed(1)} s`}, ${clock(duration)} in all. ${rows.size ? "Click a bar, or use the arrow keys." : "Nothing was found yet."}`;
  const seen = ({ counts }) => counts.filter(Boolean).length;
  const most = Math.max(1, ...[...rows.values()].flatMap(({ counts }) => counts));
  const list = [...rows].sort(([, a], [, b]) => seen(b) - seen(a)).flatMap(([label, row]) => [
    element("dt", {}, label),
    element("dd", {}, track(row, frames, active, most, label, select), `${seen(row)}`),
  ]);
  byId("timeline").replaceChildren(...list);
}

function track({ index, counts }, frames, active, most, label, select) {
  const bars = counts.map((count, i) => svg("rect", { x: i, y: 1 - count / most, width: 1, height: count / most, fill: css(classColor(index)) }));
  const line = svg("line", { x1: frames.indexOf(active) + 0.5, x2: frames.indexOf(active) + 0.5, y1: 0, y2: 1, class: "now" });
  const first = frames[counts.findIndex(Boolean)];
  const name = `${label} in ${counts.filter(Boolean).length} of ${frames.length} frames, first at ${clock(first.time)}`;
  const node = svg("svg", { role: "img", "aria-label": name, viewBox: `0 0 ${frames.length} 1`, preserveAspectRatio: "none" }, ...bars, line);
  node.addEventListener("click", ({ clientX }) => {
    const { left, width } = node.getBoundingClientRect();
    select(frames[Math.min(frames.length - 1, Math.max(0, Math.floor(((clientX - left) / width) * frames.length)))]);
  });
  return node;
}
