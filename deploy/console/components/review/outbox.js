// Store decisions in the browser, with their Idempotency-Key, until the server has acknowledged them. So they survive a
// reload, and a decision that is sent twice counts once.

import { SignedOut, Offline, call, newKey } from "./api.js";

const SLOWEST_MS = 5000;
const ORPHAN_MS = 30000;
const ROOT = "visionops.review.decision.";

export class Outbox {
  // `report` is called after every change, `saved(entry)` once the server has acknowledged a decision.
  constructor(viewer, tab, hold, { report, saved }) {
    this.prefix = `${ROOT}${encodeURIComponent(viewer)}.`;
    Object.assign(this, { tab, hold, report, saved });
    this.entries = [];
    this.trouble = null;
    this.pause = 0;
    this.retryAt = 0;
    this.isRunning = false;
    this.load();
    this.onOnline = () => this.retryNow();
    this.onStorage = (event) => event.key?.startsWith(this.prefix) && this.load();
    window.addEventListener("online", this.onOnline);
    window.addEventListener("storage", this.onStorage);
    this.timer = setInterval(() => this.run(), 250);
  }

  close() {
    clearInterval(this.timer);
    window.removeEventListener("online", this.onOnline);
    window.removeEventListener("storage", this.onStorage);
  }

  get waiting() {
    return this.entries.filter((entry) => !entry.problem);
  }

  get problems() {
    return this.entries.filter((entry) => entry.problem);
  }

  // Return decisions of other users in this browser, which are sent when those users sign in.
  get ofOthers() {
    const names = Object.keys(localStorage).filter((name) => name.startsWith(ROOT) && !name.startsWith(this.prefix));
    return names.length;
  }

  has(item) {
    return this.entries.some((entry) => entry.item === item && !entry.problem);
  }

  // Store decisions that are undone together. Throws if the browser's storage is full or disabled.
  add(decisions) {
    const group = newKey();
    const at = Date.now();
    const entries = decisions.map((one, place) => ({ ...one, key: newKey(), group, at, place, tab: this.tab }));
    const kept = [];
    try {
      for (const entry of entries) {
        this.keep(entry);
        kept.push(entry);
      }
    } catch (error) {
      for (const entry of kept) localStorage.removeItem(this.prefix + entry.key);
      throw error;
    }
    this.entries.push(...entries);
    this.report();
  }

  // Undo the newest decisions that were not sent yet, and return them; [] if there are none.
  takeBack() {
    const last = this.waiting.filter((entry) => entry.tab === this.tab).at(-1);
    const found = last ? this.waiting.filter((entry) => entry.group === last.group) : [];
    if (found.some((entry) => entry.tried)) return [];
    for (const entry of found) this.drop(entry);
    this.report();
    return found;
  }

  drop(entry) {
    localStorage.removeItem(this.prefix + entry.key);
    this.entries = this.entries.filter((one) => one.key !== entry.key);
    this.report();
  }

  // Send a refused decision again, as a new write.
  again(entry) {
    const { problem, retryAt, ...rest } = entry;
    this.add([{ ...rest, tried: false }]);
    this.drop(entry);
    return this.entries.at(-1);
  }

  // Send decisions that could still be undone, because the page is in the background.
  hurry() {
    for (const entry of this.waiting.filter((one) => one.tab === this.tab)) entry.tried = true;
    this.retryNow();
  }

  retryNow() {
    this.retryAt = 0;
    this.pause = 0;
    this.run();
  }

  async run() {
    if (this.isRunning || Date.now() < this.retryAt) return;
    this.isRunning = true;
    try {
      for (let entry = this.due(); entry; entry = this.due()) await this.send(entry);
    } finally {
      this.isRunning = false;
    }
  }

  // Send held decisions now, because the page closes; keep them stored, because the response cannot be read.
  leave() {
    for (const entry of this.waiting.filter((one) => one.tab === this.tab)) {
      entry.tried = true;
      this.keep(entry);
      this.post(entry, true).catch(() => {});
    }
  }

  due() {
    const now = Date.now();
    if (now < this.retryAt) return undefined;
    const isDue = (entry) => entry.tried || now - entry.at >= (entry.tab === this.tab ? this.hold : ORPHAN_MS);
    return this.waiting.find((entry) => isDue(entry) && now >= (entry.retryAt ?? 0));
  }

  async send(entry) {
    if (localStorage.getItem(this.prefix + entry.key) === null) {
      this.entries = this.entries.filter((one) => one.key !== entry.key); // another tab has sent or undone it
      return this.report();
    }
    entry.tried = true;
    this.keep(entry);
    try {
      await this.post(entry, false);
      this.trouble = null;
      this.pause = 0;
      this.saved(entry);
      this.drop(entry);
    } catch (error) {
      if (error instanceof Offline || error instanceof SignedOut || error.isTemporary) {
        this.trouble = error;
        this.pause = Math.min(SLOWEST_MS, this.pause * 2 || 500);
        // The server may refuse this decision only, so continue with the others.
        (error.isTemporary ? entry : this).retryAt = Date.now() + this.pause;
      } else if (error.code) {
        this.trouble = null;
        entry.problem = { code: error.code, message: error.message };
        this.keep(entry);
      } else {
        throw error;
      }
      this.report();
    }
  }

  post(entry, keepalive) {
    const body = { ...entry.answer, seconds: entry.seconds };
    return call("POST", `/api/review/items/${entry.item}/decide`, { body, key: entry.key, keepalive });
  }

  keep(entry) {
    localStorage.setItem(this.prefix + entry.key, JSON.stringify(entry));
  }

  load() {
    const known = new Set(this.entries.map((entry) => entry.key));
    for (const name of Object.keys(localStorage)) {
      if (name.startsWith(this.prefix) && !known.has(name.slice(this.prefix.length))) {
        this.entries.push(JSON.parse(localStorage.getItem(name)));
      }
    }
    this.entries.sort((a, b) => a.at - b.at || a.place - b.place);
    this.report();
  }
}
