// Methods of the page that decide: confirm, reject, undo, skip, and handle a refused decision.

import { Refused, call, newKey } from "./api.js";
import { answerOf, emptyDraft, firstDraft, inWords } from "./labels.js";

const SHOWN = 10;

export const deciding = {
  confirm() {
    const answer = answerOf(this.useCase, this.current, this.draft, this.comment);
    if (answer) this.decide(answer);
    else this.notice = "Choose an answer first.";
  },
  reject(reason) {
    this.dialog = "";
    this.decide({ verdict: "reject", label: null, reason, comment: this.comment });
  },
  decide(answer) {
    if (!this.isReady) {
      this.notice = "The image is not on the screen yet.";
      return;
    }
    const seconds = Math.round(performance.now() - this.shownAt) / 1000;
    this.send([{ item: this.current, answer, seconds }]);
  },
  send(decisions) {
    const entries = decisions.map(({ item, answer, seconds }) => ({
      item: item.id,
      use_case: item.use_case,
      url: item.image.url,
      words: answer.verdict === "reject" ? `rejected: ${answer.reason}` : inWords(this.task, answer.label ?? item.predicted_label),
      answer,
      seconds: Math.min(seconds, 86400),
    }));
    try {
      this.outbox.add(entries);
    } catch {
      this.notice = "The browser cannot store the decision: its storage is full or disabled. Nothing was decided.";
      return;
    }
    for (const { item } of decisions) {
      this.known.set(item.id, item);
      this.feed.take(item.id);
    }
    const newest = this.outbox.waiting.slice(-entries.length);
    this.history = [...this.history.filter((one) => !entries.some((entry) => entry.item === one.item)), ...newest].slice(-SHOWN);
    this.feed.touch();
  },
  confirmGrid(ids, out) {
    this.left.push(...out);
    const items = this.items.filter((item) => ids.includes(item.id));
    const seconds = Math.min((performance.now() - this.shownAt) / 1000 / Math.max(1, items.length), 86400);
    this.shownAt = performance.now();
    this.send(items.map((item) => ({ item, answer: { verdict: "confirm", label: null, reason: "", comment: "" }, seconds })));
    this.arrange();
  },
  undo() {
    const entries = this.outbox.takeBack();
    if (!entries.length) {
      this.notice = this.isAdmin
        ? "Nothing to undo; a decision that was sent can be reopened below."
        : "Nothing to undo; an admin can reopen a decision that was sent.";
      return;
    }
    for (const entry of entries) this.restore(entry, this.known.get(entry.item));
    this.feed.putBack(entries.map((entry) => this.known.get(entry.item)).filter(Boolean));
    this.$nextTick(() => (this.notice = entries.length > 1 ? `${entries.length} undone.` : "Undone."));
  },
  restore(entry, item) {
    const label = entry.answer.label ?? item?.predicted_label;
    const draft = label ? firstDraft(this.useCase, { predicted_label: label }) : emptyDraft(this.useCase);
    this.drafts.set(entry.item, { draft, comment: entry.answer.comment });
  },
  noteSaved(entry) {
    this.saved.push(entry.key);
    if (this.numWaiting && entry.use_case === this.useCase?.name) this.numWaiting -= 1;
    this.look();
  },
  async reopen(entry, reason) {
    this.dialog = "";
    await this.tried(async () => {
      await call("POST", `/api/review/items/${entry.item}/reopen`, { body: { reason }, key: newKey() });
      await this.openAgain(entry);
      this.history = this.history.filter((one) => one.key !== entry.key);
    });
  },
  // Claim the item of a refused decision again, and send the same answer or show the image.

  async claimAndSend(entry) {
    await this.tried(async () => {
      await call("POST", `/api/review/items/${entry.item}/claim`, { key: newKey() });
      this.history = [...this.history.filter((one) => one.key !== entry.key), this.outbox.again(entry)].slice(-SHOWN);
    });
  },
  async lookAgain(entry) {
    await this.tried(async () => {
      await this.openAgain(entry);
      this.outbox.drop(entry);
    });
  },
  async openAgain(entry) {
    const item = await call("POST", `/api/review/items/${entry.item}/claim`, { key: newKey() });
    if (entry.use_case !== this.useCase.name) this.choose(entry.use_case, entry.item);
    this.restore(entry, item);
    this.feed.putBack([{ ...item, ends: Date.now() + 15 * 60000 }]);
  },
  async tried(work) {
    try {
      await work();
    } catch (error) {
      this.notice = error instanceof Refused ? error.message : "The server does not answer; try again.";
    }
  },
  skip() {
    if (this.current) this.feed.skip(this.current.id);
    this.feed?.touch();
  },
};
