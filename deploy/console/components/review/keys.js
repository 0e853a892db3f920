// List the keys of the page with their actions, for the help and for the page itself.

export const KEYS = [
  { keys: ["Enter", "c"], text: "confirm what is shown" },
  { keys: ["1 … 9"], text: "class by number; in classification this decides" },
  { keys: ["r"], text: "reject the image, with a reason" },
  { keys: ["u"], text: "take the last decision back, before it is sent" },
  { keys: ["s"], text: "skip: give the image back to the queue" },
  { keys: ["m"], text: "write a comment" },
  { keys: ["p"], text: "take the proposed label" },
  { keys: ["z"], text: "back to what the model said" },
  { keys: ["+", "-", "0"], text: "zoom in, out, whole image" },
  { keys: ["Shift + arrows"], text: "move the image" },
  { keys: ["g"], text: "grid for quick confirmation, and back" },
  { keys: ["?"], text: "this list" },
];

export const BOX_KEYS = [
  { keys: ["Tab"], text: "next box" },
  { keys: ["n"], text: "something is missing: draw it, again to stop" },
  { keys: ["b"], text: "new box in the middle" },
  { keys: ["arrows"], text: "move the box" },
  { keys: ["Ctrl + arrows"], text: "resize the box" },
  { keys: ["Delete"], text: "remove the box" },
  { keys: ["Esc"], text: "no box selected" },
];

export const ATTRIBUTE_KEYS = [
  { keys: ["↑", "↓"], text: "previous, next question" },
  { keys: ["x"], text: "cannot be said" },
];

export const GRID_KEYS = [
  { keys: ["arrows"], text: "next image" },
  { keys: ["Space"], text: "take the image out, or back in" },
  { keys: ["Enter"], text: "confirm the rest" },
];

// Return null if the focused element handles the key itself: a text field, a list, a button.
export function keyOf(event) {
  const target = event.target;
  if (event.altKey || event.metaKey || event.defaultPrevented) return null;
  if (target.closest?.("input, textarea, select, [contenteditable], .q-dialog")) return null;
  const isButton = target.closest?.("button, a[href]") != null;
  if (isButton && (event.key === "Enter" || event.key === " ")) return null;
  if (event.ctrlKey && !event.key.startsWith("Arrow")) return null;
  return event.key.length === 1 ? event.key.toLowerCase() : event.key;
}
