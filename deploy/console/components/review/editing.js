// Methods of the page that change the draft: boxes, classes, attributes.

import { moved } from "./geometry.js";
import { firstDraft } from "./labels.js";

export const editing = {
  addBox(box) {
    this.draft.boxes.push({ class_name: this.newClass, box });
    this.selected = this.draft.boxes.length - 1;
    this.$refs.stage.focusBox(this.selected);
  },
  addInMiddle() {
    const { width, height } = this.current.image;
    const at = this.$refs.stage.middle();
    const [w, h] = [Math.max(4, width / 8), Math.max(4, height / 8)];
    this.addBox(moved([0, 0, w, h], at.x - w / 2, at.y - h / 2, width, height));
  },
  setBox(place, box) {
    const { confidence, ...rest } = this.draft.boxes[place];
    this.draft.boxes[place] = { ...rest, box };
  },
  removeBox() {
    if (!this.draft?.boxes?.[this.selected]) return;
    this.draft.boxes.splice(this.selected, 1);
    this.selected = -1;
    this.$refs.stage.focus();
  },
  setClass(name) {
    if (!this.draft) return;
    if (this.task === "classification") {
      this.draft.class_name = name;
      this.confirm();
      return;
    }
    this.newClass = name;
    const box = this.draft.boxes[this.selected];
    if (box) this.draft.boxes[this.selected] = { class_name: name, box: box.box };
    else this.$refs.stage.focus();
  },
  setAnswer(at, name) {
    this.draft.attributes[this.useCase.scheme.questions[at].name] = name;
    this.question = Math.min(at + 1, this.useCase.scheme.questions.length - 1);
  },
  propose(label) {
    if (label) this.draft = firstDraft(this.useCase, { predicted_label: label });
    this.selected = -1;
  },
};
