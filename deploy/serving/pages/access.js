// Keep the API key of this tab and send requests with it. It is in sessionStorage only, so each tab asks for it.
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

// Send a request to this server and return its JSON; throw a Refusal with the server's message.
export async function request(path, options = {}) {
  const headers = { Accept: "application/json", ...options.headers };
  if (key) headers["X-API-Key"] = key;
  let answer;
  try { answer = await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit" }); }
  catch { throw new Refusal("The server does not answer; check that it is running and try again."); }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body !== null) return body;
  const said = typeof body?.error === "string" ? body.error : body?.error?.message;
  throw new Refusal(said || `The server answers with status ${answer.status}.`, answer.status);
}

// Show the page once `load` succeeds; until then show a form for the key, or the error.
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
    element("p", { className: "muted", textContent: "This server requires an API key. The key stays in this tab and is removed when you close it." }),
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
  } catch { /* Without storage, the next page asks for the key again. */ }
}
