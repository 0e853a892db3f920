// Methods of the page that handle keys; `keys.js` lists them for the help.

import { moved, resized } from "./geometry.js";
import { keyOf } from "./keys.js";
import { emptyDraft } from "./labels.js";

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export const keyboard = {
  key(event) {
    if (this.dialog || !this.useCase) return;
    const key = keyOf(event);
    if (!key) return;
    this.feed.touch();
    const isHandled = this.isGrid ? this.keyInGrid(key) : this.keyInImage(key, event);
    if (isHandled) event.preventDefault();
  },
  keyInGrid(key) {
    const work = { g: () => this.toggleGrid(), u: () => this.undo(), "?": () => (this.dialog = "help"), Enter: () => this.$refs.grid.confirm() }[key];
    work?.();
    return work !== undefined;
  },
  keyInImage(key, event) {
    if (STEPS[key]) return this.arrow(STEPS[key], event);
    const decides = { Enter: "confirm", c: "confirm", s: "skip", u: "undo" }[key];
    if (decides || (this.task === "classification" && /^[1-9]$/.test(key))) {
      if (event.repeat) return true; // holding a key down decides only once
    }
    const work = {
      "+": () => this.$refs.stage.zoom(1.25),
      "=": () => this.$refs.stage.zoom(1.25),
      "-": () => this.$refs.stage.zoom(0.8),
      0: () => this.$refs.stage.fit(),
      g: () => this.toggleGrid(),
      "?": () => (this.dialog = "help"),
      r: () => this.isReady && (this.dialog = "reject"),
      m: () => this.$refs.comment?.focus(),
      p: () => this.propose(this.current.proposed),
      z: () => this.propose(this.current.predicted_label ?? emptyDraft(this.useCase)),
      Escape: () => ((this.selected = -1), (this.isDrawing = false), this.$refs.stage.focus()),
    }[key];
    if (!this.current && !["g", "?"].includes(key) && decides !== "undo") return false;
    if (decides) this[decides]();
    else if (work) work();
    else return this.keyOfTask(key);
    return true;
  },
  keyOfTask(key) {
    const name = /^[1-9]$/.test(key) ? this.classes[Number(key) - 1] : undefined;
    if (name !== undefined && this.task === "attributes") this.setAnswer(this.question, name);
    else if (name !== undefined) this.setClass(name);
    else if (key === "x" && this.task === "attributes") this.setAnswer(this.question, null);
    else if (key === "n" && this.task === "detection") this.isDrawing = !this.isDrawing;
    else if (key === "n") this.notice = "Boxes are for detection only; choose a class or attributes here.";
    else if (key === "b" && this.task === "detection") this.addInMiddle();
    else if (["Delete", "Backspace"].includes(key)) this.removeBox();
    else return false;
    return true;
  },
  arrow([x, y], event) {
    if (!this.current) return false;
    const { width, height } = this.current.image;
    const box = this.boxes[this.selected]?.box;
    const step = event.repeat ? 4 : 1;
    if (event.shiftKey) this.$refs.stage.pan(-60 * x, -60 * y);
    else if (box && event.ctrlKey) this.setBox(this.selected, resized(box, "se", x * step, y * step, width, height));
    else if (box) this.setBox(this.selected, moved(box, x * step, y * step, width, height));
    else if (this.task === "attributes" && y) {
      this.question = Math.min(Math.max(this.question + y, 0), this.useCase.scheme.questions.length - 1);
    } else return false;
    return true;
  },
  toggleGrid() {
    this.isGrid = !this.isGrid;
    if (!this.isGrid) this.left = [];
    this.shownAt = performance.now();
    this.$nextTick(() => (this.isGrid ? this.$refs.grid : this.$refs.stage)?.focus());
  },
};
