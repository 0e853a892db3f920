// Show the answers of the three tasks as buttons: one class, a class for boxes, or a class for each question.

import { colourOf } from "./stage.js";

export default {
  props: { useCase: Object, draft: Object, selected: Number, newClass: String, question: Number },
  emits: ["class", "answer", "question", "remove"],
  template: `
<section class="vo-card vr-answers" v-if="useCase.task === 'classification'">
  <h2 class="vo-heading">Class</h2>
  <div class="vr-choices" role="group" aria-label="classes">
    <button v-for="(name, place) in classes" :key="name" type="button" class="vr-btn" @click="$emit('class', name)"
            :class="{'vr-on': draft.class_name === name}" :aria-pressed="draft.class_name === name">
      <kbd class="vo-key" v-if="place < 9">{{ place + 1 }}</kbd> {{ name }}</button>
  </div>
</section>
<section class="vo-card vr-answers" v-else-if="useCase.task === 'detection'">
  <h2 class="vo-heading">{{ selected < 0 ? 'Class of new boxes' : 'Class of box ' + (selected + 1) }}</h2>
  <div class="vr-choices" role="group" aria-label="classes">
    <button v-for="(name, place) in classes" :key="name" type="button" class="vr-btn" @click="$emit('class', name)"
            :class="{'vr-on': chosen === name}" :aria-pressed="chosen === name">
      <kbd class="vo-key" v-if="place < 9">{{ place + 1 }}</kbd><i class="vr-dab" :style="{background: colour(place)}"></i> {{ name }}</button>
    <button v-if="selected >= 0" type="button" class="vr-btn" @click="$emit('remove')">Remove <kbd class="vo-key">Del</kbd></button>
  </div>
</section>
<section class="vo-card vr-answers" v-else>
  <h2 class="vo-heading">Attributes</h2>
  <div v-for="(one, at) in useCase.scheme.questions" :key="one.name" class="vr-question" :class="{'vr-current': at === question}"
       role="group" :aria-label="one.name" @focusin="$emit('question', at)">
    <span class="vr-name">{{ one.name }}</span>
    <button v-for="(name, place) in one.class_names" :key="name" type="button" class="vr-btn vr-small" @click="$emit('answer', at, name)"
            :class="{'vr-on': draft.attributes[one.name] === name}" :aria-pressed="draft.attributes[one.name] === name">
      <kbd class="vo-key" v-if="at === question && place < 9">{{ place + 1 }}</kbd> {{ name }}</button>
    <button type="button" class="vr-btn vr-small" @click="$emit('answer', at, null)" :aria-pressed="!draft.attributes[one.name]"
            :class="{'vr-on': !draft.attributes[one.name]}"><kbd class="vo-key" v-if="at === question">x</kbd> cannot be said</button>
  </div>
</section>`,
  computed: {
    classes() {
      const { scheme, task } = this.useCase;
      return task === "detection" ? scheme.class_names : scheme.questions[0].class_names;
    },
    chosen() {
      return this.draft.boxes[this.selected]?.class_name ?? this.newClass;
    },
  },
  methods: {
    colour(place) {
      return colourOf(place);
    },
  },
};
