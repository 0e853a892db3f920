// Run the review page. The server is called in the background only: `Feed` loads images, `Outbox` sends decisions.

import answers from "./answers.js";
import dialogs from "./dialogs.js";
import grid, { CELLS } from "./grid.js";
import panel from "./panel.js";
import recent from "./recent.js";
import stage from "./stage.js";
import { call, newKey } from "./api.js";
import { deciding } from "./deciding.js";
import { editing } from "./editing.js";
import { Feed, LEAST } from "./feed.js";
import { keyboard } from "./keyboard.js";
import { firstDraft, inWords, labelOf, sameLabel } from "./labels.js";
import { Outbox } from "./outbox.js";
import { statusOf } from "./status.js";
import { template } from "./template.js";

const DRAFT = "visionops.review.draft";
const CHOSEN = "visionops.review.use_case";

function tabOf() {
  const name = "visionops.review.tab";
  if (!sessionStorage.getItem(name)) sessionStorage.setItem(name, newKey());
  return sessionStorage.getItem(name);
}

export default {
  template,
  components: { "vr-answers": answers, "vr-dialogs": dialogs, "vr-grid": grid, "vr-panel": panel, "vr-recent": recent, "vr-stage": stage },
  props: { viewer: String, isAdmin: Boolean, wantedUseCase: String, wantedItem: String, hold: Number },
  data() {
    return {
      useCases: null,
      useCase: null,
      items: [],
      entries: [],
      problems: [],
      history: [],
      saved: [],
      ready: [],
      retries: {},
      left: [],
      draft: null,
      comment: "",
      selected: -1,
      question: 0,
      newClass: "",
      isDrawing: false,
      isGrid: false,
      isEmpty: false,
      isPaused: false,
      numWaiting: null,
      numOthers: 0,
      notice: "",
      dialog: "",
      reopened: null,
      status: { tone: "warn", text: "loading" },
    };
  },
  computed: {
    current() {
      return this.items[0];
    },
    isReady() {
      return this.current && this.ready.includes(this.current.id);
    },
    // The server's count still includes decisions that are not sent yet.
    numToReview() {
      if (this.numWaiting === null) return null;
      return Math.max(0, this.numWaiting - this.entries.filter((one) => one.use_case === this.useCase.name).length);
    },
    task() {
      return this.useCase.task;
    },
    boxes() {
      return this.draft?.boxes ?? [];
    },
    cells() {
      return this.items.filter((item) => item.predicted_label && !this.left.includes(item.id)).slice(0, CELLS);
    },
    label() {
      return this.draft && labelOf(this.useCase, this.draft);
    },
    isAsPredicted() {
      return this.current.predicted_label != null && sameLabel(this.useCase, this.label, this.current.predicted_label);
    },
    confirmText() {
      if (!this.label) return "Choose an answer";
      return `${this.isAsPredicted ? "Confirm" : "Save"}: ${inWords(this.task, this.label)}`;
    },
    classes() {
      if (this.task === "detection") return this.useCase.scheme.class_names;
      return this.useCase.scheme.questions[this.task === "classification" ? 0 : this.question].class_names;
    },
  },
  watch: {
    "current.id"(id) {
      if (id) this.begin(this.current);
    },
    draft: { deep: true, handler: "keepDraft" },
    comment: "keepDraft",
    isGrid: "arrange",
  },
  created() {
    this.known = new Map(); // items that were decided here, for undo
    this.drafts = new Map();
    this.trouble = null;
    this.outbox = new Outbox(this.viewer, tabOf(), this.hold, { report: () => this.look(), saved: (entry) => this.noteSaved(entry) });
    this.look();
  },
  mounted() {
    this.onKey = (event) => this.key(event);
    this.onLeave = () => this.leave();
    this.onChange = () => this.look();
    this.onTouch = () => this.feed?.touch();
    this.onHide = () => document.hidden && this.outbox.hurry();
    this.onShow = (event) => event.persisted && location.reload();
    window.addEventListener("keydown", this.onKey);
    window.addEventListener("pagehide", this.onLeave);
    window.addEventListener("pageshow", this.onShow);
    window.addEventListener("pointerdown", this.onTouch);
    document.addEventListener("visibilitychange", this.onHide);
    for (const name of ["online", "offline"]) window.addEventListener(name, this.onChange);
    this.timer = setInterval(() => this.count(), 10000);
    this.onLost = () => this.count();
    window.socket?.on("disconnect", this.onLost); // NiceGUI's socket is the first to notice a lost connection
    this.open();
  },
  beforeUnmount() {
    window.removeEventListener("keydown", this.onKey);
    window.removeEventListener("pagehide", this.onLeave);
    window.removeEventListener("pageshow", this.onShow);
    window.removeEventListener("pointerdown", this.onTouch);
    document.removeEventListener("visibilitychange", this.onHide);
    for (const name of ["online", "offline"]) window.removeEventListener(name, this.onChange);
    clearInterval(this.timer);
    window.socket?.off("disconnect", this.onLost);
    this.leave();
    this.feed?.close();
    this.outbox.close();
  },
  methods: {
    ...deciding,
    ...editing,
    ...keyboard,
    async open() {
      try {
        this.useCases = await call("GET", "/api/review/use-cases");
        this.trouble = null;
      } catch (error) {
        this.trouble = error;
        this.look();
        setTimeout(() => this.open(), 2000);
        return;
      }
      const names = [this.wantedUseCase, localStorage.getItem(CHOSEN), this.useCases[0]?.name];
      const first = names.find((name) => this.useCases.some((one) => one.name === name));
      if (first) this.choose(first, this.wantedItem);
      else this.look();
    },
    choose(name, item = "") {
      this.feed?.close();
      localStorage.setItem(CHOSEN, name);
      this.useCase = this.useCases.find((one) => one.name === name);
      Object.assign(this, { items: [], ready: [], left: [], question: 0, selected: -1, draft: null, numWaiting: null });
      this.newClass = this.useCase.scheme.class_names[0] ?? "";
      this.feed = new Feed(name, (id) => this.outbox.has(id), {
        report: (error) => this.heard(error),
        missed: (why) => this.$nextTick(() => (this.notice = why)),
      });
      this.feed.start(item);
      this.arrange();
      this.count();
    },
    arrange() {
      if (!this.feed) return;
      this.feed.least = this.isGrid ? 2 * CELLS + this.left.length : LEAST;
      this.feed.refill();
    },
    // `error` is null after a successful call, undefined after a change of the page itself.
    heard(error) {
      if (error !== undefined) this.trouble = error;
      this.items = [...(this.feed?.items ?? [])]; // a new list, so that Vue notices the change
      this.isEmpty = this.feed?.isEmpty ?? false;
      this.isPaused = this.feed?.isPaused ?? false;
      this.look();
    },
    look() {
      if (!this.outbox) return;
      this.entries = [...this.outbox.waiting];
      this.problems = [...this.outbox.problems];
      const known = new Set([...this.saved, ...this.outbox.entries.map((entry) => entry.key)]);
      this.history = this.history.filter((one) => known.has(one.key)); // without undone and discarded decisions
      this.numOthers = this.outbox.ofOthers;
      this.status = this.useCases || this.trouble ? statusOf(this.outbox, this.trouble, navigator.onLine) : this.status;
    },
    async count() {
      if (!this.useCase || document.hidden) return;
      try {
        const { states } = await call("GET", `/api/review/stats?use_case=${encodeURIComponent(this.useCase.name)}`);
        this.numWaiting = states.pending + states.claimed;
        this.trouble = null;
      } catch (error) {
        this.numWaiting = null;
        this.trouble = error;
      }
      this.look();
    },
    begin(item) {
      const stored = JSON.parse(sessionStorage.getItem(DRAFT) ?? "{}");
      const known = this.drafts.get(item.id) ?? (stored.item === item.id ? stored : null);
      this.drafts.delete(item.id);
      this.draft = known?.draft ?? firstDraft(this.useCase, item);
      this.comment = known?.comment ?? "";
      Object.assign(this, { selected: -1, question: 0, isDrawing: false, notice: "" });
      this.shownAt = performance.now();
      if (!this.isGrid) this.$nextTick(() => this.$refs.stage?.focus());
    },
    keepDraft() {
      if (!this.current || !this.draft) return;
      sessionStorage.setItem(DRAFT, JSON.stringify({ item: this.current.id, draft: this.draft, comment: this.comment }));
    },
    noteReady(id) {
      if (!this.ready.includes(id)) this.ready.push(id);
    },
    // Handle an image that did not load, or that the browser cannot show.
    async noteFailed(id) {
      const item = this.items.find((one) => one.id === id);
      if (!item) return;
      const response = await fetch(item.image.url, { cache: "no-store" }).catch(() => null);
      if (response?.ok && this.retries[id]) {
        this.notice = `The browser cannot show ${item.name || "this image"} (${item.image.format}); skip it, or reject it.`;
        this.noteReady(id);
      } else setTimeout(() => (this.retries[id] = (this.retries[id] ?? 0) + 1), response?.ok ? 0 : 1500);
    },

    leave() {
      this.outbox.leave();
      this.feed?.leave();
    },
  },
};
