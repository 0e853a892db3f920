// Show the dialogs: list of keys, reason for a rejection, reason for reopening.

import { ATTRIBUTE_KEYS, BOX_KEYS, GRID_KEYS, KEYS } from "./keys.js";

const REASONS = ["blurred", "wrong part", "part not whole in the image", "test picture"];
const LAST = "visionops.review.reason";

export default {
  props: { name: String, task: String, isGrid: Boolean, entry: Object },
  emits: ["close", "reject", "reopen"],
  template: `
<q-dialog :aria-label="title" :model-value="name !== ''" @update:model-value="$emit('close')" :transition-duration="80" @show="shown">
  <div class="vo-card vr-dialog" role="document">
    <template v-if="name === 'help'">
      <h2 class="vo-heading">{{ title }}</h2>
      <table class="vr-keys"><thead><tr><th scope="col">key</th><th scope="col">what it does</th></tr></thead>
        <tbody><tr v-for="one in rows" :key="one.text"><td><kbd v-for="key in one.keys" :key="key" class="vo-key">{{ key }}</kbd></td><td>{{ one.text }}</td></tr></tbody></table>
      <p class="vo-muted">A decision is stored in this browser until the server has it. It can be undone for a few seconds; later an admin can reopen it.</p>
      <div class="vr-bar"><button type="button" class="vr-btn vr-main" @click="$emit('close')">Close <kbd class="vo-key">Esc</kbd></button></div>
    </template>
    <form v-else-if="name" @submit.prevent="submit">
      <h2 class="vo-heading">{{ title }}</h2>
      <p class="vo-muted">{{ name === 'reject' ? 'It becomes no training data.' : 'The earlier decision stays in its history.' }}</p>
      <label class="vr-field">Reason <input ref="reason" v-model="reason" maxlength="4000" required></label>
      <div v-if="name === 'reject'" class="vr-choices" role="group" aria-label="usual reasons">
        <button v-for="one in reasons" :key="one" type="button" class="vr-btn vr-small" @click="reason = one; submit()">{{ one }}</button></div>
      <div class="vr-bar">
        <button type="submit" class="vr-btn vr-main" :disabled="!reason.trim()">{{ name === 'reject' ? 'Reject' : 'Reopen' }} <kbd class="vo-key">Enter</kbd></button>
        <button type="button" class="vr-btn" @click="$emit('close')">Cancel <kbd class="vo-key">Esc</kbd></button></div>
    </form>
  </div>
</q-dialog>`,
  data: () => ({ reason: "", reasons: REASONS }),
  computed: {
    title() {
      return { help: "Keys", reject: "Reject this image", reopen: "Reopen this decision" }[this.name];
    },
    rows() {
      if (this.isGrid) return [...GRID_KEYS, ...KEYS.filter((one) => ["g", "u", "?"].includes(one.keys[0]))];
      return [...KEYS, ...(this.task === "detection" ? BOX_KEYS : this.task === "attributes" ? ATTRIBUTE_KEYS : [])];
    },
  },
  watch: {
    name(name) {
      this.reason = name === "reject" ? (localStorage.getItem(LAST) ?? "") : "";
    },
  },
  methods: {
    shown() {
      this.$refs.reason?.focus();
      this.$refs.reason?.select();
    },
    submit() {
      const reason = this.reason.trim();
      if (!reason) return;
      if (this.name === "reject") {
        localStorage.setItem(LAST, reason);
        this.$emit("reject", reason);
      } else this.$emit("reopen", this.entry, reason);
    },
  },
};
