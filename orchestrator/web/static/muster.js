// What the pages do in the browser beside htmx: live parts, times in the viewer's zone, copying, words in a corner.
// No other page's script runs here (see the content policy), and nothing is fetched from elsewhere.
"use strict";

// ------------------------------------------------------------------------------------------------------------- times

const WHOLE = new Intl.DateTimeFormat(undefined, { weekday: "short", year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const YEAR = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

// Of today the clock, of this year the day, else the year with it.
function inShort(moment, now) {
  if (moment.toDateString() === now.toDateString()) return CLOCK.format(moment);
  return (moment.getFullYear() === now.getFullYear() ? DAY : YEAR).format(moment);
}

function writeTimes(root) {
  const now = new Date();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const text = inShort(moment, now);
    if (time.textContent !== text) time.textContent = text;
    const whole = WHOLE.format(moment);
    if (time.title !== whole) time.title = whole;
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

// <div data-live="address">: what comes as event `news` becomes its content; what the viewer opened, wrote, focused or
// selected stays.
const MORPH = {
  morphStyle: "innerHTML",
  // What is typed stays. A button that has the focus changes its words with what it does: Pause must not stay on a Resume.
  get ignoreActiveValue() { return document.activeElement?.matches("input, textarea, select") ?? false; },
  callbacks: {
    beforeAttributeUpdated: (name, node) => !(name === "open" && (node.localName === "details" || node.localName === "dialog")),
    beforeNodeMorphed: (node, next) => !(node.dataset && "keep" in node.dataset) && !isWritten(node, next), // data-keep: grows by itself, as logs do
  },
};

// What this script wrote itself is left alone while it says the same: a time in the viewer's zone, seconds that count.
function isWritten(node, next) {
  if (node.localName === "time") return node.title !== "" && node.dateTime === next.dateTime;
  return Boolean(node.dataset?.since) && node.dataset.since === next.dataset?.since;
}

// Inside Kubeflow a page is of one namespace, whatever another tab has chosen since; a stream can say so in its address only.
function addressed(path) {
  const namespace = document.body.dataset.namespace;
  return namespace ? `${path}${path.includes("?") ? "&" : "?"}namespace=${encodeURIComponent(namespace)}` : path;
}

const AGAIN_MS = 2000;

// A stream that comes back. A browser does that by itself while nobody answers; an answer that is no stream, as a gateway's
// 503 while the service starts anew, or a way to the sign-in, ends its stream for good: then it is asked why, and begun again.
// `address` is asked for anew each time: it may say what was seen. `ended`: the stream was read to its end.
function stream(address, { on, owner, ended = () => {} }) {
  let source = null, again = 0, closed = false;
  const open = () => {
    if (closed) return;
    source = new EventSource(addressed(address()));
    for (const [name, told] of Object.entries(on)) source.addEventListener(name, told);
    source.addEventListener("old", () => trouble(owner, "old"));
    source.onopen = () => trouble(owner, null);
    source.onerror = () => {
      if (closed) return;
      trouble(owner, "lost");
      if (source.readyState === EventSource.CLOSED) again = setTimeout(ask, AGAIN_MS);
    };
  };
  const ask = async () => {
    const why = await asked(address());
    if (closed) return;
    if (why === "end") { trouble(owner, null); ended(); }
    else if (why === "") open();
    else if (!isTyped) location.reload();
    else { trouble(owner, why); again = setTimeout(ask, 5 * AGAIN_MS); } // what was typed here must not go with the page
  };
  open();
  return { close() { closed = true; clearTimeout(again); source?.close(); trouble(owner, null); } };
}

// What the service says to whoever asks for this stream: `over` (sign in), `gone`, `end` (it was read to its end), or nothing.
async function asked(address) {
  const enough = new AbortController();
  try {
    const answer = await fetch(addressed(address), { redirect: "manual", signal: enough.signal, headers: { Accept: "text/event-stream" } });
    if (answer.type === "opaqueredirect" || answer.status === 401) return "over";
    return { 204: "end", 403: "gone", 404: "gone", 410: "gone" }[answer.status] ?? "";
  } catch {
    return "";
  } finally {
    enough.abort();
  }
}

function follow(place) {
  if (sources.has(place)) return;
  sources.set(place, stream(() => place.dataset.live, {
    owner: place,
    on: {
      news: (event) => {
        if (isSelected(place)) return hold(place, event.data);
        held.delete(place);
        trouble(place, null);
        show(place, event.data);
      },
      gone: () => isTyped || setTimeout(() => location.reload(), 400), // whoever removed it is led away first
    },
  }));
}
const sources = new Map();

function show(place, html) {
  const focused = document.activeElement;
  Idiomorph.morph(place, html, MORPH);
  htmx.process(place);
  settle(place);
  // What had the focus is gone, as a button that did what it was for: whoever uses the keyboard is not thrown to the top.
  const isLost = !focused?.isConnected || (focused === document.body && acted && !acted.isConnected);
  if (isLost) document.getElementById("main").focus({ preventScroll: true });
  if (!acted?.isConnected) acted = null;
}

let acted = null; // the button that was pressed last: while its call is under way it is disabled, and loses the focus
document.addEventListener("htmx:beforeRequest", (event) => {
  acted = event.target.matches?.("button") ? event.target : null;
});
document.addEventListener("htmx:afterRequest", () => {
  if (acted?.isConnected && document.activeElement === document.body) acted.focus({ preventScroll: true });
});

// Text that somebody has selected to copy stays as it is, and so does all around it, until they let it go.
const held = new Map(); // a live part -> what it is to show then

function hold(place, html) {
  held.set(place, html);
  trouble(place, "held");
}

function isSelected(place) {
  const selection = getSelection();
  if (!selection || selection.isCollapsed || !selection.toString()) return false;
  const node = selection.anchorNode, within = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
  return Boolean(within) && place.contains(within) && !within.closest("[data-keep]");
}

document.addEventListener("selectionchange", () => {
  for (const [place, html] of held) {
    if (isSelected(place)) continue;
    held.delete(place);
    trouble(place, null);
    if (place.isConnected) show(place, html);
  }
});

let isTyped = false; // something stands in a form that is not sent yet
document.addEventListener("input", (event) => {
  if (event.target.closest("form:not([method=get])")) isTyped = true;
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && event.target.matches?.("form")) isTyped = false;
});

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

// --------------------------------------------------------------------------------------------------------- not live now

const WORST = ["over", "gone", "lost", "old", "held"];
const PATIENCE_MS = 2500;
const troubles = new Map(); // whose stream it is -> what is the matter, and since when

function trouble(owner, why) {
  const known = troubles.get(owner);
  if (!why) troubles.delete(owner);
  else if (known?.why !== why) troubles.set(owner, { why, since: known?.since ?? Date.now() });
  tellTrouble();
}

function tellTrouble() {
  const notice = document.getElementById("lost");
  if (!notice) return;
  const long = [...troubles.values()].filter((one) => Date.now() - one.since > PATIENCE_MS);
  const worst = WORST.find((why) => long.some((one) => one.why === why));
  if (notice.dataset.why === (worst ?? "")) return;
  notice.dataset.why = worst ?? "";
  notice.hidden = !worst;
  notice.replaceChildren(...(worst ? spoken(worst, Math.min(...long.map((one) => one.since))) : []));
}

function spoken(why, since) {
  const from = CLOCK.format(new Date(since));
  if (why === "lost") return [`No news from the service since ${from}: trying again. What you see may be old.`];
  if (why === "old") return [`The service cannot reach its database since ${from}. What you see may be old; it goes on by itself.`];
  if (why === "held") return ["Kept as it was while text is selected."];
  if (why === "gone") return ["What this page shows is not there any more, or not for you."];
  const link = document.createElement("a");
  const base = document.body.dataset.base;
  link.href = `${base}/login?to=${encodeURIComponent(location.pathname.slice(base.length) + location.search)}`;
  link.textContent = "Sign in";
  return ["Your session is over: what you see may be old. ", link];
}

// A page that says that the service is away looks for it, and comes back with it.
async function lookAgain() {
  if (!document.querySelector("[data-again]") || document.hidden) return;
  try {
    const answer = await fetch(location.href, { redirect: "manual" });
    if (answer.status !== 503) location.reload();
  } catch { /* still away */ }
}
setInterval(lookAgain, 2 * AGAIN_MS);

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

// A session that is over must not take what was typed with it.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const leads = event.detail.xhr.getResponseHeader("HX-Redirect") ?? "";
  const isSent = event.target.closest?.("form:not(.login, [method=get])");
  if (!/\/login(\?|$)/.test(leads) || !(isTyped || isSent) || event.detail.pathInfo.requestPath.endsWith("/logout")) return;
  event.preventDefault();
  const text = "Your session is over. Sign in in another tab, then go on here: nothing is lost.";
  document.dispatchEvent(new CustomEvent("said", { detail: { kind: "bad", text } }));
});

