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
  const finding = section.querySelector("#log-find"), written = section.querySelector("#log-ranks");
  const unfinished = new Map(); // by rank: the beginning of a line whose end is to come
  let source = null, waiting = [], several = false, seen = "", isOver = false, ranks = "";

  const chosen = () => written ? (written.checkValidity() && written.value) || "0"
    : [...section.querySelectorAll("input[name=rank]:checked")].map((one) => one.value).join(",");

  function draw() {
    if (!waiting.length) return;
    const lines = document.createDocumentFragment();
    for (const [rank, text] of waiting.splice(0).slice(-MOST_LINES)) {
      const line = document.createElement("div");
      if (several) {
        const name = document.createElement("span");
        name.className = `of rank-${rank % 6}`;
        name.textContent = `r${rank} `;
        line.append(name);
      }
      line.append(plain(text));
      line.hidden = !isFound(line);
      lines.append(line);
    }
    place.append(lines);
    while (place.childElementCount > MOST_LINES) place.firstElementChild.remove();
    toTheEnd();
    tell();
  }
  const toTheEnd = () => { if (following.checked) place.scrollTop = place.scrollHeight; };
  setInterval(draw, 120);

  function take(event) {
    const said = JSON.parse(event.data);
    seen = event.lastEventId;
    const parts = ((unfinished.get(said.rank) ?? "") + said.text).split("\n");
    const rest = parts.pop();
    if (rest) unfinished.set(said.rank, rest); else unfinished.delete(said.rank);
    for (const part of parts) waiting.push([said.rank, part]);
    if (waiting.length > 2 * MOST_LINES) waiting = waiting.slice(-MOST_LINES);
  }

  function end() {
    for (const [rank, rest] of unfinished) waiting.push([rank, rest]);
    unfinished.clear();
    isOver = true;
    stop();
    draw();
    tell();
  }

  // ------------------------------------------------------------------------------------------------------ what it finds

  const isFound = (line) => !finding.value || line.textContent.toLowerCase().includes(finding.value.toLowerCase());

  function find() {
    for (const line of place.children) line.hidden = !isFound(line);
    toTheEnd();
    tell();
  }

  function tell() {
    const all = place.childElementCount;
    const text = !ranks ? "No rank is chosen."
      : finding.value ? `${[...place.children].filter((line) => !line.hidden).length} of ${all} lines here hold this.`
      : !isOver ? (all ? "" : "No line yet: they come here as the ranks write them.")
      : !all ? "These ranks wrote nothing."
      : all >= MOST_LINES ? `The last ${MOST_LINES} lines; the file has all.` : "This is all that they wrote.";
    if (state.textContent !== text) state.textContent = text;
  }

  // --------------------------------------------------------------------------------------------------------- the stream

  function stop() { source?.close(); source = null; }
  function resume() {
    if (source || isOver || !ranks) return;
    const after = () => seen ? `&after=${encodeURIComponent(seen)}` : "";
    const address = () => `${section.dataset.logs}?rank=${encodeURIComponent(ranks)}${after()}`;
    source = stream(address, { owner: section, on: { log: take, done: end }, ended: end });
  }
  function start() {
    stop();
    ranks = chosen();
    several = ranks === "all" || ranks.includes(",");
    place.replaceChildren();
    unfinished.clear();
    [waiting, seen, isOver] = [[], "", false];
    resume();
    tell();
  }

  section.addEventListener("change", (event) => {
    if (event.target === following) toTheEnd();
    else if (event.target === wrapping) { place.classList.toggle("wrap", wrapping.checked); toTheEnd(); }
    else if (event.target !== finding) start();
  });
  finding.addEventListener("input", find);
  // Whoever scrolls up to read is not pulled down by the next line, until they are at the end again.
  place.addEventListener("scroll", () => { following.checked = place.scrollTop + place.clientHeight > place.scrollHeight - 24; });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) stop();
    else resume();
  });
  addEventListener("pagehide", stop);
  addEventListener("pageshow", (event) => event.persisted && resume());
  start();
}

document.addEventListener("DOMContentLoaded", () => {
  const section = document.getElementById("logs");
  if (section) begin(section);
});
