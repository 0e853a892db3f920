// Boxes are [x1, y1, x2, y2] in pixels of the image; a view is {x, y, scale}: screen = image * scale + (x, y).

const SMALLEST = 1;
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const rounded = (box) => box.map((value) => Math.round(value * 100) / 100);

export function moved(box, dx, dy, width, height) {
  const x = clamp(dx, -box[0], width - box[2]);
  const y = clamp(dy, -box[1], height - box[3]);
  return rounded([box[0] + x, box[1] + y, box[2] + x, box[3] + y]);
}

// `handle` names the edges to move: n, s, w, e, or two of them. An edge never crosses the opposite one.
export function resized(box, handle, dx, dy, width, height) {
  let [x1, y1, x2, y2] = box;
  if (handle.includes("w")) x1 = clamp(x1 + dx, 0, x2 - SMALLEST);
  if (handle.includes("e")) x2 = clamp(x2 + dx, x1 + SMALLEST, width);
  if (handle.includes("n")) y1 = clamp(y1 + dy, 0, y2 - SMALLEST);
  if (handle.includes("s")) y2 = clamp(y2 + dy, y1 + SMALLEST, height);
  return rounded([x1, y1, x2, y2]);
}

// Return the box between two corners; null if it is too small.
export function spanned(from, to, width, height) {
  const xs = [clamp(from.x, 0, width), clamp(to.x, 0, width)].sort((a, b) => a - b);
  const ys = [clamp(from.y, 0, height), clamp(to.y, 0, height)].sort((a, b) => a - b);
  if (xs[1] - xs[0] < 2 * SMALLEST || ys[1] - ys[0] < 2 * SMALLEST) return null;
  return rounded([xs[0], ys[0], xs[1], ys[1]]);
}

export function area(box) {
  return (box[2] - box[0]) * (box[3] - box[1]);
}

export function fitted(image, stage) {
  const scale = Math.min(stage.width / image.width, stage.height / image.height, 12) * 0.98;
  return { scale, x: (stage.width - image.width * scale) / 2, y: (stage.height - image.height * scale) / 2 };
}

// Zoom so that the point of the image under the pointer stays in place.
export function zoomed(view, factor, point) {
  const scale = clamp(view.scale * factor, 0.02, 60);
  const ratio = scale / view.scale;
  return { scale, x: point.x - (point.x - view.x) * ratio, y: point.y - (point.y - view.y) * ratio };
}

export function toImage(view, point) {
  return { x: (point.x - view.x) / view.scale, y: (point.y - view.y) / view.scale };
}
