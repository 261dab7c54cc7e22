// Forms of requests and batches: files that are sent at once, and the first field that is wrong.
"use strict";

{ // names of scripts are shared by all of a page

const sending = new Map(); // chooser -> XMLHttpRequest

// As htmx sends them: the proof that a page of ours asks, and what else the page says with every call.
function ours() {
  return JSON.parse(document.body.getAttribute("hx-headers"));
}

function inWords(bytes) {
  if (bytes < 10000) return `${bytes} bytes`;
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** power).toFixed(1)} ${["bytes", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

// Send a body, with its progress. `told` is called with a fraction; resolves to the answer, rejects with a sentence.
function send(address, body, { headers = {}, told = () => {}, begun = () => {} } = {}) {
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", address);
    for (const [name, value] of Object.entries({ ...ours(), ...headers })) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => told(event.total ? event.loaded / event.total : 0, event.loaded);
    call.onload = () => resolve(call);
    call.onerror = () => reject(new Error("The upload broke off: the service does not answer, or refused it. Choose the file again."));
    call.onabort = () => reject(new Error(""));
    begun(call);
    call.send(body);
  });
}

function reason(call) {
  try {
    return JSON.parse(call.responseText).detail ?? `refused (${call.status})`;
  } catch {
    return call.responseURL.includes("/login") ? "Your session is over: sign in in another tab, then choose the file again." : `refused (${call.status})`;
  }
}

// ------------------------------------------------------------------------------------------------------------- files

async function sendFile(chooser) {
  const field = chooser.closest("[data-file]");
  const form = chooser.form;
  const file = chooser.files[0];
  sending.get(chooser)?.abort();
  if (!file) return;
  wrong(field, "");
  if (file.size > Number(form.dataset.most)) {
    chooser.value = "";
    wrong(field, `${file.name} has ${inWords(file.size)}: at most ${inWords(Number(form.dataset.most))} are taken.`);
    return;
  }
  const bar = field.querySelector("progress");
  const far = field.querySelector(".far");
  const spoken = { last: -1 };
  show(field, ".sending", true);
  show(field, ".chosen", false);
  try {
    const call = await send(`${form.dataset.upload}?name=${encodeURIComponent(file.name)}`, file, {
      headers: { "Content-Type": "application/octet-stream" },
      begun: (begun) => { sending.set(chooser, begun); wait(form); },
      told: (fraction, bytes) => {
        bar.value = 100 * fraction;
        const quarter = Math.floor(4 * fraction);
        if (quarter !== spoken.last) far.textContent = `${Math.round(100 * fraction)} %, ${inWords(bytes)}`;
        spoken.last = quarter;
      },
    });
    if (call.status !== 201) throw new Error(reason(call));
    const stored = JSON.parse(call.responseText);
    choose(field, stored.id, `${stored.name}, ${inWords(stored.bytes)}`);
  } catch (error) {
    chooser.value = "";
    choose(field, "", "");
    wrong(field, error.message);
  } finally {
    sending.delete(chooser);
    show(field, ".sending", false);
    bar.value = 0;
    wait(form);
  }
}

function choose(field, id, what) {
  const input = field.querySelector("input.id");
  input.value = id;
  field.querySelector(".what").textContent = what;
  show(field, ".chosen", id !== "");
  input.dispatchEvent(new Event("change", { bubbles: true }));
}

function wrong(field, text) {
  const place = field.querySelector(".sent-wrong");
  place.textContent = text;
  place.hidden = !text;
}

function show(field, part, is) {
  field.querySelector(part).hidden = !is;
}

// A form is not sent while a file of it is under way.
function wait(form) {
  const word = form.querySelector("[data-sending]");
  if (word) word.textContent = sending.size ? "An upload is under way." : "";
  const button = form.querySelector("button.main");
  if (button) button.disabled = sending.size > 0;
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-file] input[type=file]")) sendFile(event.target);
});
document.addEventListener("click", (event) => {
  const field = event.target.closest("[data-file]");
  const chooser = field?.querySelector("input[type=file]");
  if (event.target.closest(".cancel") && field) {
    sending.get(chooser)?.abort();
    chooser.focus();
  }
  if (event.target.closest(".remove") && field) {
    chooser.value = "";
    choose(field, "", "");
    chooser.focus();
  }
});

// <input type="file" data-into="field">: its text goes into the field, to look at first.
document.addEventListener("change", async (event) => {
  const file = event.target.dataset?.into && event.target.files[0];
  if (!file) return;
  const field = document.getElementById(event.target.dataset.into);
  if (file.size > 1 << 20) {
    document.dispatchEvent(new CustomEvent("said", { detail: { kind: "bad", text: `${file.name} is larger than 1 MiB.` } }));
    return;
  }
  field.value = await file.text();
  field.focus();
});

// ------------------------------------------------------------------------------------------------------- what is wrong

// What a field for numbers cannot read it does not send: say so here, or it would be lost.
document.addEventListener("htmx:confirm", (event) => {
  if (event.target.id !== "order" && !event.target.matches("form[data-upload]")) return;
  const odd = [...event.target.querySelectorAll("input[type=number]")].find((one) => one.validity.badInput);
  if (!odd && !sending.size) return;
  event.preventDefault();
  if (!odd) return;
  const said = odd.parentElement.querySelector(".wrong") ?? odd.parentElement.appendChild(document.createElement("p"));
  said.className = "wrong";
  said.id ||= `${odd.id}-wrong`;
  said.textContent = "This is no number: write 12, -3 or 0.5.";
  odd.setAttribute("aria-invalid", "true");
  odd.setAttribute("aria-describedby", `${odd.getAttribute("aria-describedby") ?? ""} ${said.id}`.trim());
  odd.focus();
});

// After a refusal: to the first field that is wrong, or to what is wrong with none of them.
document.addEventListener("htmx:afterSwap", (event) => {
  const form = event.target.closest?.("form") ?? document.getElementById(event.target.id);
  if (!form?.querySelector(".summary")) return;
  const first = form.querySelector("[aria-invalid=true]") ?? form.querySelector(".summary [tabindex]");
  const at = first?.matches("fieldset") ? first.querySelector("input") : first;
  at?.closest("details")?.setAttribute("open", "");
  at?.focus();
});

globalThis.musterForms = { send, inWords, reason };
}
