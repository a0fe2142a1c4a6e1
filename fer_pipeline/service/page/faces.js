// How a face is shown: its box over the picture, its label, a bar for each class. Where faces come
// from is the business of camera.js, photo.js and video.js.

const KNOWN = ["Neutral", "Happiness", "Sadness", "Surprise", "Anger", "Fear", "Disgust", "Contempt"];
const UNREAD = {
  too_small: "too small to be read",
  bad_box: "cut off by the edge",
  no_face: "no face",
};

/** The element's child of this class. */
export const part = (root, name) => root.querySelector(`.${name}`);

export function made(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

/** The number of a class's colour: the same one for every model that has the class. */
export function hueOf(label, classes) {
  const known = KNOWN.indexOf(label);
  return known >= 0 ? known : Math.max(0, classes.indexOf(label)) % KNOWN.length;
}

/** Give the stage around a picture or video its proportions. */
export function shape(view, width, height) {
  if (width && height) view.parentElement.style.setProperty("--ratio", `${width} / ${height}`);
}

export const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)}%`;

/** What a face is taken for, in words. */
export function words(face) {
  if (!face.label) return UNREAD[face.status] ?? face.status;
  return `${face.label} ${percent(face.probabilities[face.label])}`;
}

export const largest = (faces) =>
  faces.reduce((best, face) => (best && area(best) >= area(face) ? best : face), null);

const area = (face) => face.box.width * face.box.height;

/** The label of one face, and its bars in the order of the classes. They stay and only move. */
export class Bars {
  constructor(classes, digits) {
    this.classes = classes;
    this.digits = digits;
    this.verdict = made("p", "verdict");
    this.name = made("b");
    this.share = made("span");
    this.verdict.append(this.name, this.share);
    this.list = made("ul", "bars");
    this.list.setAttribute("aria-label", "Probability of each expression");
    this.rows = classes.map((label) => this.#row(label));
    this.list.append(...this.rows.map((row) => row.item));
  }

  get elements() {
    return [this.verdict, this.list];
  }

  /** Shows a face, or, where it has no label, these words. */
  show(face, otherwise = "No face") {
    const label = face?.label ?? null;
    this.name.textContent = label ?? (face ? words(face) : otherwise);
    this.share.textContent = label ? percent(face.probabilities[label], this.digits) : "";
    this.list.classList.toggle("idle", !label);
    for (const { label: name, item, fill, value } of this.rows) {
      const share = label ? face.probabilities[name] : 0;
      fill.style.transform = `scaleX(${share})`;
      value.textContent = label ? percent(share, this.digits) : "–";
      value.value = label ? String(share) : "";
      item.classList.toggle("top", name === label);
    }
  }

  #row(label) {
    const item = made("li");
    const track = made("div", "track");
    const fill = made("div", "fill");
    const value = made("data", "value");
    item.dataset.hue = hueOf(label, this.classes);
    item.dataset.label = label;
    track.setAttribute("aria-hidden", "true");
    track.append(fill);
    item.append(made("span", "name", label), track, value);
    return { label, item, fill, value };
  }
}

/** The boxes over a picture that is shown as large as its element allows, at its own proportions. */
export class Overlay {
  constructor(canvas, classes) {
    this.canvas = canvas;
    this.classes = classes;
    this.last = null;
    new ResizeObserver(() => this.#draw()).observe(canvas);
  }

  /** Draw faces of a picture `width` by `height` pixels; `chosen` is one of them that stands out. */
  show(picture, { mirrored = false, chosen = null } = {}) {
    this.last = { picture, mirrored, chosen };
    this.#draw();
  }

  clear() {
    this.last = null;
    this.#draw();
  }

  #draw() {
    const { canvas } = this;
    const dense = window.devicePixelRatio || 1;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(wide * dense);
    canvas.height = Math.round(high * dense);
    if (!this.last || !wide) return;
    const { picture, mirrored, chosen } = this.last;
    const pen = canvas.getContext("2d");
    const scale = Math.min(wide / picture.width, high / picture.height);
    const left = (wide - picture.width * scale) / 2;
    const top = (high - picture.height * scale) / 2;
    pen.scale(dense, dense);
    // The one that stands out comes last, over the others.
    const faces = [...picture.faces].sort((one, other) => (one === chosen) - (other === chosen));
    for (const face of faces) {
      const { x, y, width, height } = face.box;
      const from = mirrored ? picture.width - x - width : x;
      const box = [left + from * scale, top + y * scale, width * scale, height * scale];
      this.#face(pen, box, face, { wide, strong: face === chosen });
    }
  }

  #face(pen, [x, y, width, height], face, { wide, strong }) {
    const colour = face.label ? this.#colour(face.label) : "#c3ccd6";
    const round = Math.min(12, width / 8);
    for (const [style, line] of [["rgb(0 0 0 / .55)", strong ? 6 : 4], [colour, strong ? 3.5 : 2]]) {
      pen.strokeStyle = style;
      pen.lineWidth = line;
      pen.beginPath();
      pen.roundRect(x, y, width, height, round);
      pen.stroke();
    }
    const text = words(face);
    const size = strong ? 15 : 13;
    pen.font = `600 ${size}px system-ui, sans-serif`;
    const long = pen.measureText(text).width + 16;
    const high = size + 10;
    const at = Math.max(2, Math.min(x, wide - long - 2));
    const above = y - high - 5;
    const down = above >= 2 ? above : y + 5;
    pen.fillStyle = colour;
    pen.beginPath();
    pen.roundRect(at, down, long, high, 7);
    pen.fill();
    pen.fillStyle = "#0b1015";
    pen.textBaseline = "middle";
    pen.fillText(text, at + 8, down + high / 2 + 0.5);
  }

  #colour(label) {
    return BRIGHT[hueOf(label, this.classes)];
  }
}

// Over a picture colours are the same by day and by night, and light enough for dark letters.
const BRIGHT = ["#8ec9ec", "#ffc43d", "#6f9dff", "#f08ad0", "#ff7466", "#b78df5", "#83d060", "#dba876"];
