// The camera tab: frames go out one at a time, and the next one only when the answer to the last
// is there, so that a slow server or network means fewer frames, never old ones.

import { Bars, Overlay, largest, made, part, shape, words } from "./faces.js";
import { Pace, Pictures, Speaker } from "./pacing.js";

const LONG_SIDE = 640;
const QUALITY = 0.8;

const TROUBLE = {
  NotAllowedError: "The browser was told not to give this page the camera: allow it in the address bar, then start again.",
  NotFoundError: "No camera was found: connect one, then start again.",
  NotReadableError: "The camera is in use by another program: close that, then start again.",
  OverconstrainedError: "That camera is gone: choose another one.",
};

export class Camera {
  #stream = null;
  #pictures = null;
  #run = 0;

  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.video = part(root, "view");
    this.mirror = part(root, "mirror");
    this.which = part(root, "which");
    this.pace = part(root, "pace");
    this.overlay = new Overlay(part(root, "overlay"), page.classes);
    this.bars = new Bars(page.classes, 0);
    this.bars.show(null, "–");
    part(root, "shown").replaceChildren(...this.bars.elements);
    this.frame = document.createElement("canvas");
    this.speaker = new Speaker(page.say);
    part(root, "start").onclick = () => this.start();
    part(root, "stop").onclick = () => this.stop({ focus: true });
    this.which.onchange = () => this.start();
    this.mirror.onchange = () => this.#reflect();
  }

  async start() {
    this.stop();
    const run = this.#run;
    this.page.problem(this.root, "");
    let live = null;
    try {
      const stream = await this.#camera();
      if (run !== this.#run) return end(stream);
      this.#stream = stream;
      await this.#open(stream);
      // One that rested, since the page was in the background, is followed by another.
      do {
        live = this.page.server.live();
        const { frames_per_second: most } = await live.ready();
        await this.#follow(live, run, 1000 / most);
      } while (run === this.#run);
    } catch (error) {
      if (run === this.#run) {
        this.stop();
        this.page.failed(this.root, told(error), () => this.start());
      }
    } finally {
      live?.close();
    }
  }

  stop({ focus = false } = {}) {
    this.#run += 1;
    const was = this.#stream;
    this.#stream = null;
    this.#pictures?.end();
    if (!was) return;
    end(was);
    this.video.srcObject = null;
    this.#running(false);
    this.overlay.clear();
    this.bars.show(null, "–");
    this.pace.replaceChildren();
    this.speaker.forget();
    if (focus) part(this.root, "start").focus();
  }

  async #camera() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("A browser gives its camera only to pages that come by HTTPS or from this very machine (localhost): open the page so.");
    }
    const chosen = this.which.value;
    const wish = chosen ? { deviceId: { exact: chosen } } : { facingMode: "user" };
    return navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { ...wish, width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } },
    });
  }

  async #open(stream) {
    const [track] = stream.getVideoTracks();
    track.onended = () => {
      this.stop();
      this.page.problem(this.root, "The camera was switched off or taken away.");
    };
    this.video.srcObject = stream;
    this.#running(true);
    this.#reflect();
    await this.video.play();
    shape(this.video, this.video.videoWidth, this.video.videoHeight);
    await this.#cameras(track.getSettings().deviceId);
    part(this.root, "stop").focus({ preventScroll: true });
  }

  // Cameras have names only once one of them was allowed.
  async #cameras(used) {
    const devices = await navigator.mediaDevices.enumerateDevices();
    const cameras = devices.filter((one) => one.kind === "videoinput");
    this.which.replaceChildren(
      ...cameras.map((camera, at) => new Option(camera.label || `Camera ${at + 1}`, camera.deviceId)),
    );
    if (used) this.which.value = used;
    this.which.parentElement.hidden = cameras.length < 2;
  }

  async #follow(live, run, least) {
    const pace = new Pace();
    const pictures = (this.#pictures = new Pictures(this.video));
    try {
      for (let sent = -Infinity; ; ) {
        await pictures.next(sent + least);
        if (run !== this.#run || live.rested) return;
        sent = performance.now();
        const answer = await live.ask(await this.#jpeg()).catch((error) => {
          if (!live.rested) throw error;
        });
        if (run !== this.#run || !answer) return;
        if (answer.problem) throw new Error(answer.problem);
        pace.add(performance.now() - sent, answer.milliseconds);
        this.#show(answer, pace);
      }
    } finally {
      pictures.end();
    }
  }

  #jpeg() {
    const { video, frame } = this;
    const scale = Math.min(1, LONG_SIDE / Math.max(video.videoWidth, video.videoHeight));
    const [wide, high] = [video.videoWidth, video.videoHeight].map((side) => Math.round(side * scale));
    if (frame.width !== wide || frame.height !== high) Object.assign(frame, { width: wide, height: high });
    frame.getContext("2d", { alpha: false }).drawImage(video, 0, 0, wide, high);
    return new Promise((resolve) => frame.toBlob(resolve, "image/jpeg", QUALITY));
  }

  #show(answer, pace) {
    const face = largest(answer.faces);
    this.last = { answer, face };
    this.overlay.show(answer, { mirrored: this.mirror.checked, chosen: face });
    this.bars.show(face);
    this.speaker.hear(face ? words(face) : "No face", face?.label ?? null);
    if (pace.due()) this.#figures(pace);
  }

  #figures(pace) {
    const number = (value) => made("b", "", value.toFixed(0));
    const fps = number(pace.fps);
    fps.classList.add("fps");
    const late = number(pace.latency);
    late.classList.add("latency");
    this.pace.replaceChildren(fps, " fps · ", late, ` ms, of it ${pace.server.toFixed(0)} the server's`);
  }

  #running(on) {
    this.video.hidden = !on;
    part(this.root, "curtain").hidden = on;
    part(this.root, "stop").hidden = !on;
  }

  #reflect() {
    this.video.classList.toggle("mirrored", this.mirror.checked);
    if (this.#stream && this.last) {
      const { answer, face } = this.last;
      this.overlay.show(answer, { mirrored: this.mirror.checked, chosen: face });
    }
  }
}

function end(stream) {
  for (const track of stream.getTracks()) {
    track.onended = null;
    track.stop();
  }
}

function told(error) {
  const sentence = TROUBLE[error.name];
  return sentence ? new Error(sentence) : error;
}
