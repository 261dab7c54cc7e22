// The list of requests: moments in the viewer's zone, and addresses without what was not asked.
"use strict";

// <input type="datetime-local" data-moment="after"> is what people see of the hidden field beside it, which holds UTC.
function pad(number) { return String(number).padStart(2, "0"); }
function local(moment) {
  return `${moment.getFullYear()}-${pad(moment.getMonth() + 1)}-${pad(moment.getDate())}T${pad(moment.getHours())}:${pad(moment.getMinutes())}`;
}
function showMoments() {
  for (const field of document.querySelectorAll("input[data-moment]")) {
    const held = field.parentElement.querySelector("input[type=hidden]");
    if (held.value && !field.value) field.value = local(new Date(held.value));
  }
}
document.addEventListener("input", (event) => {
  if (!event.target.matches("input[data-moment]")) return;
  const held = event.target.parentElement.querySelector("input[type=hidden]");
  held.value = event.target.value ? new Date(event.target.value).toISOString().replace(".000Z", "Z") : "";
}, true);
document.addEventListener("DOMContentLoaded", showMoments);

document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.elt.id !== "filters") return;
  for (const [name, value] of [...event.detail.parameters.entries?.() ?? Object.entries(event.detail.parameters)]) {
    if (value === "") delete event.detail.parameters[name];
  }
});
