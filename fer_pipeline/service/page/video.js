// The video tab: a video goes to the server, its readings come back one by one, and the picture, the
// curve and the bars show the same moment.

import { Bars, Overlay, hueOf, largest, made, part, percent, shape } from "./faces.js";
import { takesFiles } from "./files.js";
import { Timeline, clock } from "./timeline.js";
import { asCsv, save } from "./table.js";

const LARGEST = "";
const PEOPLE = 8;

export class Video {
  #asked = 0;
  #drawing = 0;

  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.view = part(root, "view");
    this.person = part(root, "person");
    this.overlay = new Overlay(part(root, "overlay"), page.classes);
    this.bars = new Bars(page.classes, 0);
    this.bars.show(null, "–");
    part(root, "shown").replaceChildren(...this.bars.elements);
    this.timeline = new Timeline(part(root, "timeline"), page.classes, {
      onPoint: (at) => this.#point(at),
      onPick: (at) => this.#seek(at),
    });
    part(root, "legend").replaceChildren(...page.classes.map((label) => this.#key(label)));
    takesFiles(root, (file) => this.read(file));
    part(root, "cancel").onclick = () => this.#cancel();
    part(root, "csv").onclick = () => this.#save();
    part(root, "every").onchange = () => this.file && this.read(this.file);
    this.person.onchange = () => this.#draw();
    this.view.onerror = () => this.#unplayable();
    this.view.onloadedmetadata = () => shape(this.view, this.view.videoWidth, this.view.videoHeight);
    for (const event of ["seeked", "play", "loadeddata"]) this.view.addEventListener(event, () => this.#follow());
  }

  async read(file) {
    this.asking?.cancel();
    const asked = (this.#asked += 1);
    this.#empty(file);
    const mine = (what) => (...values) => asked === this.#asked && what(...values);
    this.asking = this.page.server.video(file, part(this.root, "every").value, {
      onSent: mine((share) => this.#progress(share, share < 1 ? `Sending ${percent(share)}` : "Reading")),
      onLine: mine((line) => this.#take(line)),
    });
    try {
      await this.asking.ended;
      if (asked === this.#asked) this.#end();
    } catch (error) {
      if (asked !== this.#asked) return;
      this.#progress(null, "");
      if (!this.readings.length) this.#close();
      this.page.failed(this.root, error, () => this.read(file));
    }
  }

  #empty(file) {
    Object.assign(this, { file, facts: null, readings: [], counts: new Map(), at: -1 });
    this.page.problem(this.root, "");
    this.overlay.clear();
    this.bars.show(null, "–");
    this.person.replaceChildren(new Option("Largest face", LARGEST));
    this.person.parentElement.hidden = true;
    URL.revokeObjectURL(this.address);
    this.address = URL.createObjectURL(file);
    this.view.src = this.address;
    this.view.hidden = false;
    part(this.root, "curtain").hidden = true;
    part(this.root, "another").hidden = false;
    part(this.root, "course").hidden = true;
    part(this.root, "csv").disabled = true;
    part(this.root, "when").textContent = "At a moment";
    this.#progress(0, "Sending");
  }

  #take(line) {
    if (line.video) {
      this.facts = line.video;
      part(this.root, "course").hidden = false;
    } else if (line.end) {
      if (line.end.reason) this.page.problem(this.root, line.end.reason);
    } else this.#add(line);
    this.#draw();
  }

  #add(reading) {
    this.readings.push(reading);
    for (const { track } of reading.faces) this.counts.set(track, (this.counts.get(track) ?? 0) + 1);
    const { seconds } = this.facts;
    const of = seconds ? ` of ${clock(seconds)}` : "";
    this.#progress(seconds ? Math.min(1, reading.time / seconds) : null, `Read ${clock(reading.time)}${of}`);
  }

  #end() {
    const { length } = this.readings;
    this.#progress(null, `${length} ${length === 1 ? "reading" : "readings"}`);
    part(this.root, "csv").disabled = !length;
    const people = [...this.counts].sort(([, one], [, other]) => other - one).slice(0, PEOPLE);
    if (people.length > 1) {
      const options = people.map(([track, count]) => new Option(`Face ${track}, ${count} readings`, track));
      this.person.append(...options);
      this.person.parentElement.hidden = false;
    }
    this.page.say(`The video is read: ${length} readings.`);
  }

  #cancel() {
    this.#asked += 1;
    this.asking.cancel();
    if (this.readings.length) this.#end();
    else this.#close();
  }

  #close() {
    this.#progress(null, "");
    this.view.hidden = true;
    this.view.removeAttribute("src");
    part(this.root, "curtain").hidden = false;
    part(this.root, "another").hidden = true;
    part(this.root, "invitation").textContent = "Drop a video here.";
  }

  #unplayable() {
    if (this.view.hidden || !this.view.getAttribute("src")) return;
    this.view.hidden = true;
    part(this.root, "curtain").hidden = false;
    part(this.root, "invitation").textContent =
      "This browser can't play the video; what was read of it is below.";
  }

