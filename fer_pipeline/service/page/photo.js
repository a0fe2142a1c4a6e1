// The photo tab: a picture that is chosen, dropped or pasted, its faces, and what each looks like.

import { Bars, Overlay, hueOf, made, part, shape, words } from "./faces.js";
import { takesFiles } from "./files.js";

const THUMBNAIL = 144;
const SAME_RATIO = 0.02;

export class Photo {
  #asked = 0;

  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.picture = part(root, "view");
    this.whole = part(root, "whole");
    this.overlay = new Overlay(part(root, "overlay"), page.classes);
    takesFiles(root, (file) => this.read(file));
    this.whole.onchange = () => this.file && this.read(this.file);
  }

  async read(file) {
    const asked = (this.#asked += 1);
    const began = performance.now();
    this.file = file;
    this.page.problem(this.root, "");
    this.#empty();
    const stage = part(this.root, "stage");
    stage.classList.add("waiting");
    const shown = this.#open(file);
    try {
      const answer = await this.page.server.recognise(file, this.whole.checked);
      await shown;
      if (asked === this.#asked) this.#show(answer, performance.now() - began);
    } catch (error) {
      if (asked === this.#asked) this.page.failed(this.root, error, () => this.read(file));
    } finally {
      if (asked === this.#asked) stage.classList.remove("waiting");
    }
  }

  // Some pictures that the server reads, this browser doesn't: TIFF and HEIC, say.
  async #open(file) {
    URL.revokeObjectURL(this.address);
    const address = (this.address = URL.createObjectURL(file));
    this.picture.src = address;
    this.picture.alt = file.name ? `The picture ${file.name}` : "The pasted picture";
    part(this.root, "curtain").hidden = true;
    part(this.root, "another").hidden = false;
    this.picture.hidden = false;
    const seen = await this.picture.decode().then(() => true, () => false);
    if (address !== this.address) return;
    this.#see(seen);
    if (seen) shape(this.picture, this.picture.naturalWidth, this.picture.naturalHeight);
  }

  #see(seen) {
    this.seen = seen;
    this.picture.hidden = !seen;
    part(this.root, "curtain").hidden = seen;
  }

  // Some browsers leave a WebP as it lies where its EXIF says how to turn it; the server turns it,
  // and its boxes would stand elsewhere.
  #turnedOtherwise({ width, height }) {
    const { naturalWidth, naturalHeight } = this.picture;
    return Math.abs((naturalWidth * height) / (naturalHeight * width) - 1) > SAME_RATIO;
  }

  #empty() {
    this.overlay.clear();
    part(this.root, "faces").replaceChildren();
    part(this.root, "count").textContent = "Faces";
    part(this.root, "empty").hidden = true;
    part(this.root, "pace").textContent = "";
  }

  #show(answer, milliseconds) {
    const { faces } = answer;
    const beyond = answer.left_out ? ` of ${faces.length + answer.left_out}` : "";
    const count = faces.length === 1 ? "1 face" : `${faces.length}${beyond} faces`;
    part(this.root, "count").textContent = count;
    part(this.root, "pace").textContent = `${answer.width} × ${answer.height} · ${milliseconds.toFixed(0)} ms`;
    const empty = part(this.root, "empty");
    empty.hidden = faces.length > 0;
    empty.textContent = "No face was found. Where the picture is a face and nothing else, say so below it.";
    this.answer = answer;
    if (this.seen && this.#turnedOtherwise(answer)) this.#see(false);
    this.#mark(faces.length === 1 ? faces[0] : null);
    part(this.root, "faces").replaceChildren(...faces.map((face, at) => this.#card(face, at)));
    this.page.say(faces.length ? `${count}. ${faces.slice(0, 3).map(words).join(", ")}` : "No face was found.");
  }

  #card(face, at) {
    const card = made("li", "face");
    if (face.label) card.dataset.hue = hueOf(face.label, this.page.classes);
    const bars = new Bars(this.page.classes, 1);
    bars.show(face);
    card.setAttribute("aria-label", `Face ${at + 1}: ${words(face)}`);
    card.append(this.#thumbnail(face));
    card.append(...(face.label ? bars.elements : [bars.verdict]));
    // Keys and screen readers have the list's order; a pointer finds the box.
    card.onpointerenter = () => this.#mark(face, card);
    card.onpointerleave = () => this.#mark(null, card);
    return card;
  }

  #mark(face, card = null) {
    card?.classList.toggle("marked", face !== null);
    this.overlay.show(this.seen ? this.answer : { ...this.answer, faces: [] }, { chosen: face });
  }

  #thumbnail(face) {
    const canvas = made("canvas");
    canvas.width = canvas.height = THUMBNAIL;
    canvas.setAttribute("aria-hidden", "true");
    if (!this.seen) return canvas;
    const scale = this.picture.naturalWidth / this.answer.width;
    const { x, y, width, height } = face.box;
    const side = Math.max(width, height) * 1.15;
    const [left, top] = [x + (width - side) / 2, y + (height - side) / 2];
    const cut = [left, top, side, side].map((value) => value * scale);
    canvas.getContext("2d").drawImage(this.picture, ...cut, 0, 0, THUMBNAIL, THUMBNAIL);
    return canvas;
  }
}
