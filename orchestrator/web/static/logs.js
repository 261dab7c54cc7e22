// What the ranks write, as it comes: text and nothing else, so many lines, for the ranks that are ticked.
"use strict";

const MOST_LINES = 2000;
const COLOURS = /\x1b\[[0-9;:]*m/g;
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
const KEPT = new Set(["\t", "\u200c", "\u200d"]);

// Colours are dropped; whatever else a terminal or a browser would obey is spelt out. A bar that redraws itself leaves its last state.
function plain(line) {
  const last = line.replace(/\r+$/, "").split("\r").pop().replace(COLOURS, "");
  return last.replace(UNSEEN, (one) => KEPT.has(one) ? one : one.codePointAt(0) < 256
    ? `\\x${one.codePointAt(0).toString(16).padStart(2, "0")}` : `\\u${one.codePointAt(0).toString(16).padStart(4, "0")}`);
}

function begin(section) {
  const place = section.querySelector("#log"), state = section.querySelector("#log-state");
  const following = section.querySelector("#log-follow"), wrapping = section.querySelector("#log-wrap");
  const save = section.querySelector("#log-save"), written = section.querySelector("#log-ranks");
  const unfinished = new Map(); // by rank: the beginning of a line whose end is to come
  let source = null, waiting = [], several = false;

  const chosen = () => written ? (written.checkValidity() && written.value) || "0"
    : [...section.querySelectorAll("input[name=rank]:checked")].map((one) => one.value).join(",");

  function draw() {
    if (!waiting.length) return;
    const lines = document.createDocumentFragment();
    for (const [rank, text, attempt] of waiting.splice(0).slice(-MOST_LINES)) {
      const line = document.createElement("div");
      if (several) {
        const name = document.createElement("span");
        name.className = `of rank-${rank % 6}`;
        name.textContent = `r${rank} `;
        line.append(name);
      }
      line.append(plain(text));
      line.dataset.attempt = attempt;
      lines.append(line);
    }
    place.append(lines);
    while (place.childElementCount > MOST_LINES) place.firstElementChild.remove();
    if (following.checked) place.scrollTop = place.scrollHeight;
  }
  setInterval(draw, 120);

  function take(said) {
    const parts = ((unfinished.get(said.rank) ?? "") + said.text).split("\n");
    const rest = parts.pop();
    if (rest) unfinished.set(said.rank, rest); else unfinished.delete(said.rank);
    for (const part of parts) waiting.push([said.rank, part, said.attempt]);
    if (waiting.length > 2 * MOST_LINES) waiting = waiting.slice(-MOST_LINES);
  }

  function stop() { source?.close(); source = null; }
  function start() {
    stop();
    const ranks = chosen();
    several = ranks === "all" || ranks.includes(",");
    place.replaceChildren();
    unfinished.clear();
    waiting = [];
    if (!ranks) { state.textContent = "No rank is chosen."; return; }
    state.textContent = "";
    source = new EventSource(addressed(`${section.dataset.logs}?rank=${encodeURIComponent(ranks)}`));
    source.addEventListener("log", (event) => take(JSON.parse(event.data)));
    source.addEventListener("done", () => {
      for (const [rank, rest] of unfinished) waiting.push([rank, rest]);
      draw();
      stop();
      state.textContent = !place.childElementCount ? "These ranks wrote nothing."
        : place.childElementCount >= MOST_LINES ? `The last ${MOST_LINES} lines; the file has all.` : "This is all that they wrote.";
    });
  }

  section.addEventListener("change", (event) => {
    if (event.target === following) {
      if (following.checked && !source) start(); else if (!following.checked) { draw(); stop(); }
    } else if (event.target === wrapping) place.classList.toggle("wrap", wrapping.checked);
    else start();
  });
  place.addEventListener("wheel", (event) => { if (event.deltaY < 0) following.checked = false; }, { passive: true });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else if (following.checked) start();
  });
  addEventListener("pagehide", stop);
  save.hidden = false;
  start();
}

document.addEventListener("DOMContentLoaded", () => {
  const section = document.getElementById("logs");
  if (section) begin(section);
});
