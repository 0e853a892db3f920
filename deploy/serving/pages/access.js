// The API key of this tab, and requests with it. It is kept in sessionStorage alone: another tab asks again.
const STORED = "visionops-key";
let key = read();

export class Refusal extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export const currentKey = () => key;

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Sends a request of this server and returns its JSON; raises a Refusal in the server's own words.
export async function request(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key) headers["X-API-Key"] = key;
  let answer;
  try { answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" }); }
  catch { throw new Refusal("The server does not answer; check that it runs and try again."); }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  const said = typeof body?.error === "string" ? body.error : body?.error?.message;
  throw new Refusal(said || `The server answers with status ${answer.status}.`, answer.status);
}

// Shows the page once `load` succeeds; until then a form for the key, or what stands in the way.
export async function enter(load) {
  const door = document.getElementById("door");
  const content = document.getElementById("content");
  const forget = document.getElementById("forget");
  forget.onclick = () => { keep(""); location.reload(); };
  try {
    await load();
    door.replaceChildren();
    content.hidden = false;
    forget.hidden = !key;
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    content.hidden = true;
    forget.hidden = !key;
    const isKey = error.status === 401 || (error.status === 403 && Boolean(key));
    door.replaceChildren(isKey ? keyForm(error, load) : obstacle(error, load));
    door.querySelector("input")?.focus();
  }
}

function keyForm(error, load) {
  const field = element("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: false });
  const button = element("button", { className: "button", textContent: "Open" });
  const form = element("form", { className: "card door" },
    element("h1", { textContent: "API key" }),
    element("p", { className: "muted", textContent: "This server answers clients with a key. It stays in this tab and is forgotten when you close it." }),
    element("label", { htmlFor: "key", textContent: "Key" }), field);
  if (key) {
    field.setAttribute("aria-describedby", "key-problem");
    field.setAttribute("aria-invalid", "true");
    const said = error.status === 401 ? "This key is wrong, or is no longer valid." : sentence(error.message);
    form.append(element("p", { id: "key-problem", className: "bad", role: "alert", textContent: said }));
  }
  form.append(button);
  form.onsubmit = (event) => {
    event.preventDefault();
    button.disabled = true;
    keep(field.value.trim());
    enter(load);
  };
  return form;
}

function obstacle(error, load) {
  const again = element("button", { className: "button", type: "button", textContent: "Try again" });
  again.onclick = () => enter(load);
  return element("section", { className: "card door" },
    element("h1", { textContent: error.status ? "Not available" : "No answer" }),
    element("p", { role: "alert", textContent: sentence(error.message) }), again);
}

export function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

function read() {
  try { return sessionStorage.getItem(STORED) || ""; } catch { return ""; }
}

function keep(value) {
  key = value;
  try {
    if (value) sessionStorage.setItem(STORED, value);
    else sessionStorage.removeItem(STORED);
  } catch { /* A browser that keeps nothing asks again on the next page. */ }
}
