// The readings of a video as a table for other programs, its columns named as in `recognise --csv`.

const FACTS = ["status", "x", "y", "width", "height", "score", "label"];

/** CSV with a row for each face, and one for each moment without a face. */
export function asCsv(readings, classes) {
  const names = classes.map((label) => `p_${label.toLowerCase()}`);
  const rows = readings.flatMap(({ time, faces }) => {
    if (!faces.length) return [[time, "", "no_face"]];
    return faces.map(({ track, status, box, score, label, probabilities }) => {
      const facts = { status, ...box, score, label };
      return [time, track, ...FACTS.map((name) => facts[name]), ...classes.map((one) => probabilities?.[one])];
    });
  });
  const header = ["time", "track", ...FACTS, ...names];
  const padded = rows.map((row) => header.map((_, at) => cell(row[at])));
  return [header.map(cell), ...padded].map((row) => `${row.join(",")}\r\n`).join("");
}

/** Let the browser save a text under this name. */
export function save(text, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  // The browser has taken it by then.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

function cell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
