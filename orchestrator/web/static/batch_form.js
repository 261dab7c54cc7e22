// The form of a batch: its lines go as the body of one call, with a bar, and what is wrong with them comes back.
"use strict";

{
const form = document.getElementById("batch");
const part = (selector) => form.querySelector(selector);
let call = null;

// ---------------------------------------------------------------------------------------------- what it would look like

function said() {
  const asked = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (typeof value === "string" && value.trim()) asked.set(name, value);
  return asked;
}

function quoted(text) {
  return /^[A-Za-z0-9_.,:=@%/+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\"'\"'")}'`;
}

const OPTIONS = { max_parallel: "--max-parallel", max_failed: "--max-failed", priority: "--priority", expire_after_s: "--expire" };

function spell() {
  const asked = said();
  const words = ["muster batch submit", quoted(asked.get("template")), "lines.jsonl"];
  if (asked.get("errors") === "items") words.push("--errors items");
  for (const [name, option] of Object.entries(OPTIONS)) if (asked.has(name)) words.push(option, quoted(asked.get(name)));
  if (asked.get("on_max_failed") === "pause") words.push("--on-max-failed pause");
  for (const line of (asked.get("labels") ?? "").split("\n")) if (line.trim()) words.push("--label", quoted(line.trim()));
  part(".equal").textContent = words.join(" ");
  part(".equal").closest(".command").querySelector("[data-copy]").dataset.copy = words.join(" ");
}

function example() {
  const chosen = part("#template").selectedOptions[0];
  part(".example").textContent = chosen.dataset.lines;
}

// ------------------------------------------------------------------------------------------------------------- sending

async function start() {
  const file = part("#file").files[0];
  const typed = part("#lines").value;
  clear();
  if (file && typed.trim()) return refuse("Give a file or typed lines, not both.", [], part("#lines"));
  const body = file ?? new Blob([typed]);
  if (!body.size) return refuse("Give a file, or type lines.", [], part("#file"));
  if (body.size > Number(form.dataset.most)) return refuse(`The file has ${musterForms.inWords(body.size)}: at most ${musterForms.inWords(Number(form.dataset.most))} are taken.`, [], part("#file"));
  busy(true);
  try {
    const answer = await musterForms.send(`${form.getAttribute("action")}?${said()}`, body, {
      headers: { "Content-Type": "application/jsonl" },
      begun: (begun) => { call = begun; },
      told: (fraction, bytes) => {
        part("progress").value = 100 * fraction;
        part(".far").textContent = fraction < 1 ? `${Math.round(100 * fraction)} %, ${musterForms.inWords(bytes)}` : "Sent: the lines are being looked at.";
      },
    });
    if (answer.status === 201) return location.assign(form.dataset.then + JSON.parse(answer.responseText).id);
    wrong(answer);
  } catch (error) {
    if (error.message) refuse(error.message, [], part("button.main"));
  }
  busy(false);
}

function wrong(answer) {
  let told = {};
  try { told = JSON.parse(answer.responseText); } catch { /* no answer of ours */ }
  const listed = told.errors ?? [];
  const beside = listed.map((one) => part(`#${one.pointer.split("/")[1]}-wrong`)).find((one) => one);
  if (beside) {
    beside.textContent = listed[0].message.replace(/^\/[a-z_]+: /, "");
    beside.hidden = false;
    const field = document.getElementById(beside.id.replace("-wrong", ""));
    field.setAttribute("aria-invalid", "true");
    field.closest("details")?.setAttribute("open", "");
    return refuse("Not started: one thing is to be put right.", [], field);
  }
  const said = listed.length ? "Not started, nothing was stored: lines that do not fit." : told.detail ?? musterForms.reason(answer);
  refuse(said, listed, part(".summary"));
}

function refuse(text, listed, focused) {
  part(".summary .said").textContent = text;
  part(".summary ul").replaceChildren(...listed.map((one) => {
    const item = document.createElement("li");
    const place = one.pointer.replace(/^\/lines\/(\d+)/, "Line $1 ").trim();
    item.textContent = `${place}: ${one.message.replace(/^line \d+ (?:is|starts|holds)/, (whole) => whole.split(" ").at(-1))}`;
    return item;
  }));
  part(".summary").hidden = false;
  focused.focus();
}

function clear() {
  part(".summary").hidden = true;
  for (const one of form.querySelectorAll(".field .wrong")) one.hidden = true;
  for (const one of form.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
}

function busy(is) {
  part(".sending").hidden = !is;
  part("button.main").disabled = is;
  part("progress").value = 0;
  part(".far").textContent = "";
}

// --------------------------------------------------------------------------------------------------------------- start

if (form) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const odd = [...form.querySelectorAll("input[type=number]")].find((one) => one.validity.badInput);
    if (odd) odd.focus();
    else start();
  });
  form.addEventListener("input", spell);
  form.addEventListener("change", spell);
  part("#template").addEventListener("change", example);
  part(".cancel").addEventListener("click", () => { call?.abort(); part("button.main").focus(); });
  part("[data-take]").addEventListener("click", () => { part("#lines").value = part(".example").textContent; part("#lines").focus(); });
  spell();
}
}