  #progress(share, text) {
    const bar = part(this.root, "progress");
    const under = share !== null || text.startsWith("Read");
    bar.hidden = !under;
    part(this.root, "cancel").hidden = !under;
    if (share !== null) {
      bar.setAttribute("aria-valuenow", String(Math.round(100 * share)));
      bar.firstElementChild.style.width = percent(share, 1);
    }
    bar.setAttribute("aria-valuetext", text);
    part(this.root, "pace").textContent = text;
  }

  // Lines come faster than the screen is drawn.
  #draw() {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      if (!this.facts) return;
      const faces = this.readings.map((reading) => this.#chosen(reading));
      this.timeline.show({ ...this.facts, times: this.readings.map(({ time }) => time), faces });
      this.#follow();
    });
  }

  #chosen({ faces }) {
    const { value } = this.person;
    return value === LARGEST ? largest(faces) : faces.find(({ track }) => String(track) === value) ?? null;
  }

  get #playable() {
    return !this.view.hidden && this.view.readyState > 0;
  }

  // The moment that the video is at, and the next one while it plays.
  #follow() {
    // What is about to be drawn is followed then.
    if (!this.facts || !this.readings.length || this.#drawing) return;
    if (!this.#playable) {
      if (this.at < 0) this.#point(0);
      return;
    }
    this.#boxes(this.view.currentTime);
    if (!this.timeline.pointed) this.#moment(this.timeline.nearest(this.view.currentTime));
    if (this.view.paused || this.following) return;
    this.following = true;
    requestAnimationFrame(() => {
      this.following = false;
      this.#follow();
    });
  }

  #point(at) {
    if (at === null) this.#follow();
    else this.#moment(at);
  }

  #seek(at) {
    this.#moment(at);
    if (this.#playable) this.view.currentTime = this.readings[at].time;
  }

  #moment(at) {
    this.at = at;
    const reading = this.readings[at];
    const face = this.#chosen(reading);
    part(this.root, "when").textContent = `At ${clock(reading.time, 1)}`;
    this.bars.show(face);
    this.timeline.mark(at, face);
  }

  // Between two readings a box goes straight from the one to the other.
  #boxes(time) {
    const at = this.readings.findLastIndex((reading) => reading.time <= time + 1e-3);
    if (at < 0) return this.overlay.clear();
    const [here, next] = [this.readings[at], this.readings[at + 1]];
    if (!next && time > here.time + this.facts.every) return this.overlay.clear();
    const share = next ? Math.min(1, Math.max(0, (time - here.time) / (next.time - here.time))) : 0;
    const faces = here.faces.map((face) => {
      const later = next?.faces.find(({ track }) => track === face.track);
      return later ? { ...face, box: between(face.box, later.box, share) } : face;
    });
    const chosen = this.#chosen({ faces });
    this.overlay.show({ ...this.facts, faces }, { chosen });
  }

  #save() {
    save(asCsv(this.readings, this.page.classes), `${this.file.name.replace(/\.[^.]*$/, "")}-expressions.csv`);
  }

  #key(label) {
    const key = made("li", "", label);
    key.dataset.hue = hueOf(label, this.page.classes);
    key.onpointerenter = () => this.timeline.stress(label);
    key.onpointerleave = () => this.timeline.stress(null);
    return key;
  }
}

function between(one, other, share) {
  const mixed = (name) => one[name] + share * (other[name] - one[name]);
  return { x: mixed("x"), y: mixed("y"), width: mixed("width"), height: mixed("height") };
}
