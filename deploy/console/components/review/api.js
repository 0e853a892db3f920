// Call /api/review. A failure is one of three: refused (with the server's reason), signed out, or not reached.

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
  // Whether the same request may succeed later.
  get isTemporary() {
    return this.status >= 500 || this.status === 408 || this.status === 429;
  }
}

export class SignedOut extends Error {}

export class Offline extends Error {}

export function newKey() {
  // Not randomUUID: browsers have it only on https and on localhost.
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export async function call(method, path, { body, key, keepalive = false } = {}) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const text = body === undefined ? undefined : JSON.stringify(body);
  let response;
  try {
    const signal = keepalive ? undefined : AbortSignal.timeout(20000);
    response = await fetch(path, { method, headers, body: text, keepalive, signal, redirect: "manual" });
  } catch (error) {
    throw new Offline(String(error));
  }
  if (response.type === "opaqueredirect" || response.status === 401) throw new SignedOut("signed out");
  let answer;
  try {
    answer = await response.json();
  } catch (error) {
    if (response.ok) throw new SignedOut("the answer is not JSON");
    answer = {};
  }
  if (response.ok) return answer;
  const failure = answer.error ?? {};
  throw new Refused(response.status, failure.code ?? "error", failure.message ?? `the server answers ${response.status}`);
}
