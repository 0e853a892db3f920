// Show the image with its boxes: zoom, pan, and draw, move and resize boxes by mouse, pen or touch.

import { area, fitted, moved, resized, spanned, toImage, zoomed } from "./geometry.js";

const HANDLES = ["nw", "n", "ne", "e", "se", "s", "sw", "w"];
const COLOURS = 9; // number of colours in console.css: --vo-class-0 and following

export function colourOf(place) {
  return `var(--vo-class-${(place < 0 ? 0 : place) % COLOURS})`;
}

export default {
  props: { items: Array, boxes: Array, selected: Number, classes: Array, isDrawing: Boolean, canDraw: Boolean, retries: Object },
  emits: ["update", "select", "drawn", "ready", "failed"],
  template: `
<div class="vr-stage" ref="stage" tabindex="0" role="group" :aria-label="label" :class="{'vr-draw': isDrawing}"
     @wheel.prevent="wheel" @pointerdown="down" @pointermove="move" @pointerup="up" @pointercancel="up" @dblclick="fit">
  <div v-if="current" class="vr-canvas" :style="canvas">
    <img v-for="(item, place) in shown" :key="item.id" :src="sourceOf(item)" :width="item.image.width"
         :height="item.image.height" :class="{'vr-next': place > 0, 'vr-coarse': view.scale > 3}"
         :alt="place ? '' : 'the image to review'" draggable="false" @load="$emit('ready', item.id)"
         @error="$emit('failed', item.id)">
    <svg :viewBox="'0 0 ' + current.image.width + ' ' + current.image.height" :width="current.image.width"
         :height="current.image.height" role="group" aria-label="boxes">
      <g v-for="one in drawn" :key="one.place" class="vr-box" :class="{'vr-selected': one.place === selected}"
         :tabindex="canDraw ? 0 : -1" role="button" :aria-pressed="one.place === selected" :aria-label="one.name"
         :data-box="one.place" @focus="$emit('select', one.place)">
        <rect :x="one.box[0]" :y="one.box[1]" :width="one.box[2] - one.box[0]" :height="one.box[3] - one.box[1]"
              :stroke="one.colour" :stroke-width="(one.place === selected ? 3.5 : 2) * pixel" :data-box="one.place"></rect>
        <text :x="one.box[0] + 3 * pixel" :y="textAt(one.box)" :font-size="13 * pixel" :fill="one.colour"
              :stroke-width="3.5 * pixel">{{ one.text }}</text>
      </g>
      <template v-if="grips.length">
        <g v-for="grip in grips" :key="grip.name" class="vr-grip" :data-handle="grip.name" :style="{cursor: grip.name + '-resize'}">
          <circle :cx="grip.x" :cy="grip.y" :r="14 * pixel" fill="transparent" :data-handle="grip.name"></circle>
          <circle :cx="grip.x" :cy="grip.y" :r="5 * pixel" class="vr-dot" :stroke-width="1.5 * pixel" :data-handle="grip.name"></circle>
        </g>
      </template>
      <rect v-if="rubber" class="vr-rubber" :x="rubber[0]" :y="rubber[1]" :width="rubber[2] - rubber[0]"
            :height="rubber[3] - rubber[1]" :stroke-width="2 * pixel"></rect>
    </svg>
  </div>
  <slot></slot>
</div>`,
  data() {
    return { view: { x: 0, y: 0, scale: 1 }, stage: { width: 1, height: 1 }, drag: null, rubber: null };
  },
  computed: {
    current() {
      return this.items[0];
    },
    shown() {
      return this.items.slice(0, 3); // the next ones are hidden behind it, decoded already
    },
    label() {
      return this.current ? "image; zoom with + - 0, pan with shift and arrows" : "no image";
    },
    canvas() {
      const { width, height } = this.current.image;
      const { x, y, scale } = this.view;
      return { width: `${width}px`, height: `${height}px`, transform: `translate(${x}px, ${y}px) scale(${scale})` };
    },
    pixel() {
      return 1 / this.view.scale;
    },
    drawn() {
      const found = this.boxes.map((one, place) => {
        const sure = one.confidence === undefined ? "" : ` ${Math.round(one.confidence * 100)} %`;
        const colour = colourOf(this.classes.indexOf(one.class_name));
        const name = `box ${place + 1} of ${this.boxes.length}: ${one.class_name}${sure}`;
        return { place, box: one.box, colour, text: one.class_name + sure, name };
      });
      return found.sort((a, b) => area(b.box) - area(a.box)); // small ones on top, so that they can be selected
    },
    grips() {
      const box = this.canDraw ? this.boxes[this.selected]?.box : undefined;
      if (!box) return [];
      const place = (name, low, high) => (name.includes(low) ? 0 : name.includes(high) ? 1 : 0.5);
      return HANDLES.map((name) => ({
        name,
        x: box[0] + place(name, "w", "e") * (box[2] - box[0]),
        y: box[1] + place(name, "n", "s") * (box[3] - box[1]),
      }));
    },
  },
  watch: {
    "current.id"() {
      this.drag = this.rubber = null;
      this.fit();
      const picture = this.current && this.$refs.stage.querySelector("img:not(.vr-next)");
      if (picture?.complete && picture.naturalWidth) this.$emit("ready", this.current.id);
    },
  },
  mounted() {
    this.pointers = new Map();
    this.sizes = new ResizeObserver(() => this.measure());
    this.sizes.observe(this.$refs.stage);
    this.measure();
  },
  beforeUnmount() {
    this.sizes.disconnect();
  },
  methods: {
    sourceOf(item) {
      const again = this.retries[item.id];
      return again ? `${item.image.url}?again=${again}` : item.image.url;
    },
    focus() {
      this.$refs.stage.focus({ preventScroll: true });
    },
    focusBox(place) {
      this.$nextTick(() => this.$refs.stage.querySelector(`g[data-box="${place}"]`)?.focus({ preventScroll: true }));
    },
    textAt(box) {
      return box[1] > 18 * this.pixel ? box[1] - 4 * this.pixel : box[1] + 14 * this.pixel;
    },
    measure() {
      const { clientWidth: width, clientHeight: height } = this.$refs.stage;
      this.stage = { width, height };
      this.fit();
    },
    fit() {
      if (this.current) this.view = fitted(this.current.image, this.stage);
    },
    zoom(factor) {
      this.view = zoomed(this.view, factor, { x: this.stage.width / 2, y: this.stage.height / 2 });
    },
    pan(x, y) {
      this.view = { ...this.view, x: this.view.x + x, y: this.view.y + y };
    },
    middle() {
      return toImage(this.view, { x: this.stage.width / 2, y: this.stage.height / 2 });
    },
    point(event) {
      const frame = this.$refs.stage.getBoundingClientRect();
      return { x: event.clientX - frame.left, y: event.clientY - frame.top };
    },
    wheel(event) {
      if (this.current) this.view = zoomed(this.view, Math.exp(-event.deltaY * 0.0015), this.point(event));
    },
    down(event) {
      if (!this.current || event.target.closest("button, a, input, .vr-over")) return;
      event.preventDefault();
      this.$refs.stage.setPointerCapture(event.pointerId);
      const at = this.point(event);
      this.pointers.set(event.pointerId, at);
      if (this.pointers.size === 2) return this.beginPinch();
      if (this.pointers.size > 2) return undefined;
      const { handle, box } = event.target.dataset;
      const start = toImage(this.view, at);
      if (event.button === 1 || !this.canDraw) this.drag = { kind: "pan", at, view: this.view };
      else if (handle) this.drag = { kind: "resize", handle, start, box: this.boxes[this.selected].box };
      else if (this.isDrawing) this.drag = { kind: "draw", start };
      else if (box !== undefined) {
        this.$emit("select", Number(box));
        this.drag = { kind: "move", place: Number(box), start, box: this.boxes[Number(box)].box };
      } else this.drag = { kind: "pan", at, view: this.view };
      const target = box === undefined ? null : this.$refs.stage.querySelector(`g[data-box="${box}"]`);
      (target ?? this.$refs.stage).focus({ preventScroll: true });
      return undefined;
    },
    beginPinch() {
      const [a, b] = [...this.pointers.values()];
      this.rubber = null;
      this.drag = { kind: "pinch", view: this.view, middle: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, far: Math.hypot(a.x - b.x, a.y - b.y) };
    },
    move(event) {
      if (!this.drag || !this.pointers.has(event.pointerId)) return;
      const at = this.point(event);
      this.pointers.set(event.pointerId, at);
      const { kind, start, box } = this.drag;
      const { width, height } = this.current.image;
      const here = toImage(this.view, at);
      if (kind === "pinch") this.pinch();
      else if (kind === "pan") {
        const { view } = this.drag;
        this.view = { ...view, x: view.x + at.x - this.drag.at.x, y: view.y + at.y - this.drag.at.y };
      } else if (kind === "draw") this.rubber = spanned(start, here, width, height);
      else if (kind === "move") this.change(this.drag.place, moved(box, here.x - start.x, here.y - start.y, width, height));
      else this.change(this.selected, resized(box, this.drag.handle, here.x - start.x, here.y - start.y, width, height));
    },
    pinch() {
      const [a, b] = [...this.pointers.values()];
      if (!b) return;
      const { view, middle, far } = this.drag;
      const now = { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 };
      const scaled = zoomed(view, Math.hypot(a.x - b.x, a.y - b.y) / Math.max(far, 1), middle);
      this.view = { ...scaled, x: scaled.x + now.x - middle.x, y: scaled.y + now.y - middle.y };
    },
    up(event) {
      this.pointers.delete(event.pointerId);
      const rubber = this.drag?.kind === "draw" && event.type === "pointerup" ? this.rubber : null;
      this.drag = this.rubber = null;
      if (rubber) this.$emit("drawn", rubber);
    },
    change(place, box) {
      const before = this.boxes[place];
      if (before && box.some((value, i) => value !== before.box[i])) this.$emit("update", place, box);
    },
  },
};
