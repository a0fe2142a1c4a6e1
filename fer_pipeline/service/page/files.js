// Files that a tab is given: chosen, dropped on it, or pasted while it is the one that is shown.

import { part } from "./faces.js";

/** Call `take` with each file that the tab at `root` is given. */
export function takesFiles(root, take) {
  const input = part(root, "file");
  const drop = part(root, "drop");
  for (const button of root.querySelectorAll(".choose")) button.onclick = () => input.click();
  input.onchange = () => {
    const [file] = input.files;
    // Else the same file could not be chosen twice.
    input.value = "";
    if (file) take(file);
  };
  root.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  root.addEventListener("dragleave", (event) => {
    if (!root.contains(event.relatedTarget)) drop.classList.remove("over");
  });
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const [file] = event.dataTransfer.files;
    if (file) take(file);
  });
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file && !root.hidden) take(file);
  });
}
