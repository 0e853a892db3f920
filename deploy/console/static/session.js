/* Show on a page that its session has ended, with a link to the login; the page stays, with any typed text. */
"use strict";
(() => {
  const EVERY_MS = 20000;
  let bar = null;
  const say = (text) => {
    if (bar) return;
    bar = document.createElement("div");
    bar.className = "vo-ended";
    bar.setAttribute("role", "alert");
    const link = document.createElement("a");
    link.href = "/login?next=" + encodeURIComponent(location.pathname + location.search);
    link.textContent = "Sign in";
    bar.append(text + " ", link);
    document.body.append(bar);
  };
  const check = async () => {
    try {
      const answer = await fetch("/api/session", { headers: { Accept: "application/json" } });
      if (answer.status === 401) say("Your session has ended.");
      else if (answer.ok && bar) { bar.remove(); bar = null; }
    } catch { /* offline: the page itself shows it */ }
  };
  window.visionopsSession = { check };
  setInterval(check, EVERY_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) check(); });
  const watch = () => {
    if (window.socket) window.socket.on("disconnect", () => setTimeout(check, 100));
    else setTimeout(watch, 500);
  };
  watch();
})();

// Store the last viewed use case, with which the next page begins.
(() => {
  const name = new URLSearchParams(location.search).get('use_case');
  if (name) document.cookie = `visionops_use_case=${encodeURIComponent(name)}; path=/; SameSite=Strict; max-age=31536000`;
})();

// Use the system's theme until a person chooses one; the server reads the choice from the cookie.
window.visionopsTheme = {
  toggle: () => {
    Quasar.Dark.toggle();
    const chosen = Quasar.Dark.isActive ? 'dark' : 'light';
    document.cookie = `visionops_theme=${chosen}; path=/; SameSite=Strict; max-age=31536000`;
  },
};
