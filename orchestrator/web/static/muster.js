// What the pages do in the browser beside htmx: live parts, times in the viewer's zone, copying, words in a corner.
// No other page's script runs here (see the content policy), and nothing is fetched from elsewhere.
"use strict";

// ------------------------------------------------------------------------------------------------------------- times

const WHOLE = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

function writeTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const near = Math.abs(Date.now() - moment) < 12 * 3600e3;
    const text = (near ? CLOCK : DAY).format(moment);
    if (time.textContent !== text) time.textContent = text;
    time.title = WHOLE.format(moment);
  }
}

// Seconds since a moment, counted on: <span data-since="2026-01-31T12:00:00Z">
function countOn() {
  for (const one of document.querySelectorAll("[data-since]")) {
    const seconds = Math.max(0, Math.round((Date.now() - new Date(one.dataset.since)) / 1000));
    const text = lasted(seconds);
    if (one.textContent !== text) one.textContent = text;
  }
}

function lasted(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const [days, hours, minutes] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

// -------------------------------------------------------------------------------------------------------- live parts

// <div data-live="address">: what comes as event `news` becomes its content; what the viewer opened, wrote or focused stays.
const MORPH = {
  morphStyle: "innerHTML",
  // What is typed stays. A button that has the focus changes its words with what it does: Pause must not stay on a Resume.
  get ignoreActiveValue() { return document.activeElement?.matches("input, textarea, select") ?? false; },
  callbacks: {
    beforeAttributeUpdated: (name, node) => !(name === "open" && (node.localName === "details" || node.localName === "dialog")),
    beforeNodeMorphed: (node) => !(node.dataset && "keep" in node.dataset), // data-keep: grows by itself, as logs do
  },
};
const sources = new Map();

// Inside Kubeflow a page is of one namespace, whatever another tab has chosen since; a stream can say so in its address only.
function addressed(path) {
  const namespace = document.body.dataset.namespace;
  return namespace ? `${path}${path.includes("?") ? "&" : "?"}namespace=${encodeURIComponent(namespace)}` : path;
}

function follow(place) {
  if (sources.has(place)) return;
  const source = new EventSource(addressed(place.dataset.live));
  sources.set(place, source);
  source.addEventListener("news", (event) => {
    Idiomorph.morph(place, event.data, MORPH);
    htmx.process(place);
    settle(place);
  });
  source.addEventListener("gone", () => setTimeout(() => location.reload(), 400)); // whoever removed it is led away first
  source.onopen = () => lost(false);
  source.onerror = () => lost(true);
}

function letGo(place) {
  sources.get(place)?.close();
  sources.delete(place);
}

function followAll() {
  for (const place of sources.keys()) if (!place.isConnected) letGo(place);
  for (const place of document.querySelectorAll("[data-live]")) follow(place);
}

// A browser opens six connections to a site at most: pages that nobody sees give theirs back.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) [...sources.keys()].forEach(letGo);
  else followAll();
});
addEventListener("pagehide", () => [...sources.keys()].forEach(letGo));
addEventListener("pageshow", (event) => event.persisted && followAll());

let lostSince = 0;
function lost(isLost) {
  if (!isLost) lostSince = 0;
  else if (!lostSince) lostSince = Date.now();
  const notice = document.getElementById("lost");
  if (notice) notice.hidden = !(isLost && Date.now() - lostSince > 2500);
}

// ------------------------------------------------------------------------------------------------------------- words

document.addEventListener("said", (event) => {
  const word = document.createElement("p");
  word.className = event.detail.kind;
  word.textContent = event.detail.text;
  document.getElementById("said").append(word);
  setTimeout(() => word.remove(), event.detail.kind === "bad" ? 12000 : 5000);
});
document.addEventListener("htmx:sendError", () => {
  document.dispatchEvent(new CustomEvent("said", { detail: { kind: "bad", text: "The service does not answer. Nothing was changed that we know of: look, then try again." } }));
});

// ----------------------------------------------------------------------------------------------------------- copying

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const label = button.textContent;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    const text = button.parentElement.querySelector("pre, code");
    getSelection().selectAllChildren(text ?? button);
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = label; }, 2000);
});

// ----------------------------------------------------------------------------------------------------------- signing in

// `muster open` gives the token behind the #, which no server and no log sees; it is taken out of the address at once.
function enterByLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const field = document.querySelector("form.login input[name=token]");
  if (!token || !field) return;
  history.replaceState(null, "", location.pathname + location.search);
  field.value = token;
  htmx.trigger(field.form, "submit");
}

// -------------------------------------------------------------------------------------------------------------- start

function settle(root) {
  writeTimes(root);
  countOn();
  followAll();
  document.dispatchEvent(new CustomEvent("muster:settled", { detail: { root } }));
}
document.addEventListener("DOMContentLoaded", () => {
  settle(document);
  enterByLink();
});
document.addEventListener("htmx:afterSettle", (event) => settle(event.detail.elt.parentElement ?? document));
setInterval(countOn, 1000);
