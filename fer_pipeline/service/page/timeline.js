// Probabilities over time as stacked areas, with a cursor for pointer and keys. What the moment
// shows besides is video.js's.

import { hueOf, words } from "./faces.js";

const HEIGHT = 220;
const LEFT = 44;
const RIGHT = 8;
const TOP = 8;
const BOTTOM = 26;
const STEPS = [0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800];
const TICK = 90;
const PAGE = 10;

/** Seconds as m:ss. */
export function clock(seconds, digits = 0) {
  const rounded = Number(seconds.toFixed(digits));
  const minutes = Math.floor(rounded / 60);
  const rest = (rounded - 60 * minutes).toFixed(digits);
  return `${minutes}:${rest.padStart(digits ? digits + 3 : 2, "0")}`;
}

export class Timeline {
  pointed = false;
  #drawn = null;
  #stressed = null;
  #marked = -1;

  /** `onPoint` gets the reading under the pointer, or null; `onPick` the one that is chosen. */
  constructor(root, classes, { onPoint, onPick }) {
    Object.assign(this, { root, classes, onPoint, onPick });
    root.tabIndex = 0;
    root.setAttribute("role", "slider");
    root.setAttribute("aria-label", "Moment of the video");
    root.setAttribute("aria-valuemin", "0");
    root.onpointermove = (event) => this.#pointer(event, onPoint, true);
    root.onpointerdown = (event) => this.#pointer(event, onPick, event.pointerType === "mouse");
    root.onpointerleave = () => {
      this.pointed = false;
      onPoint(null);
    };
    root.onkeydown = (event) => this.#key(event);
    new ResizeObserver(() => this.#draw()).observe(root);
  }

  /** Readings at `times` seconds; `faces` has the face of each, or null; `seconds` may be null. */
  show(drawn) {
    this.#drawn = drawn;
    this.root.setAttribute("aria-valuemax", String(Math.max(0, drawn.times.length - 1)));
    this.#draw();
  }

  /** Move the cursor to a reading. */
  mark(at, face) {
    this.#marked = at;
    const time = this.#drawn.times[at];
    this.root.setAttribute("aria-valuenow", String(at));
    this.root.setAttribute("aria-valuetext", `${clock(time, 1)}: ${face ? words(face) : "no face"}`);
    this.#cursor();
  }

  /** Let one class stand out, or none. */
  stress(label) {
    this.#stressed = label;
    for (const area of this.root.querySelectorAll(".area")) this.#dim(area);
  }

  /** The reading next to a moment. */
  nearest(time) {
    const { times } = this.#drawn;
    let best = 0;
    for (let at = 1; at < times.length; at += 1) {
      if (Math.abs(times[at] - time) < Math.abs(times[best] - time)) best = at;
    }
    return best;
  }

  get #end() {
    const { seconds, times, every } = this.#drawn;
    return Math.max(seconds ?? 0, (times.at(-1) ?? 0) + every / 2, every);
  }

