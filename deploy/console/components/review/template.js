// Vue template of the page. Texts from users are only in {{ }} and attributes, which Vue escapes.

export const template = `
<div class="vr-page" :data-status="status.tone">
  <div class="vr-bar">
    <label class="vr-field">Use case
      <select v-if="useCases" :value="useCase?.name" @change="choose($event.target.value)" aria-label="use case">
        <option v-for="one in useCases" :key="one.name" :value="one.name">{{ one.name }}</option>
      </select></label>
    <span v-if="numToReview !== null" class="vo-muted">{{ numToReview }} to review</span>
    <span class="vr-space"></span>
    <span class="vr-status" role="status" :class="'vo-' + status.tone">{{ status.text }}</span>
    <button type="button" class="vr-btn" :aria-pressed="isGrid" @click="toggleGrid">{{ isGrid ? 'One by one' : 'Grid' }} <kbd class="vo-key">g</kbd></button>
    <button type="button" class="vr-btn" @click="dialog = 'help'">Keys <kbd class="vo-key">?</kbd></button>
  </div>
  <p v-if="numOthers" class="vo-warn">{{ numOthers }} decisions of another user are held in this browser; they are sent when that user signs in here.</p>
  <p v-if="notice" class="vr-notice" role="alert">{{ notice }} <button type="button" class="vr-btn vr-small" @click="notice = ''">Close</button></p>
  <section v-for="one in problems" :key="one.key" class="vo-card vr-problem" role="alert" :data-item="one.item">
    <img :src="one.url" alt="the image of a refused decision">
    <div>
      <h2 class="vo-heading vo-bad">Not saved: {{ one.words }}</h2>
      <p>{{ one.problem.message }}</p>
      <div class="vr-bar">
        <button type="button" class="vr-btn" @click="claimAndSend(one)">Claim it again and send</button>
        <button type="button" class="vr-btn" @click="lookAgain(one)">Look at it again</button>
        <button type="button" class="vr-btn" @click="outbox.drop(one)">Discard my decision</button>
      </div>
    </div>
  </section>
  <p v-if="useCases && !useCases.length" class="vo-card">Nothing is in review yet. Import images with <code>visionops review import --config FILE FOLDER</code>.</p>
  <vr-grid v-if="useCase && isGrid" ref="grid" :items="cells" :use-case="useCase" :left="left.length" @confirm="confirmGrid"></vr-grid>
  <div v-else-if="useCase" class="vr-main-row">
    <div class="vr-left">
      <vr-stage ref="stage" :items="items" :boxes="boxes" :selected="selected" :classes="classes" :is-drawing="isDrawing"
                :can-draw="task === 'detection'" :retries="retries" @update="setBox" @select="selected = $event" @drawn="addBox"
                @ready="noteReady" @failed="noteFailed">
        <div v-if="!current" class="vr-over">
          <template v-if="isPaused">You have decided nothing for ten minutes, so the images were released. <button type="button" class="vr-btn" @click="feed.touch()">Continue</button></template>
          <template v-else-if="isEmpty && entries.length">Nothing else is waiting; your decisions are being saved.</template>
          <template v-else-if="isEmpty && numToReview">You cannot take the images that are left: another reviewer or another page has them, or they need somebody else's opinion. Images of a page return when it closes, or within 15 minutes.</template>
          <template v-else-if="isEmpty">Nothing waits to be reviewed.</template>
          <template v-else-if="status.tone === 'bad'">{{ status.text }}</template>
          <template v-else>Loading …</template>
        </div>
        <div v-else-if="!isReady" class="vr-over">Loading the image …</div>
        <span v-if="isDrawing" class="vr-hint">Draw what is missing; its class: {{ newClass }} (1 … 9)</span>
      </vr-stage>
      <div class="vr-bar vr-tools" role="group" aria-label="view">
        <button type="button" class="vr-btn vr-icon" aria-label="zoom in" @click="$refs.stage.zoom(1.25)">+</button>
        <button type="button" class="vr-btn vr-icon" aria-label="zoom out" @click="$refs.stage.zoom(0.8)">−</button>
        <button type="button" class="vr-btn" @click="$refs.stage.fit()">Whole <kbd class="vo-key">0</kbd></button>
        <button v-if="task === 'detection'" type="button" class="vr-btn" :class="{'vr-on': isDrawing}" :aria-pressed="isDrawing" :disabled="!current"
                @click="isDrawing = !isDrawing">Something is missing <kbd class="vo-key">n</kbd></button>
        <button type="button" class="vr-btn" @click="propose(current.predicted_label)" :disabled="!current?.predicted_label || isAsPredicted">Reset <kbd class="vo-key">z</kbd></button>
        <span class="vr-space"></span>
        <span v-if="current" class="vr-clip vo-muted">{{ current.name || current.id }}</span>
      </div>
      <vr-recent :entries="history" :saved="saved" :problems="problems" :is-admin="isAdmin" @reopen="dialog = 'reopen'; reopened = $event"></vr-recent>
    </div>
    <div class="vr-right" v-if="current && draft">
      <vr-answers :use-case="useCase" :draft="draft" :selected="selected" :new-class="newClass" :question="question"
                  @class="setClass" @answer="setAnswer" @question="question = $event" @remove="removeBox"></vr-answers>
      <div class="vr-decide">
        <button type="button" class="vr-btn vr-main" :disabled="!label || !isReady" @click="confirm">{{ confirmText }} <kbd class="vo-key">Enter</kbd></button>
        <button type="button" class="vr-btn" :disabled="!isReady" @click="dialog = 'reject'">Reject <kbd class="vo-key">r</kbd></button>
        <button type="button" class="vr-btn" @click="skip">Skip <kbd class="vo-key">s</kbd></button>
        <button type="button" class="vr-btn" @click="undo">Undo <kbd class="vo-key">u</kbd></button>
      </div>
      <label class="vr-field vr-comment">Comment <kbd class="vo-key">m</kbd>
        <input ref="comment" v-model="comment" maxlength="4000" @keydown.esc.stop="$refs.stage.focus()" @keydown.enter.prevent="$refs.stage.focus()"></label>
      <p class="vo-muted vr-note">A decision can be undone for {{ hold / 1000 }} s; then it is sent, and an admin can reopen it.</p>
      <vr-panel :item="current" :task="task" @propose="propose"></vr-panel>
    </div>
  </div>
  <vr-dialogs :name="dialog" :task="useCase?.task" :is-grid="isGrid" :entry="reopened" @close="dialog = ''; $refs.stage?.focus()" @reject="reject"
              @reopen="reopen"></vr-dialogs>
</div>`;
