// Build label drafts: what is drawn or chosen for an image, in the task's format, and as text.

const copy = (value) => (value == null ? value : JSON.parse(JSON.stringify(value)));

export function questionsOf(useCase) {
  return useCase.scheme.questions;
}

export function emptyDraft(useCase) {
  if (useCase.task === "detection") return { boxes: [] };
  if (useCase.task === "classification") return { class_name: null };
  return { attributes: Object.fromEntries(questionsOf(useCase).map((question) => [question.name, null])) };
}

// Start with the prediction, or else with a proposed label, or else empty.
export function firstDraft(useCase, item) {
  const draft = copy(item.predicted_label ?? item.proposed ?? emptyDraft(useCase));
  const found = item.predicted_label && item.predicted?.answer.detections;
  if (found) draft.boxes.forEach((one, place) => (one.confidence = found[place].confidence)); // shown until the box is changed
  return draft;
}

// Return the model's confidence as text; boxes show it themselves.
export function surenessOf(item) {
  const { classification, attributes } = item.predicted?.answer ?? {};
  const percent = (one) => `${one.class_name} ${Math.round(one.confidence * 100)} %`;
  if (classification) return percent(classification);
  if (attributes) return Object.entries(attributes).map(([name, one]) => `${name}: ${percent(one)}`).join(", ");
  return "";
}

// Return null if no answer is chosen yet.
export function labelOf(useCase, draft) {
  if (useCase.task === "detection") {
    return { boxes: draft.boxes.map((one) => ({ class_name: one.class_name, box: [...one.box] })) };
  }
  if (useCase.task === "classification") return draft.class_name ? { class_name: draft.class_name } : null;
  return Object.values(draft.attributes).some((answer) => answer) ? { attributes: { ...draft.attributes } } : null;
}

function plain(useCase, label) {
  if (!label) return null;
  if (useCase.task !== "attributes") return JSON.stringify(labelOf(useCase, label));
  return JSON.stringify(questionsOf(useCase).map((question) => label.attributes[question.name] ?? null));
}

export function sameLabel(useCase, first, second) {
  return plain(useCase, first) === plain(useCase, second);
}

export function answerOf(useCase, item, draft, comment) {
  const label = labelOf(useCase, draft);
  if (!label) return null;
  const isConfirmed = item.predicted_label && sameLabel(useCase, label, item.predicted_label);
  return { verdict: isConfirmed ? "confirm" : "correct", label: isConfirmed ? null : label, reason: "", comment };
}

export function inWords(task, label) {
  if (!label) return "nothing";
  if (task === "classification") return label.class_name;
  if (task === "detection") {
    const counts = new Map();
    for (const one of label.boxes) counts.set(one.class_name, (counts.get(one.class_name) ?? 0) + 1);
    return [...counts].map(([name, count]) => (count > 1 ? `${count} ${name}` : name)).join(", ") || "nothing there";
  }
  const said = Object.entries(label.attributes ?? {}).filter(([, answer]) => answer);
  return said.map(([name, answer]) => `${name}: ${answer}`).join(", ") || "nothing";
}

const WHY = {
  uncertainty: "the model is unsure",
  disagreement: "two models disagree",
  diversity: "unlike the images labelled so far",
  novelty: "unlike the images that the model was validated on",
  rare: "shows a class with few labels",
  random: "drawn at random, to estimate performance",
  feedback: "somebody reported it",
  label_error: "its label in the data set is probably wrong",
  second_opinion: "needs a second opinion",
};

export function whyOf(item) {
  return item.reasons.map((one) => ({ kind: one.kind, text: one.text || WHY[one.kind] || one.kind, value: one.value }));
}
