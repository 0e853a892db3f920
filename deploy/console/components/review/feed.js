// Hold the images of this page: claim them ahead, load them into the browser, renew the claims, and release them.

import { call, newKey } from "./api.js";

export const LEAST = 8;
const AHEAD = { first: 12, most: 36 };
const AHEAD_S = 10; // seconds of work to hold ahead, at the reviewer's pace
const AT_ONCE = 8; // with more in one claim, the first image would wait for the last
const RENEW_MS = 5 * 60000;
const IDLE_MS = 10 * 60000;
const ROOT = "visionops.review.claims.";

export class Feed {
  // `report(error)` is called after every change: with the error, with null after a successful call, or without an
  // argument after a change of the page itself. `missed(why)` is called when the claim on the shown image is lost.
  constructor(useCase, isDecided, { report, missed }) {
    Object.assign(this, { useCase, isDecided, report, missed });
    this.items = []; // the first one is shown
    this.aside = []; // skipped, and claimed again
    this.skipped = new Set();
    this.least = LEAST; // a grid needs more
    this.pace = []; // times of the last decisions
    this.isEmpty = false;
    this.isPaused = false;
    this.isClosed = false;
    this.active = Date.now();
    this.key = null;
    this.pictures = new Map();
    this.isBusy = false;
    this.nextTry = 0;
    this.timer = setInterval(() => this.tick(), 500);
  }

  async start(first) {
    const known = JSON.parse(sessionStorage.getItem(ROOT + this.useCase) ?? "[]");
    await this.claim([...new Set([...(first ? [first] : []), ...known])].filter((item) => !this.isDecided(item)));
  }

  // Number of images to hold: more for a fast reviewer; a slow one would keep them from others.
  get size() {
    const [now, first] = [Date.now(), this.pace[0]];
    if (!first) return Math.max(AHEAD.first, this.least);
    const rate = this.pace.length / Math.max(1, (now - first) / 1000);
    return Math.max(this.least, Math.min(AHEAD.most, Math.ceil(rate * AHEAD_S)));
  }

  touch() {
    this.active = Date.now();
    if (!this.isPaused) return;
    this.isPaused = false;
    this.refill();
  }

  // Remove an item that is decided.
  take(item) {
    this.pace = [...this.pace, Date.now()].slice(-10);
    this.items = this.items.filter((one) => one.id !== item);
    this.aside = this.aside.filter((one) => one.id !== item);
    this.changed();
    this.refill();
  }

  // Put items first, because their decisions were undone.
  putBack(items) {
    const ids = new Set(items.map((one) => one.id));
    this.items = [...items, ...this.items.filter((one) => !ids.has(one.id))];
    this.changed();
  }

  skip(item) {
    this.skipped.add(item);
    this.items = this.items.filter((one) => one.id !== item);
    this.changed();
    this.release([item]).catch((error) => this.report(error));
    this.refill();
  }

  refill() {
    const isLow = this.items.length <= this.size - 3;
    if (!isLow || this.isBusy || this.isClosed || this.isPaused || Date.now() < this.nextTry) return;
    this.claim([]);
  }

  async claim(resume) {
    if (this.isBusy) return;
    this.isBusy = true;
    this.key ??= newKey(); // if the answer was lost, the repeated request returns the same claim
    try {
      const count = Math.min(AT_ONCE, Math.max(0, this.size - this.items.length - resume.length));
      this.body ??= { use_case: this.useCase, count, resume };
      const answer = await call("POST", "/api/review/claim", { body: this.body, key: this.key });
      const wanted = this.body.count;
      this.key = this.body = null;
      if (this.isClosed) {
        this.release(answer.items.map((one) => one.id)).catch(() => {});
        return;
      }
      this.isEmpty = answer.num_next < wanted;
      this.nextTry = this.isEmpty ? Date.now() + 3000 : 0;
      this.accept(answer);
      this.report(null);
    } catch (error) {
      if (error.code && !error.isTemporary) this.key = this.body = null;
      this.nextTry = Date.now() + 1000;
      this.report(error);
    } finally {
      this.isBusy = false;
    }
    this.refill();
  }

  accept(answer) {
    const known = new Map([...this.items, ...this.aside].map((one) => [one.id, one]));
    const ends = Date.now() + answer.lease_seconds * 1000;
    for (const item of answer.items) {
      if (known.has(item.id)) known.get(item.id).ends = ends;
      else if (this.isDecided(item.id)) continue;
      else (this.skipped.has(item.id) ? this.aside : this.items).push({ ...item, ends, shownAt: 0 });
    }
    const lost = new Set(answer.lost.map((one) => one.item));
    if (lost.has(this.items[0]?.id)) this.missed(answer.lost.find((one) => one.item === this.items[0].id).message);
    if (lost.size) this.items = this.items.filter((one) => !lost.has(one.id));
    if (!this.items.length && this.isEmpty && this.aside.length) {
      this.items = this.aside; // only skipped items are left
      this.aside = [];
      this.skipped.clear();
    }
    this.changed();
  }

  tick() {
    const now = Date.now();
    const held = [...this.items, ...this.aside];
    if (now - this.active > IDLE_MS && held.length && !this.isPaused) {
      this.isPaused = true;
      this.items = this.aside = [];
      this.changed();
      this.release(held.map((one) => one.id)).catch(() => {});
    } else if (held.some((one) => one.ends - now < 15 * 60000 - RENEW_MS) && now >= this.nextTry) {
      this.claim(held.map((one) => one.id));
    } else {
      this.refill();
    }
  }

  // Release the claims of this page when it closes; a reloaded page claims them again.
  leave() {
    const held = [...this.items, ...this.aside].map((one) => one.id);
    if (held.length) this.release(held, true).catch(() => {});
  }

  close() {
    this.isClosed = true;
    clearInterval(this.timer);
    this.leave();
    sessionStorage.removeItem(ROOT + this.useCase);
  }

  async release(items, keepalive = false) {
    await call("POST", "/api/review/release", { body: { items }, key: newKey(), keepalive });
  }

  changed() {
    const held = [...this.items, ...this.aside];
    sessionStorage.setItem(ROOT + this.useCase, JSON.stringify(held.map((one) => one.id)));
    const pictures = new Map();
    for (const item of held) {
      const picture = this.pictures.get(item.id) ?? Object.assign(new Image(), { src: item.image.url });
      pictures.set(item.id, picture); // the reference keeps the decoded image in the browser's memory
    }
    this.pictures = pictures;
    this.report();
  }
}
