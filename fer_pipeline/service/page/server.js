// All that is asked of the server, and the token that goes along. Refusals become errors with the
// server's own sentence. Addresses are relative, so that the page may stand below a path.

const KEPT = "fer-token";
const SILENCE = 20_000;
// Why the server closes a connection, see live.py.
const WANTS_TOKEN = 4401;
const RESTED = 4408;

/** A refusal; its message is a sentence for people. */
export class Refused extends Error {}

/** The server wants a token, or another one. */
export class TokenWanted extends Refused {}

export class Server {
  constructor() {
    this.token = sessionStorage.getItem(KEPT) ?? "";
  }

  keep(token) {
    this.token = token;
    sessionStorage.setItem(KEPT, token);
  }

  model() {
    return this.#ask("model", {});
  }

  /** The faces of a picture; `whole` says that the picture is one. */
  recognise(picture, whole) {
    const form = new FormData();
    form.append("image", picture, picture.name ?? "picture");
    if (whole) form.append("whole", "true");
    return this.#ask("recognise", { method: "POST", body: form });
  }

  /** What happens before the camera: see `Live`. */
  live() {
    return new Live(address("live", "ws"), this.token);
  }

  /**
   * Read a video. `onSent` gets the share that was uploaded, `onLine` each object that comes back.
   * Returns what takes it back, and a promise of the end.
   */
  video(file, every, { onSent, onLine }) {
    const asking = new XMLHttpRequest();
    const ended = new Promise((resolve, reject) => {
      const lines = new Lines(onLine);
      asking.upload.onprogress = (event) => onSent(event.loaded / event.total);
      asking.onprogress = () => asking.status === 200 && lines.take(asking.responseText);
      asking.onload = () => {
        if (asking.status !== 200) reject(refusal(asking.status, parsed(asking.responseText)));
        else {
          lines.take(asking.responseText);
          resolve();
        }
      };
      asking.onerror = () => reject(new Refused("The server can't be reached, or it broke off."));
      asking.onabort = () => resolve();
    });
    const form = new FormData();
    form.append("every", String(every));
    form.append("video", file, file.name);
    asking.open("POST", address("video"));
    for (const [name, value] of Object.entries(this.#headers)) asking.setRequestHeader(name, value);
    asking.send(form);
    return { cancel: () => asking.abort(), ended };
  }

  get #headers() {
    // A header takes bytes alone.
    const bytes = String.fromCharCode(...new TextEncoder().encode(this.token));
    return bytes ? { Authorization: `Bearer ${bytes}` } : {};
  }

  async #ask(path, settings) {
    let answer;
    try {
      answer = await fetch(address(path), { ...settings, headers: this.#headers, cache: "no-store" });
    } catch {
      throw new Refused("The server can't be reached: is it still running?");
    }
    const said = parsed(await answer.text());
    if (!answer.ok) throw refusal(answer.status, said);
    return said;
  }
}

/** Frames out, faces back, one at a time. */
class Live {
  #socket;
  #waiting = [];
  #closed = null;
  /** Whether the server closed it because no frame came for long. */
  rested = false;

  constructor(at, token) {
    this.#socket = new WebSocket(at);
    this.#socket.onopen = () => this.#socket.send(JSON.stringify({ token }));
    this.#socket.onmessage = ({ data }) => this.#waiting.shift()?.resolve(parsed(data));
    this.#socket.onclose = ({ code, reason }) => {
      const said = reason || "The connection to the server broke off.";
      this.#closed = code === WANTS_TOKEN ? new TokenWanted(said) : new Refused(said);
      this.rested = code === RESTED;
      for (const one of this.#waiting.splice(0)) one.reject(this.#closed);
    };
  }

  /** The server's bounds; it says them once it agrees. */
  ready() {
    return this.#next();
  }

  ask(frame) {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(frame);
    return this.#next();
  }

  close() {
    this.#socket.close();
  }

  #next() {
    return new Promise((resolve, reject) => {
      if (this.#closed) reject(this.#closed);
      const late = setTimeout(() => {
        reject(new Refused("The server takes too long."));
        this.close();
      }, SILENCE);
      const end = (how) => (value) => {
        clearTimeout(late);
        how(value);
      };
      this.#waiting.push({ resolve: end(resolve), reject: end(reject) });
    });
  }
}

/** Whole lines of a text that grows. */
class Lines {
  #read = 0;

  constructor(onLine) {
    this.onLine = onLine;
  }

  take(text) {
    for (let end; (end = text.indexOf("\n", this.#read)) >= 0; this.#read = end + 1) {
      this.onLine(JSON.parse(text.slice(this.#read, end)));
    }
  }
}

function address(path, scheme = "http") {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol.replace("http", scheme);
  return url;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

function refusal(status, said) {
  const sentence = typeof said.detail === "string" ? said.detail : PLAIN[status];
  const Kind = status === 401 ? TokenWanted : Refused;
  return new Kind(capital(sentence ?? `The server refused with ${status}.`));
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// What a proxy in between answers has no sentence.
const PLAIN = {
  413: "The file is too large.",
  429: "Too much was asked at once: try again in a moment.",
  502: "The server behind this address doesn't answer.",
  503: "The server is busy: try again in a moment.",
  504: "The server takes too long.",
};
