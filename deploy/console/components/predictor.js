// All texts of files and models are interpolations or attributes, which Vue escapes; v-html is not used.
const COLOURS = 9; // number of colours in console.css: --vo-class-0 and following
const AT_ONCE = 2;

export default {
  template: `
    <div class="vo-predict">
      <div class="vo-drop" :class="{ 'vo-drop-over': over }" @dragover.prevent="over = true"
           @dragleave="over = false" @drop.prevent="drop">
        <input ref="files" type="file" accept="image/*" multiple class="vo-hidden" aria-label="Image files"
               @change="choose" />
        <q-icon name="add_photo_alternate" size="32px" aria-hidden="true" />
        <span>Drop images here, paste one (Ctrl+V), or</span>
        <q-btn no-caps unelevated color="primary" label="Choose images" @click="$refs.files.click()" />
      </div>
      <div class="vo-bar" v-if="pictures.length">
        <label v-if="hasBoxes" :for="id" class="vo-heading">Show from {{ Math.round(threshold * 100) }}% confidence</label>
        <input v-if="hasBoxes" :id="id" type="range" min="0" max="1" step="0.01" v-model.number="threshold" class="vo-range" />
        <q-space />
        <q-btn no-caps flat icon="clear_all" label="Clear" @click="clear" />
      </div>
      <div role="status" class="vo-muted">{{ status }}</div>
      <div class="vo-pictures">
        <section v-for="one in pictures" :key="one.key" class="vo-card vo-prediction" :aria-label="one.name">
          <div class="vo-canvas">
            <img :src="one.overlay || one.url" :alt="one.name" @load="measure(one, $event)" />
            <svg v-if="one.answer && one.width && !one.overlay" :viewBox="'0 0 ' + one.width + ' ' + one.height"
                 aria-hidden="true">
              <g v-for="(shape, n) in shown(one)" :key="n">
                <polygon v-if="shape.points" :points="shape.points" :stroke="shape.colour" :fill="shape.colour"
                         fill-opacity="0.25" vector-effect="non-scaling-stroke" stroke-width="2" />
                <rect v-else :x="shape.box[0]" :y="shape.box[1]" :width="shape.box[2] - shape.box[0]"
                      :height="shape.box[3] - shape.box[1]" :stroke="shape.colour" fill="none"
                      vector-effect="non-scaling-stroke" stroke-width="2" />
                <text :x="shape.box[0]" :y="Math.max(shape.box[1] - one.width * 0.006, one.width * 0.028)"
                      :font-size="one.width * 0.028" :fill="shape.colour" class="vo-shape-name"
                >{{ shape.name }} {{ percent(shape.confidence) }}</text>
              </g>
            </svg>
            <div v-if="one.busy" class="vo-waiting"><q-spinner size="32px" color="white" /></div>
          </div>
          <h2 class="vo-heading vo-cut">{{ one.name }}</h2>
          <div v-if="one.error" class="vo-bad" role="alert">{{ one.error }}</div>
          <template v-if="one.answer">
            <div class="vo-muted">{{ one.answer.model.name }} version {{ one.answer.model.version }},
              {{ Math.round(one.answer.timing_ms.total) }} ms, {{ one.width }} x {{ one.height }}</div>
            <ul class="vo-answers">
              <li v-for="(line, n) in lines(one)" :key="n">
                <span class="vo-dot" :style="{ background: line.colour }" aria-hidden="true"></span>
                {{ line.name }}<b>&nbsp;{{ percent(line.confidence) }}</b>
              </li>
              <li v-if="!lines(one).length">Nothing above {{ percent(threshold) }}.</li>
            </ul>
            <div class="vo-bar">
              <q-btn no-caps outline dense class="q-px-sm" :icon="one.overlay ? 'visibility_off' : 'visibility'"
                     :label="one.overlay ? 'Hide explanation' : 'Explain'" :loading="one.explaining"
                     :aria-pressed="one.overlay ? 'true' : 'false'" @click="explain(one)" />
              <q-btn v-if="canSend && !one.item" no-caps outline dense class="q-px-sm" color="negative" icon="flag"
                     label="This is wrong" @click="one.asking = !one.asking" :aria-expanded="String(one.asking)" />
              <span v-if="one.item" class="vo-ok">Sent to review:
                <a class="vo-link" :href="'/search?like=' + one.item">item {{ one.item.slice(0, 8) }}</a></span>
            </div>
            <form v-if="one.asking && !one.item" class="vo-bar" @submit.prevent="send(one)">
              <q-input dense outlined autofocus v-model="one.comment" label="What is wrong?" maxlength="4000"
                       style="flex: 1" />
              <q-btn no-caps unelevated color="negative" type="submit" label="Send to review" :loading="one.sending" />
            </form>
          </template>
        </section>
      </div>
    </div>
  `,
  props: { useCase: String, firstThreshold: Number, canSend: Boolean, maxBytes: Number },
  data() {
    return { pictures: [], over: false, threshold: this.firstThreshold, running: 0, waiting: [], made: 0, colours: {},
             id: "vo-threshold" };
  },
  computed: {
    // Only boxes have a threshold; a classifier has one answer to each question.
    hasBoxes() {
      return this.pictures.some(({ answer }) => answer && !answer.classification && !answer.attributes);
    },
    status() {
      const open = this.pictures.filter((one) => one.busy).length;
      if (open) return `${open} of ${this.pictures.length} images wait for an answer`;
      return this.pictures.length ? `${this.pictures.length} image${this.pictures.length === 1 ? "" : "s"} answered` : "";
    },
  },
  mounted() {
    this.paste = (event) => {
      const files = [...(event.clipboardData?.files || [])];
      if (files.length) { event.preventDefault(); this.take(files); }
    };
    document.addEventListener("paste", this.paste);
  },
  beforeUnmount() {
    document.removeEventListener("paste", this.paste);
    this.clear();
  },
  methods: {
    drop(event) { this.over = false; this.take(event.dataTransfer.files); },
    choose(event) { this.take(event.target.files); event.target.value = ""; },
    take(files) {
      for (const file of files) {
        this.pictures.unshift({ key: ++this.made, name: file.name || "pasted image", file, url: URL.createObjectURL(file),
          busy: true, width: 0, height: 0, answer: null, error: "", overlay: "", explaining: false, asking: false,
          sending: false, comment: "", item: "" });
        const one = this.pictures[0];
        if (file.size > this.maxBytes) this.fail(one, `has ${file.size} bytes; the limit is ${this.maxBytes}`);
        else this.waiting.push(one);
      }
      this.next();
    },
    next() {
      while (this.running < AT_ONCE && this.waiting.length) {
        this.running += 1;
        this.predict(this.waiting.shift()).finally(() => { this.running -= 1; this.next(); });
      }
    },
    async predict(one) {
      try {
        one.answer = await (await this.post("", one.file)).json();
        one.width = one.answer.image.width;
        one.height = one.answer.image.height;
        one.busy = false;
      } catch (error) { this.fail(one, error.message); }
    },
    async explain(one) {
      if (one.overlay) { URL.revokeObjectURL(one.overlay); one.overlay = ""; return; }
      one.explaining = true;
      one.error = "";
      try { one.overlay = URL.createObjectURL(await (await this.post("/explanation", one.file)).blob()); }
      catch (error) { one.error = error.message; }
      one.explaining = false;
    },
    async send(one) {
      const form = new FormData();
      form.append("file", one.file, one.name);
      form.append("answer", JSON.stringify(this.own(one.answer)));
      form.append("comment", one.comment);
      one.sending = true;
      one.error = "";
      try { one.item = (await (await this.post("/wrong", form)).json()).item; }
      catch (error) { one.error = error.message; }
      one.sending = false;
    },
    async post(path, body) {
      let answer;
      const headers = body instanceof FormData ? {} : { "Content-Type": "application/octet-stream" };
      const address = `/api/predict/${encodeURIComponent(this.useCase)}${path}`;
      try { answer = await fetch(address, { method: "POST", body, headers }); }
      catch { throw new Error("The console does not answer; try again."); }
      if (answer.ok) return answer;
      const said = await answer.json().catch(() => null);
      throw new Error(said?.error?.message || `The console answers ${answer.status}.`);
    },
    fail(one, message) { one.error = message; one.busy = false; },
    clear() {
      for (const one of this.pictures) { URL.revokeObjectURL(one.url); if (one.overlay) URL.revokeObjectURL(one.overlay); }
      this.pictures = [];
      this.waiting = [];
    },
    measure(one, event) {
      if (!one.width) { one.width = event.target.naturalWidth; one.height = event.target.naturalHeight; }
    },
    colour(name) {
      if (!(name in this.colours)) this.colours[name] = `var(--vo-class-${Object.keys(this.colours).length % COLOURS})`;
      return this.colours[name];
    },
    found(one) {
      return Object.values(one.answer).filter(Array.isArray).flat()
        .filter((part) => part && typeof part.class_name === "string" && Array.isArray(part.box));
    },
    // The model's own answer, without the boxes of low confidence that were requested for display only.
    own(answer) {
      const sure = (part) => !(part?.confidence < this.firstThreshold);
      return Object.fromEntries(Object.entries(answer).map(([name, value]) =>
        [name, Array.isArray(value) ? value.filter(sure) : value]));
    },
    shown(one) {
      return this.found(one).filter((part) => part.confidence >= this.threshold).map((part) => ({
        name: part.class_name, confidence: part.confidence, box: part.box, colour: this.colour(part.class_name),
        points: Array.isArray(part.polygon) ? part.polygon.map((point) => point.join(",")).join(" ") : "",
      }));
    },
    lines(one) {
      const { classification, attributes } = one.answer;
      const whole = classification ? [["", classification]] : Object.entries(attributes || {});
      const answers = whole.map(([question, part]) => ({
        name: question ? `${question}: ${part.class_name}` : part.class_name, confidence: part.confidence,
        colour: this.colour(question || part.class_name),
      }));
      return answers.concat(this.shown(one));
    },
    percent(value) { return `${Math.round(value * 100)}%`; },
  },
};
