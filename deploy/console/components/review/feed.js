// The images of this page: claimed ahead of the reviewer, fetched into the browser, renewed in time, and given back.

import { call, newKey } from "./api.js";

export const LEAST = 8;
const AHEAD = { first: 12, most: 36 };
const AHEAD_S = 10; // of the reviewer's own pace
const AT_ONCE = 8; // a claim of more would have the first of them wait for the last
const RENEW_MS = 5 * 60000;
const IDLE_MS = 10 * 60000;
const ROOT = "visionops.review.claims.";

export class Feed {
  // `report(error)` is called after every change: with what went wrong, null after a call that
  // succeeded, nothing after a change of our own; `missed(why)` when the image on the screen is
  // no longer ours.
  constructor(useCase, isDecided, { report, missed }) {
    Object.assign(this, { useCase, isDecided, report, missed });
    this.items = []; // the first one is on the screen
    this.aside = []; // skipped, and given to us again
    this.skipped = new Set();
    this.least = LEAST; // a grid needs more
    this.pace = []; // when the last decisions came
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

  // How many images to hold: a quick reviewer more than a slow one, who would keep them from others.
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

  // Take an item out: it is decided.
  take(item) {
    this.pace = [...this.pace, Date.now()].slice(-10);
    this.items = this.items.filter((one) => one.id !== item);
    this.aside = this.aside.filter((one) => one.id !== item);
    this.changed();
    this.refill();
  }

  // Put items before the others: their decisions were taken back.
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
    this.key ??= newKey(); // a claim whose answer was lost is asked for again, not made again
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
      this.items = this.aside; // only these are left
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

  // The claims of this page end with it; a page that is only reloaded gets them again.
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
      pictures.set(item.id, picture); // kept, so that the browser keeps what it has decoded
    }
    this.pictures = pictures;
    this.report();
  }
}