  get #width() {
    return Math.max(200, this.root.clientWidth);
  }

  #x(time) {
    return LEFT + (Math.min(time, this.#end) / this.#end) * (this.#width - LEFT - RIGHT);
  }

  #y(share) {
    return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM);
  }

  #draw() {
    if (!this.#drawn || !this.root.clientWidth) return;
    const svg = drawn("svg", { viewBox: `0 0 ${this.#width} ${HEIGHT}`, "aria-hidden": "true" });
    svg.append(...this.#backdrop(), ...this.#areas(), ...this.#axis());
    this.line = drawn("line", { class: "cursor", y1: this.#y(1), y2: this.#y(0) });
    this.knob = drawn("circle", { class: "knob", r: 5, cy: this.#y(0) });
    svg.append(this.line, this.knob);
    this.root.replaceChildren(svg);
    this.#cursor();
  }

  #cursor() {
    if (!this.line) return;
    const time = this.#drawn?.times[this.#marked];
    const x = time === undefined ? -99 : this.#x(time);
    this.line.setAttribute("x1", x);
    this.line.setAttribute("x2", x);
    this.knob.setAttribute("cx", x);
  }

  #backdrop() {
    const { times, every } = this.#drawn;
    const until = times.length ? times.at(-1) + every / 2 : 0;
    const width = Math.max(0, this.#x(until) - LEFT);
    return [drawn("rect", { class: "nobody", x: LEFT, y: this.#y(1), width, height: this.#y(0) - this.#y(1) })];
  }

  #areas() {
    const runs = this.#runs();
    const below = this.#drawn.times.map(() => 0);
    return this.classes.map((label) => {
      const pieces = runs.map((run) => this.#piece(run, below, label));
      for (const at of runs.flat()) below[at] += this.#drawn.faces[at].probabilities[label];
      const area = drawn("path", { class: "area", d: pieces.join("") });
      area.dataset.hue = hueOf(label, this.classes);
      area.dataset.label = label;
      this.#dim(area);
      return area;
    });
  }

  // Places of readings in a row that have a face.
  #runs() {
    const runs = [];
    this.#drawn.faces.forEach((face, at) => {
      if (!face?.probabilities) return;
      if (runs.at(-1)?.at(-1) === at - 1) runs.at(-1).push(at);
      else runs.push([at]);
    });
    return runs;
  }

  // A reading stands for half a step to either side, so that a lone one is seen too.
  #piece(run, below, label) {
    const { times, faces, every } = this.#drawn;
    const corners = run.map((at) => {
      const share = faces[at].probabilities[label];
      return { time: times[at], low: below[at], high: below[at] + share };
    });
    const [first, last] = [corners[0], corners.at(-1)];
    corners.unshift({ ...first, time: Math.max(0, first.time - every / 2) });
    corners.push({ ...last, time: last.time + every / 2 });
    const point = ({ time }, share) => `${this.#x(time).toFixed(1)} ${this.#y(share).toFixed(1)}`;
    const upper = corners.map((corner) => point(corner, corner.high));
    const lower = corners.reverse().map((corner) => point(corner, corner.low));
    return `M${[...upper, ...lower].join("L")}Z`;
  }

  #axis() {
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const y = this.#y(share);
      parts.push(drawn("line", { class: "grid", x1: LEFT, x2: this.#width - RIGHT, y1: y, y2: y }));
      parts.push(lettered(`${100 * share}%`, { x: LEFT - 8, y: y + 4, "text-anchor": "end" }));
    }
    const most = Math.max(1, Math.floor((this.#width - LEFT - RIGHT) / TICK));
    const step = STEPS.find((one) => this.#end / one <= most) ?? this.#end;
    const digits = step < 1 ? 1 : 0;
    for (let time = 0; time <= this.#end; time += step) {
      const x = this.#x(time);
      const anchor = x > this.#width - 30 ? "end" : "middle";
      parts.push(lettered(clock(time, digits), { x, y: HEIGHT - 6, "text-anchor": anchor }));
    }
    return parts;
  }

  #dim(area) {
    area.classList.toggle("dim", this.#stressed !== null && area.dataset.label !== this.#stressed);
  }

  #pointer(event, tell, stays) {
    if (!this.#drawn?.times.length) return;
    const { left } = this.root.getBoundingClientRect();
    const share = (event.clientX - left - LEFT) / (this.#width - LEFT - RIGHT);
    this.pointed = stays;
    tell(this.nearest(share * this.#end));
  }

  #key(event) {
    const last = (this.#drawn?.times.length ?? 0) - 1;
    const at = this.#marked;
    const to = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageUp: at + PAGE, PageDown: at - PAGE, Home: 0, End: last,
    }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.onPick(Math.min(last, Math.max(0, to)));
  }
}

function drawn(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function lettered(text, attributes) {
  const element = drawn("text", attributes);
  element.textContent = text;
  return element;
}
