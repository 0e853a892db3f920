// Return how many decisions the server has; the only place that shows "saved".

import { Offline, SignedOut } from "./api.js";

export function statusOf(outbox, feedTrouble, isOnline) {
  const held = outbox.waiting.length;
  const trouble = outbox.trouble ?? feedTrouble;
  const refused = outbox.problems.length;
  if (trouble instanceof SignedOut) {
    return { tone: "bad", text: held ? `signed out: ${held} held; sign in again and they are sent` : "signed out: sign in again" };
  }
  if (trouble instanceof Offline || !isOnline) {
    return { tone: "bad", text: held ? `offline: ${held} held, will be sent` : "offline: nothing is held" };
  }
  if (trouble) return { tone: "bad", text: `${trouble.message}${held ? `; ${held} held, will be sent` : ""}` };
  if (held) return { tone: "warn", text: `${held} not saved yet` };
  if (refused) return { tone: "bad", text: `${refused} refused: see below` };
  return { tone: "ok", text: "all saved" };
}
