// The picture, its buttons and keys. Python decides what is shown; this shows it, measures how
// long it is looked at, and sends what is pressed together with the token of the picture it was
// pressed for. Nothing here knows more of a picture than its address.

const panels = new WeakMap();
const RETRY_MILLISECONDS = 2000;
const TRIES = 6;

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  let panel = panels.get(parentElement);
  if (!panel) {
    panel = new Panel(parentElement);
    panels.set(parentElement, panel);
  }
  panel.update(data, setTriggerValue);
  return () => {
    panels.delete(parentElement);
    panel.end();
  };
}

// How long something was looked at: runs only while all reasons to stop are gone.
class Clock {
  constructor() {
    this.spent = 0;
    this.since = null;
  }

  run(on) {
    const now = performance.now();
    if (this.since !== null) this.spent += now - this.since;
    this.since = on ? now : null;
  }

  get milliseconds() {
    const running = this.since === null ? 0 : performance.now() - this.since;
    return Math.round(this.spent + running);
  }
}

class Panel {
  constructor(root) {
    this.find = (name) => root.querySelector("." + name);
    this.picture = this.find("picture");
    this.keys = new Map();
    this.token = null;
    this.problem = 0;
    this.loaded = this.busy = this.paused = false;
    this.clock = new Clock();
    this.picture.onload = () => this.isThere();
    this.picture.onerror = () => this.isNotThere();
    this.find("undo").onclick = () => this.undo();
    this.find("pause").onclick = () => this.pause();
    this.find("resume").onclick = () => this.resume();
    this.onKey = (event) => this.key(event);
    this.onVisibility = () => this.tick();
    this.sizes = new ResizeObserver(() => this.fit());
    for (const name of ["progress", "problem", "choices", "tools"]) this.sizes.observe(this.find(name));
    document.addEventListener("keydown", this.onKey, true);
    document.addEventListener("visibilitychange", this.onVisibility);
  }

  end() {
    document.removeEventListener("keydown", this.onKey, true);
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.sizes.disconnect();
    clearInterval(this.patience);
  }

  update(data, send) {
    const before = this.data;
    this.data = data;
    this.send = send;
    this.buttons(data.choices);
    this.figures(data);
    if (data.token !== this.token) {
      const same = before?.picture === data.picture && before.place === data.place;
      const unheard = this.busy && same ? this.asked : null;
      this.show(data);
      // The server was started anew and doesn't know what was pressed for this very picture.
      if (unheard?.name === "answer") this.ask(unheard.name, unheard.value);
    }
    else if (data.problem_number !== this.problem) this.free(data.problem);
    this.problem = data.problem_number;
  }

  buttons(choices) {
    const wanted = JSON.stringify(choices);
    if (wanted === this.made) return;
    this.made = wanted;
    this.keys.clear();
    const made = choices.map(([label, key], at) => {
      const button = document.createElement("button");
      const cap = document.createElement("kbd");
      button.type = "button";
      cap.textContent = key;
      button.append(label, cap);
      button.setAttribute("aria-keyshortcuts", key.toUpperCase());
      button.onclick = () => this.answer(at);
      this.keys.set(key, () => this.answer(at));
      return button;
    });
    this.find("choices").replaceChildren(...made);
    for (const key of this.data.undo_keys) this.keys.set(key, () => this.undo());
  }

  // The stage takes the height that the rest of the page leaves, so that nothing has to be scrolled.
  fit() {
    const below = this.find("choices").offsetHeight + this.find("tools").offsetHeight;
    const above = this.find("stage").getBoundingClientRect().top + window.scrollY;
    this.find("panel").style.setProperty("--rest", `${Math.ceil(above + below)}px`);
  }

  figures(data) {
    const bar = this.find("bar");
    bar.setAttribute("aria-valuemax", data.total);
    bar.setAttribute("aria-valuenow", data.answered);
    bar.setAttribute("aria-valuetext", data.place);
    this.find("filled").style.width = `${(100 * data.answered) / data.total}%`;
    this.find("place").textContent = data.place;
    this.find("pace").textContent = data.pace;
    this.find("undo").setAttribute("aria-disabled", String(!data.answered));
  }

  show(data) {
    this.token = data.token;
    this.free(data.problem);
    this.loaded = false;
    this.find("stage").setAttribute("aria-busy", "true");
    this.clock = new Clock();
    this.picture.alt = data.alt;
    this.picture.hidden = this.paused;
    this.picture.src = data.picture;
    // One that was fetched ahead is there at once.
    if (this.picture.complete && this.picture.naturalWidth) this.isThere();
    this.find("said").textContent = data.said;
    this.ahead = data.next.map((address) => {
      const image = new Image();
      image.src = address;
      return image;
    });
  }

  isThere() {
    this.loaded = true;
    this.find("stage").setAttribute("aria-busy", "false");
    this.tick();
  }

  isNotThere() {
    this.free("The picture didn't arrive: reload the page.");
  }

  free(problem) {
    clearInterval(this.patience);
    this.busy = false;
    this.find("panel").classList.remove("waiting");
    for (const button of this.find("choices").children) button.classList.remove("pressed");
    const line = this.find("problem");
    line.textContent = problem;
    line.hidden = !problem;
    this.tick();
  }

  tick() {
    const seen = document.visibilityState === "visible";
    this.clock.run(this.loaded && !this.busy && !this.paused && seen);
  }

  ask(name, value) {
    this.asked = { name, value };
    this.busy = true;
    this.tick();
    this.find("panel").classList.add("waiting");
    this.tries = 0;
    this.patience = setInterval(() => this.tryAgain(), RETRY_MILLISECONDS);
    this.send(name, { token: this.token, ...value });
  }

  // What is sent while there is no connection is dropped. The token keeps what arrives twice from
  // being taken twice.
  tryAgain() {
    const { name, value } = this.asked;
    this.tries += 1;
    if (this.tries < TRIES) this.send(name, { token: this.token, ...value });
    else this.free("The page gets no reply: press again, or reload it.");
  }

  answer(choice) {
    if (this.busy || this.paused || !this.loaded) return;
    const { milliseconds } = this.clock;
    this.find("choices").children[choice].classList.add("pressed");
    this.ask("answer", { choice, milliseconds });
  }

  undo() {
    if (this.busy || this.paused || !this.data.answered) return;
    this.ask("undo", {});
  }

  pause() {
    if (this.busy || this.paused) return;
    this.cover(true);
    this.find("resume").focus();
  }

  resume() {
    this.cover(false);
    this.find("pause").focus();
  }

  cover(on) {
    this.paused = on;
    this.picture.hidden = on;
    this.find("curtain").hidden = !on;
    for (const name of ["choices", "tools"]) {
      for (const button of this.find(name).children) button.setAttribute("aria-disabled", String(on));
    }
    if (!on) this.find("undo").setAttribute("aria-disabled", String(!this.data.answered));
    this.find("said").textContent = on ? "Paused" : this.data.alt;
    this.tick();
  }

  key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    const [target] = event.composedPath();
    if (target.closest?.("input, textarea, select, [contenteditable], [role=dialog]")) return;
    let pressed = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    // Keyboards of other scripts: what is printed on the key in Latin.
    if (pressed.length === 1 && pressed > "~" && event.code.startsWith("Key")) {
      pressed = event.code.slice(3).toLowerCase();
    }
    let action = this.keys.get(pressed);
    if (pressed === this.data.pause_key) action = () => (this.paused ? this.resume() : this.pause());
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    // A key that is held down answers one picture, not all of them.
    if (!event.repeat) action();
  }
}