// ----------------------------------------------------------------------------------------------------------- colours

document.addEventListener("change", (event) => {
  if (event.target.id === "theme") document.documentElement.dataset.theme = event.target.value;
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

// ---------------------------------------------------------------------------------------------------------- navigation

// On a phone the row of pages is wider than the screen: the one that is open is in sight.
function showWhereWeAre() {
  const row = document.querySelector(".top nav"), open = row?.querySelector("[aria-current]");
  if (open) row.scrollLeft = open.offsetLeft - row.offsetLeft - (row.clientWidth - open.offsetWidth) / 2;
}

// -------------------------------------------------------------------------------------------------------------- start

function settle(root) {
  const titled = document.querySelector("[data-title]"); // what the page is about changes while it is looked at
  if (titled && document.title !== titled.dataset.title) document.title = titled.dataset.title;
  writeTimes(root);
  countOn();
  followAll();
  document.dispatchEvent(new CustomEvent("muster:settled", { detail: { root } }));
}
document.addEventListener("DOMContentLoaded", () => {
  showWhereWeAre();
  settle(document);
  enterByLink();
});
document.addEventListener("htmx:afterSettle", (event) => settle(event.detail.elt.parentElement ?? document));
setInterval(() => { countOn(); tellTrouble(); }, 1000);
