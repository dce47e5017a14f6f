// Boxes as [x1, y1, x2, y2], in pixels of the image.

export const area = ([x1, y1, x2, y2]) => Math.max(0, x2 - x1) * Math.max(0, y2 - y1);

export function iou(a, b) {
  const shared = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return shared ? shared / (area(a) + area(b) - shared) : 0;
}

export const contains = ([x1, y1, x2, y2], [x, y]) => x >= x1 && x < x2 && y >= y1 && y < y2;

// The box between two points, at least a pixel wide and high, inside the image.
export function between([ax, ay], [bx, by], { width, height }) {
  return inside([Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)], { width, height });
}

export function inside(box, { width, height }) {
  const limit = (value, end) => Math.round(Math.max(0, Math.min(end, value)));
  const [x1, y1] = [Math.min(limit(box[0], width), width - 1), Math.min(limit(box[1], height), height - 1)];
  return [x1, y1, Math.max(x1 + 1, limit(box[2], width)), Math.max(y1 + 1, limit(box[3], height))];
}

// Moved by (dx, dy), but not out of the image.
export function moved([x1, y1, x2, y2], dx, dy, { width, height }) {
  const x = Math.round(Math.max(-x1, Math.min(width - x2, dx)));
  const y = Math.round(Math.max(-y1, Math.min(height - y2, dy)));
  return [x1 + x, y1 + y, x2 + x, y2 + y];
}

// Proposals around a point, best first, without near copies. A box that lies around the point centrally, comes early
// among the proposals and has the size of the boxes drawn before is likely to be that of the object.
export function around(point, proposals, usual, { width, height }) {
  const scored = proposals.flatMap((box, rank) => {
    if (!contains(box, point) || area(box) > 0.9 * width * height) return [];
    const off = Math.max(Math.abs((2 * point[0] - box[0] - box[2]) / (box[2] - box[0])), Math.abs((2 * point[1] - box[1] - box[3]) / (box[3] - box[1])));
    const odd = usual.length ? Math.min(...usual.map((each) => Math.abs(Math.log(area(box) / area(each))))) : 0;
    return [{ box, cost: 1.5 * off + rank / proposals.length + 0.7 * Math.min(odd, 3) }];
  });
  scored.sort((a, b) => a.cost - b.cost);
  const kept = [];
  for (const { box } of scored) {
    if (kept.length === 12) break;
    if (kept.every((each) => iou(each, box) < 0.8)) kept.push(box);
  }
  return kept;
}
