// Show the last decisions, and whether the server has each of them.

export default {
  props: { entries: Array, saved: Array, problems: Array, isAdmin: Boolean },
  emits: ["reopen"],
  template: `
<ol class="vr-recent" aria-label="last decisions" v-if="entries.length">
  <li v-for="one in shown" :key="one.key" :data-item="one.item" :data-key="one.key" :data-state="one.state">
    <img :src="one.url" alt="" draggable="false">
    <span class="vr-clip" :title="one.words">{{ one.words }}</span>
    <span :class="one.state === 'saved' ? 'vo-ok' : one.state === 'refused' ? 'vo-bad' : 'vo-muted'">{{ one.state }}</span>
    <button v-if="isAdmin && one.state === 'saved'" type="button" class="vr-btn vr-small" @click="$emit('reopen', one)">Reopen</button>
  </li>
</ol>`,
  computed: {
    shown() {
      const refused = new Set(this.problems.map((one) => one.key));
      const state = (key) => (this.saved.includes(key) ? "saved" : refused.has(key) ? "refused" : "not saved");
      return this.entries.map((one) => ({ ...one, state: state(one.key) })).reverse();
    },
  },
};
