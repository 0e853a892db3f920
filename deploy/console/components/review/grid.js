// Show many images with their predictions: deselect the wrong ones, confirm the rest.

import { inWords } from "./labels.js";
import { colourOf } from "./stage.js";

export const CELLS = 24;

export default {
  props: { items: Array, useCase: Object, left: Number },
  emits: ["confirm"],
  template: `
<div class="vr-grid-page">
  <div class="vr-bar">
    <button type="button" class="vr-btn vr-main" :disabled="!rest.length" @click="confirm">Confirm {{ rest.length }} <kbd class="vo-key">Enter</kbd></button>
    <span class="vo-muted">Click, or Space, takes a wrong one out. {{ out.size + left ? (out.size + left) + ' taken out: they wait in the single view (g).' : '' }}</span>
  </div>
  <p v-if="!items.length" class="vo-muted">Nothing with a prediction waits.</p>
  <ul class="vr-cells" ref="cells">
    <li v-for="(item, place) in items" :key="item.id">
      <button type="button" class="vr-cell" :class="{'vr-out': out.has(item.id)}" :aria-pressed="!out.has(item.id)"
              :aria-label="words(item) + (out.has(item.id) ? ', taken out' : ', will be confirmed')" :data-item="item.id"
              @click="toggle(item.id)" @keydown="step($event, place)">
        <span class="vr-thumb" :style="{aspectRatio: item.image.width + '/' + item.image.height}">
          <img :src="item.image.url" alt="" draggable="false" @load="seen.add(item.id)">
          <svg v-if="useCase.task === 'detection'" :viewBox="'0 0 ' + item.image.width + ' ' + item.image.height" aria-hidden="true">
            <rect v-for="(one, at) in item.predicted_label.boxes" :key="at" :x="one.box[0]" :y="one.box[1]" :width="one.box[2] - one.box[0]"
                  :height="one.box[3] - one.box[1]" :stroke="colour(one.class_name)"></rect></svg>
        </span>
        <span class="vr-clip">{{ words(item) }}</span>
        <span class="vr-verdict" aria-hidden="true">{{ out.has(item.id) ? '✕' : '✓' }}</span>
      </button>
    </li>
  </ul>
</div>`,
  data: () => ({ out: new Set(), seen: new Set() }),
  computed: {
    // Images that were never visible are not confirmed.
    rest() {
      return this.items.filter((item) => !this.out.has(item.id) && this.seen.has(item.id));
    },
  },
  methods: {
    words(item) {
      return inWords(this.useCase.task, item.predicted_label);
    },
    colour(name) {
      return colourOf(this.useCase.scheme.class_names.indexOf(name));
    },
    toggle(id) {
      if (!this.out.delete(id)) this.out.add(id);
    },
    step(event, place) {
      const cells = [...this.$refs.cells.querySelectorAll(".vr-cell")];
      const row = cells.filter((cell) => cell.getBoundingClientRect().top === cells[0].getBoundingClientRect().top).length;
      const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[event.key];
      if (event.key === "Enter") {
        event.preventDefault();
        event.stopPropagation();
        if (!event.repeat) this.confirm();
      } else if (by && cells[place + by]) {
        event.preventDefault();
        cells[place + by].focus();
      }
    },
    confirm() {
      if (!this.rest.length) return;
      const out = [...this.out];
      this.$emit("confirm", this.rest.map((item) => item.id), out);
      this.out.clear();
      this.$nextTick(() => this.focus());
    },
    focus() {
      this.$refs.cells.querySelector(".vr-cell")?.focus({ preventScroll: true });
    },
  },
};
