// When things happen before the camera: when a frame is due, how many there are, when a label is told.

// Milliseconds that a label stands before it is told, and between two that are told.
const STEADY = 1200;
const QUIET = 4000;

// Tells when a video has a picture that wasn't taken yet. One that came while the last one was
// read is there at once: else each would wait for the one after it. In the background none comes.
export class Pictures {
  #fresh = false;
  #come = () => {};
  #ended = false;

  constructor(video) {
    const wait = video.requestVideoFrameCallback?.bind(video) ?? requestAnimationFrame;
    const seen = () => {
      if (this.#ended) return;
      this.#fresh = video.videoWidth > 0;
      this.#come();
      wait(seen);
    };
    wait(seen);
  }

  /** A picture that is new, and no earlier than `due`. */
  async next(due) {
    await new Promise((resolve) => setTimeout(resolve, due - performance.now()));
    while (!this.#fresh && !this.#ended) await new Promise((resolve) => (this.#come = resolve));
    this.#fresh = false;
  }

  end() {
    this.#ended = true;
    this.#come();
  }
}

// Frames a second over the last two, and medians of what they took.
export class Pace {
  #seen = [];
  #told = 0;

  add(latency, server) {
    const now = performance.now();
    this.#seen.push({ now, latency, server });
    while (this.#seen.length > 2 && this.#seen[0].now < now - 2000) this.#seen.shift();
  }

  /** Twice a second is as often as one can read. */
  due() {
    const now = performance.now();
    if (now < this.#told + 500 || this.#seen.length < 3) return false;
    this.#told = now;
    return true;
  }

  get fps() {
    return (1000 * (this.#seen.length - 1)) / (this.#seen.at(-1).now - this.#seen[0].now);
  }

  get latency() {
    return median(this.#seen.map((one) => one.latency));
  }

  get server() {
    return median(this.#seen.map((one) => one.server));
  }
}

// Says a label once it has stood for a while, and not too often.
export class Speaker {
  #said = null;
  #at = -Infinity;
  #label = null;
  #since = 0;

  constructor(say) {
    this.say = say;
  }

  hear(text, label) {
    const now = performance.now();
    if (label !== this.#label) [this.#label, this.#since] = [label, now];
    if (label === this.#said || now < this.#since + STEADY || now < this.#at + QUIET) return;
    [this.#said, this.#at] = [label, now];
    this.say(text);
  }

  forget() {
    this.#said = this.#label = null;
  }
}

function median(values) {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.floor(sorted.length / 2)];
}
