// Logs keep showing their end, unless somebody scrolled up to read.
"use strict";

const atEnd = new WeakMap();

function tail() {
  for (const log of document.querySelectorAll("[data-tail]")) {
    if (atEnd.get(log) !== false) log.scrollTop = log.scrollHeight;
    if (!atEnd.has(log)) {
      atEnd.set(log, true);
      log.addEventListener("scroll", () => atEnd.set(log, log.scrollTop + log.clientHeight > log.scrollHeight - 24));
    }
  }
}
document.addEventListener("muster:settled", tail);
