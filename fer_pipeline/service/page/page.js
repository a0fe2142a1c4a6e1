// The page as a whole: its tabs, what the model says of itself, the token, and where words go. What
// a tab does is in camera.js, photo.js and video.js.

import { Camera } from "./camera.js";
import { made, part } from "./faces.js";
import { Photo } from "./photo.js";
import { Server, TokenWanted } from "./server.js";
import { Video } from "./video.js";

const TABS = ["camera", "photo", "video"];
const byId = (id) => document.getElementById(id);

/** What the tabs share. */
const page = {
  server: new Server(),
  classes: [],

  /** For screen readers; what is said twice in a row is said once. */
  say(text) {
    part(document, "said").textContent = text;
  },

  problem(root, text) {
    const line = part(root, "problem");
    line.textContent = text;
    line.hidden = !text;
  },

  /** Say what went wrong, or ask for the token that is wanted and try again. */
  async failed(root, error, again) {
    if (error instanceof TokenWanted) {
      await askForToken(page.server.token ? error.message : "");
      again();
    } else page.problem(root, error.message);
  },
};

function askForToken(why) {
  const dialog = byId("token");
  const input = dialog.querySelector("input");
  page.problem(dialog, why);
  input.value = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    dialog.querySelector("form").onsubmit = (event) => {
      event.preventDefault();
      page.server.keep(input.value.trim());
      dialog.onclose = null;
      dialog.close();
      resolve();
    };
    // Without a token there is nothing that the page could do. Browsers close at the second Esc
    // whatever the page says to it.
    dialog.oncancel = (event) => event.preventDefault();
    dialog.onclose = () => dialog.open || dialog.showModal();
  });
}

async function model() {
  for (;;) {
    try {
      return await page.server.model();
    } catch (error) {
      if (!(error instanceof TokenWanted)) throw error;
      await askForToken(page.server.token ? error.message : "");
    }
  }
}

function introduce({ name, version, classes, trained_on: trained, label_source: labels, card }) {
  const full = version ? `${name}, version ${version}` : name;
  byId("which-model").textContent = `Model ${full}, ${classes.length} expressions`;
  const figures = card?.Figures?.[0];
  if (figures) byId("accuracy").textContent = inWords(figures);
  const facts = {
    Model: full,
    Expressions: classes.join(", "),
    "Trained on": trainedOn(card?.Data?.[0] ?? trained.data_set ?? ""),
    Labels: !card && (labels.split(":")[0] === "votes" ? "the votes of ten people (FER+)" : "the data set's own"),
    Figures: figures ?? "This model has no card with figures.",
  };
  const rows = Object.entries(facts).filter(([, value]) => value);
  byId("facts").replaceChildren(...rows.flatMap(([term, value]) => [made("dt", "", term), made("dd", "", value)]));
}

// A model card says: "Trained on 25,471 faces of FER2013, ... Manifest c2867bd17c397723."
const trainedOn = (said) => said.replace(/^Trained on /, "").replace(/ Manifest [0-9a-f]+\.$/, "");

// And: "Accuracy 0.684 (0.670 to 0.698), ... on 3,574 test faces ...".
function inWords(figures) {
  const [, accuracy] = /^Accuracy (0\.\d+)/.exec(figures) ?? [];
  const [, faces] = /on ([\d,]+) test faces/.exec(figures) ?? [];
  if (!accuracy || !faces) return figures;
  const wrong = Math.round(100 * (1 - Number(accuracy)));
  return `On ${faces} test faces it named another expression than the label in ${wrong} of 100.`;
}

function tabs(panels) {
  const buttons = TABS.map((name) => byId(`tab-${name}`));
  const show = (name, { focus = false } = {}) => {
    TABS.forEach((other, at) => {
      const chosen = other === name;
      byId(other).hidden = !chosen;
      buttons[at].setAttribute("aria-selected", String(chosen));
      buttons[at].tabIndex = chosen ? 0 : -1;
      if (chosen && focus) buttons[at].focus();
    });
    if (name !== "camera") panels?.camera.stop();
    if (name !== "video") part(byId("video"), "view").pause();
    history.replaceState(null, "", `#${name}`);
  };
  buttons.forEach((button, at) => {
    button.onclick = () => show(TABS[at]);
    button.onkeydown = ({ key }) => {
      const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 }[key];
      if (to !== undefined) show(TABS.at(to % TABS.length), { focus: true });
    };
  });
  const asked = () => location.hash.slice(1);
  window.onhashchange = () => TABS.includes(asked()) && show(asked());
  if (TABS.includes(asked())) show(asked());
}

// A file that misses its place would otherwise be opened instead of the page.
for (const event of ["dragover", "drop"]) window.addEventListener(event, (drag) => drag.preventDefault());

try {
  const known = await model();
  page.classes = known.classes;
  introduce(known);
  tabs({
    camera: new Camera(byId("camera"), page),
    photo: new Photo(byId("photo"), page),
    video: new Video(byId("video"), page),
  });
} catch (error) {
  tabs(null);
  for (const name of TABS) page.problem(byId(name), error.message);
} finally {
  // Nothing before it would have answered.
  document.querySelector("main").inert = false;
}
