// Show the details of an image: why it is here, its source, proposals, and similar images.

import { inWords, surenessOf, whyOf } from "./labels.js";
import { call } from "./api.js";

const SETTLE_MS = 400;
// The page claims ahead, so an image that it has claimed is shown as waiting.
const STATES = { pending: "waits", claimed: "waits", decided: "decided", exported: "exported" };

export default {
  props: { item: Object, task: String },
  emits: ["propose"],
  template: `
<div class="vr-panel">
  <section class="vo-card">
    <h2 class="vo-heading">Why it is here</h2>
    <ul class="vr-list" v-if="why.length">
      <li v-for="one in why" :key="one.kind">{{ one.text }} <span class="vo-muted" v-if="one.value">+{{ one.value.toFixed(2) }}</span></li>
    </ul>
    <p v-else class="vo-muted">it has come, and waits for its turn</p>
    <p v-if="item.is_held_out" class="vo-warn">It resembles the test split: it can be reviewed, but is not used for training.</p>
    <dl class="vr-facts">
      <template v-if="item.name"><dt>name</dt><dd>{{ item.name }}</dd></template>
      <dt>from</dt><dd>{{ item.origin }}{{ item.reference ? ' · ' + item.reference : '' }}</dd>
      <dt>added</dt><dd>{{ added }}</dd>
      <dt>image</dt><dd>{{ item.image.width }} × {{ item.image.height }} px, {{ item.image.format }}</dd>
      <template v-if="item.predicted"><dt>model</dt><dd>{{ item.predicted.model }} version {{ item.predicted.version }}</dd></template>
      <template v-if="sure"><dt>says</dt><dd>{{ sure }}</dd></template>
    </dl>
  </section>
  <section class="vo-card" v-if="item.proposed || item.comments.length || item.opinions.length">
    <h2 class="vo-heading">What people said</h2>
    <p v-for="(one, place) in item.comments" :key="place" class="vr-said">{{ one.text }} <span class="vo-muted">({{ one.origin }})</span></p>
    <p v-if="item.proposed" class="vr-said">proposed: <b>{{ words(item.proposed) }}</b>
      <button class="vr-btn vr-small" type="button" @click="$emit('propose', item.proposed)">Take it <kbd class="vo-key">p</kbd></button></p>
    <p v-for="(one, place) in item.opinions" :key="'o' + place" class="vr-said">two disagree; one says
      <b>{{ one.label ? words(one.label) : 'reject: ' + one.reason }}</b></p>
  </section>
  <section class="vo-card" v-if="similar.length">
    <h2 class="vo-heading">Resembles</h2>
    <ul class="vr-similar">
      <li v-for="one in similar" :key="one.sha256">
        <img v-if="one.item" :src="'/api/items/' + one.item + '/image'" alt="" loading="lazy">
        <span v-else class="vr-blank">{{ one.split || '?' }}</span>
        <span :class="{'vo-warn': one.is_near}">{{ one.distance.toFixed(3) }}{{ one.is_near ? ' copy' : '' }}</span>
        <span class="vo-muted vr-clip">{{ [STATES[one.state], one.split].filter(Boolean).join(', ') }} {{ one.name }}</span>
      </li>
    </ul>
  </section>
</div>`,
  data: () => ({ similar: [], STATES }),
  computed: {
    why() {
      return whyOf(this.item);
    },
    sure() {
      return surenessOf(this.item);
    },
    added() {
      return new Date(this.item.added).toLocaleString();
    },
  },
  watch: {
    "item.id": {
      immediate: true,
      handler() {
        clearTimeout(this.timer);
        this.similar = [];
        this.timer = setTimeout(() => this.look(this.item.id), SETTLE_MS); // avoids a request per image at a fast pace
      },
    },
  },
  beforeUnmount() {
    clearTimeout(this.timer);
  },
  methods: {
    words(label) {
      return inWords(this.task, label);
    },
    async look(id) {
      try {
        const found = await call("GET", `/api/review/items/${id}/similar`);
        if (id === this.item.id) this.similar = found.slice(0, 6);
      } catch (error) {
        if (!(error instanceof Error)) throw error; // optional data; the page itself shows that it is offline
      }
    },
  },
};
