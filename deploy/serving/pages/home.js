// Show the served models, and a form that draws the prediction for an image. Server texts become text nodes, not HTML.
import { Refusal, currentKey, element, enter, request, sentence } from "./access.js";

const COLOURS = ["#ffb020", "#35d07f", "#4aa8ff", "#ff6f91", "#b28dff", "#2ee6d6", "#ff8a3d", "#d4e157"];
const REFRESH_MS = 15_000;
const LOWEST = 0.05; // Least confidence to request from a detector; the slider filters in the browser.
const SVG = "http://www.w3.org/2000/svg";
const get = (id) => document.getElementById(id);
const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)}%`;
const number = (value) => value.toLocaleString("en");
const counted = (count, thing) => `${number(count)} ${thing}${count === 1 ? "" : "s"}`;
const milliseconds = (value) => `${value < 100 ? value.toFixed(1) : Math.round(value)} ms`;
const sum = (values) => values.reduce((total, value) => total + value, 0);

let facts = { models: [] };
let shown = null; // the last answer
let number_of_try = 0;
const colours = new Map();

enter(refresh);
setInterval(() => { if (!document.hidden && !get("content").hidden) update(); }, REFRESH_MS);

// Reload the figures; the old ones stay on the page if the server does not answer.
async function update() {
  try { await refresh(); } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (error.status === 401) enter(refresh);
    else get("server").textContent = `These figures are not current: ${sentence(error.message)}`;
  }
}

async function refresh() {
  facts = await request("./");
  const bad = sum(Object.values(facts.rejected));
  get("server").replaceChildren(`VisionOps ${facts.version}, started `, moment(facts.started),
    `. It serves ${facts.serves}.`, ...source());
  const models = facts.models.map(card);
  if (!models.length) models.push(element("p", { className: "card", textContent: "No model is loaded yet." }));
  get("waiting").textContent = `${counted(facts.waiting, "image")} in the queue. ${bad
    ? `${counted(bad, "request")} refused: ${listed(facts.rejected)}.` : "No request was refused."}`;
  get("models").replaceChildren(...models);
  choices();
}

// The licence requires a modified server to offer its source to its users.
function source() {
  const link = { href: facts.links.source, textContent: "Source code", rel: "noreferrer" };
  return facts.links.source ? [" ", element("a", link), " (AGPL-3.0-or-later)."] : [];
}

function card(model) {
  const state = model.ready ? element("span", { className: "state ok", textContent: "Answers" })
    : element("span", { className: "state bad", textContent: "Does not answer" });
  const title = element("h2", {}, model.name, model.version ? ` version ${model.version}` : "");
  const made = element("article", { className: "card" }, element("div", { className: "line" }, title, state));
  if (model.last_failure) {
    made.append(element("p", { className: "bad", textContent:
      `Version ${model.last_failure.version} could not be loaded: ${sentence(model.last_failure.message)}` }));
  }
  if (!model.ready) return made;
  const last = model.last_images;
  made.append(element("dl", { className: "figures" },
    ...figure("Images answered", number(model.answered)),
    ...figure("Median time", last.images ? milliseconds(last.median_ms) : "–", last.images ? `of the last ${counted(last.images, "image")}` : "no image yet"),
    ...figure("Failed", number(model.failed), last.images ? `${percent(last.error_rate)} of the last ${counted(last.images, "image")}` : "")));
  const rows = [
    ["Serves since", moment(model.since)],
    ["Task", model.task],
    ["Architecture", model.architecture],
    ["Classes", list(model.classes)],
  ];
  if (model.confidence !== undefined) rows.push(["Answers from", `${percent(model.confidence)} confidence`]);
  if (Object.keys(model.found).length) rows.push(["Found so far", listed(model.found)]);
  for (const [role, version] of Object.entries(model.beside)) rows.push([role === "canary" ? "Canary" : "Shadow", `version ${version}`]);
  made.append(element("dl", { className: "facts" }, ...rows.flatMap(([term, value]) =>
    [element("dt", { textContent: term }), element("dd", {}, value)])));
  return made;
}

function figure(name, value, more = "") {
  return [element("div", {}, element("dt", { textContent: name }), element("dd", { className: "number", textContent: value }),
    element("dd", { className: "muted", textContent: more }))];
}

function list(names) {
  const most = 40;
  return names.length > most ? `${names.slice(0, most).join(", ")} and ${number(names.length - most)} more` : names.join(", ");
}

function listed(counts) {
  return Object.entries(counts).sort((a, b) => b[1] - a[1]).map(([name, count]) => `${name}: ${number(count)}`).join(", ");
}

function moment(text) {
  const date = new Date(text);
  const words = date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
  return element("time", { dateTime: text, title: text, textContent: words });
}

// The form

function choices() {
  const ready = facts.models.filter((model) => model.ready);
  const select = get("model");
  const before = select.value;
  if ([...select.options].map((option) => option.value).join("\n") !== ready.map((model) => model.name).join("\n")) {
    select.replaceChildren(...ready.map((model) => element("option", { value: model.name, textContent: model.name })));
    if (ready.some((model) => model.name === before)) select.value = before;
  }
  get("which").hidden = ready.length < 2;
  get("try").hidden = !ready.length;
  describe();
}

const chosen = () => facts.models.find((model) => model.name === get("model").value);

function query(model) {
  const query = new URLSearchParams();
  if (!model.default) query.set("model", model.name);
  if (model.confidence !== undefined) query.set("conf", String(Math.min(LOWEST, model.confidence)));
  return query.size ? `?${query}` : "";
}

function describe() {
  const model = chosen();
  if (!model) return;
  get("limit").textContent = `At most ${(model.max_upload_bytes / 1e6).toLocaleString("en")} MB. The image is sent to this server only.`;
  const name = model.default ? "" : `?model=${encodeURIComponent(model.name)}`;
  const header = currentKey() ? '-H "X-API-Key: $KEY" ' : "";
  get("curl").textContent = `curl ${header}-F file=@part.jpg "${new URL(`predict${name}`, location.href)}"`;
}

get("model").onchange = () => { describe(); if (shown) send(shown.file); };
get("file").onchange = (event) => { const [file] = event.target.files; event.target.value = ""; if (file) send(file); };
const drop = get("drop");
drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
drop.ondragleave = () => drop.classList.remove("over");
drop.ondrop = (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) send(file);
};
document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData?.files || [];
  if (file && chosen()) { event.preventDefault(); send(file); }
});
get("threshold").oninput = draw;

async function send(file) {
  const model = chosen();
  if (!model) return;
  const own = ++number_of_try;
  const started = performance.now();
  get("problem").replaceChildren();
  get("result").hidden = true;
  get("status").textContent = `Sending ${file.name || "the pasted image"} …`;
  try {
    if (file.size > model.max_upload_bytes) {
      throw new Refusal(`the image has ${number(file.size)} bytes; the limit is ${number(model.max_upload_bytes)}`);
    }
    const headers = { "Content-Type": "application/octet-stream" };
    const answer = await request(`predict${query(model)}`, { method: "POST", body: file, headers });
    if (own !== number_of_try) return; // another image was chosen in the meantime
    show({ file, answer, model, whole: performance.now() - started });
    update();
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    if (own !== number_of_try) return;
    shown = null;
    get("status").textContent = "";
    get("problem").replaceChildren(element("p", { className: "bad", textContent: `${file.name || "The pasted image"}: ${sentence(error.message.replace(/^upload: /, ""))}` }));
    update();
  }
}

function show(next) {
  if (shown) URL.revokeObjectURL(get("image").src);
  shown = next;
  const { file, answer, model, whole } = next;
  const image = get("image");
  image.onload = () => { get("unshown").hidden = true; image.parentElement.hidden = false; };
  image.onerror = () => { get("unshown").hidden = false; image.parentElement.hidden = true; };
  image.src = URL.createObjectURL(file);
  image.alt = file.name || "The pasted image";
  get("shapes").setAttribute("viewBox", `0 0 ${answer.image.width} ${answer.image.height}`);
  get("range").hidden = model.confidence === undefined;
  get("threshold").min = String(Math.min(LOWEST, model.confidence ?? 0));
  get("threshold").value = String(model.confidence ?? 0);
  get("json").textContent = JSON.stringify(answer, null, 2);
  const { total, ...stages } = answer.timing_ms;
  get("timing").textContent = `${milliseconds(total)} on the server (${Object.entries(stages).map(([name, value]) =>
    `${name} ${milliseconds(value)}`).join(", ")}), ${milliseconds(whole)} including the network.`;
  get("result").hidden = false;
  draw();
}

function draw() {
  const { answer, model, file } = shown;
  const least = Number(get("threshold").value);
  get("percent").textContent = percent(least);
  const boxes = found(answer).filter((part) => model.confidence === undefined || part.confidence >= least)
    .sort((a, b) => b.confidence - a.confidence);
  get("shapes").replaceChildren(...boxes.flatMap((part) => shape(part, answer.image)));
  get("answer").replaceChildren(...words(answer, boxes));
  const identity = `${answer.model.name} version ${answer.model.version}`;
  const size = `${answer.image.width} × ${answer.image.height} pixels`;
  get("status").textContent = `${file.name || "The pasted image"}, ${size}, answered by ${identity}.`;
}

// Find everything with a class and a box in any list of the answer, because other tasks may have their own.
function found(answer) {
  return Object.values(answer).filter(Array.isArray).flat()
    .filter((part) => part && typeof part.class_name === "string" && Array.isArray(part.box));
}

function shape(part, image) {
  const colour = colourOf(part.class_name);
  const [x1, y1, x2, y2] = part.box;
  const unit = Math.max(image.width, image.height) / 100;
  const outline = Array.isArray(part.polygon)
    ? svg("polygon", { points: part.polygon.map((point) => point.join(",")).join(" "), fill: colour, "fill-opacity": 0.25 })
    : svg("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, fill: "none" });
  for (const [name, value] of Object.entries({ stroke: colour, "stroke-width": 2, "vector-effect": "non-scaling-stroke" })) outline.setAttribute(name, value);
  const text = svg("text", { x: x1, y: Math.max(y1 - unit * 0.8, unit * 3), fill: colour, "font-size": unit * 2.8 });
  text.textContent = `${part.class_name} ${percent(part.confidence)}`;
  return [outline, text];
}

function svg(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

function words(answer, boxes) {
  const whole = answer.classification ? [["", answer.classification]] : Object.entries(answer.attributes || {});
  const parts = whole.flatMap(([question, part]) => [
    element("h3", { textContent: `${question ? `${question}: ` : ""}${part.class_name}` }),
    table(["Class", "Probability"], Object.entries(part.probabilities || { [part.class_name]: part.confidence })
      .sort((a, b) => b[1] - a[1]).map(([name, share]) => [name, bar(share)]), `Probabilities${question ? ` of ${question}` : ""}`),
  ]);
  if (found(answer).length || !whole.length) parts.push(...detections(answer, boxes));
  return parts;
}

function detections(answer, boxes) {
  const all = found(answer).length;
  if (!boxes.length) {
    return [element("h3", { textContent: "Nothing found" }),
      element("p", { className: "muted", textContent: all ? `${number(all)} below the shown confidence.` : "The model found nothing." })];
  }
  const counts = {};
  for (const part of boxes) counts[part.class_name] = (counts[part.class_name] || 0) + 1;
  const rows = boxes.map((part) => [name(part.class_name), bar(part.confidence, colourOf(part.class_name)),
    part.box.map((side) => Math.round(side)).join(", ")]);
  return [element("h3", { textContent: listed(counts) }), table(["Class", "Confidence", "Box: x1, y1, x2, y2"], rows, "What was found")];
}

function name(className) {
  const dot = element("span", { className: "dot" });
  dot.style.background = colourOf(className);
  return element("span", {}, dot, className);
}

function bar(share, colour = "") {
  const part = element("span", { className: "fill" });
  part.style.width = `${share * 100}%`;
  part.style.background = colour;
  return element("span", { className: "meter" }, element("span", { className: "track" }, part), element("span", { className: "share", textContent: percent(share) }));
}

function table(head, rows, caption) {
  const cells = (kind, row) => element("tr", {}, ...row.map((cell) => element(kind, kind === "th" ? { scope: "col" } : {}, cell)));
  return element("div", { className: "scroll", tabIndex: 0, role: "region", ariaLabel: caption }, element("table", {},
    element("caption", { className: "unseen", textContent: caption }),
    element("thead", {}, cells("th", head)), element("tbody", {}, ...rows.map((row) => cells("td", row)))));
}

function colourOf(className) {
  if (!colours.has(className)) colours.set(className, COLOURS[colours.size % COLOURS.length]);
  return colours.get(className);
}
