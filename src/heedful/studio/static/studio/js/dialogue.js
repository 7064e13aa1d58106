// The dialogue page: sends what the rater says, waits for the answers, shows them together, lets one go on.
// Everything that counts is in the studio: a reload goes on with the same turn.

import { Activity } from "./activity.js";
import { listen } from "./keys.js";
import { post } from "./post.js";
import { Reveal } from "./reveal.js";
import { read, remove, write } from "./store.js";

const POLL = 1000;
const BEAT = 30_000;

const root = document.getElementById("dialogue");
const talk = document.getElementById("talk");
const words = JSON.parse(document.getElementById("dialogue-words").textContent);
const notices = document.getElementById("notices");
const status = document.getElementById("status");
const activity = new Activity();
const draft = `heedful:dialogue:${root.dataset.name}`;
const plain = window.matchMedia("(prefers-reduced-motion: reduce)");
const ways = { raw: false, busy: false, reveal: null, timer: 0 };

const turns = () => talk.querySelector(".turns");
const main = () => talk.querySelector("[data-main]")?.closest("form") ?? null;
const dialogOf = (id) => document.getElementById(id);

function say(text, kind = "error") {
  notices.replaceChildren();
  if (!text) return;
  const note = document.createElement("div");
  note.className = `notice ${kind}`;
  const line = document.createElement("p");
  line.textContent = text;
  note.append(line);
  notices.append(note);
}

function raw(on) {
  ways.raw = on;
  const button = root.querySelector("[data-raw]");
  button.setAttribute("aria-pressed", String(on));
  button.firstChild.data = on ? words.raw_on : words.raw_off;
  for (const one of root.querySelectorAll(".formatted")) one.hidden = on;
  for (const one of root.querySelectorAll(".as-written")) one.hidden = !on;
}

// Which answer goes on is asked only where neither is better.
function tie() {
  const form = main();
  const value = form?.elements.choice?.value;
  form?.querySelector("[data-goes]")?.classList.toggle("asked", ["0", "bad", "good"].includes(value));
}

// What the studio sent, in the old one's place; the text that is being written stays.
function put(told) {
  if (told.go) {
    remove(draft);
    window.location.assign(told.go);
    return;
  }
  const rationale = talk.querySelector("#rationale")?.value ?? "";
  const flag = talk.querySelector("[name=safety]")?.checked ?? false;
  const before = turns()?.dataset.state;
  talk.innerHTML = told.html;
  const box = talk.querySelector("#rationale");
  if (box) {
    box.value = rationale;
    talk.querySelector("[name=safety]").checked = flag;
  }
  settle(before);
}

// After each change: wait, reveal, or let the rater act.
function settle(before) {
  clearTimeout(ways.timer);
  const { state } = turns().dataset;
  raw(ways.raw);
  status.textContent = state === "asking" ? words.waiting : "";
  if (state === "asking") {
    ways.timer = setTimeout(poll, POLL);
  } else if (state === "choose") {
    if (before === "asking" && !plain.matches && !document.hidden) reveal();
    else if (before) ready();
    tie();
  } else if (state === "speak") {
    const box = talk.querySelector("#say-text");
    const kept = read(draft);
    if (kept && kept.turn === turns().dataset.turn) box.value = kept.text;
    if (before) box.focus();
  } else if (state === "failed" && before) main()?.querySelector("button").focus();
}

function reveal() {
  const form = main();
  const note = talk.querySelector("[data-revealing]");
  const box = talk.querySelector("[data-answers]");
  form.hidden = true;
  note.hidden = false;
  box.setAttribute("aria-busy", "true");
  raw(false);
  ways.reveal = new Reveal([...box.querySelectorAll("[data-answer] > .formatted")], () => {
    ways.reveal = null;
    form.hidden = false;
    note.hidden = true;
    box.removeAttribute("aria-busy");
    ready();
  });
  box.scrollIntoView({ block: "nearest" });
}

function ready() {
  status.textContent = words.here;
  talk.querySelector(".answer-title")?.focus({ preventScroll: true });
}

async function poll() {
  try {
    const reply = await fetch(root.dataset.turns, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    if (reply.status === 401) say(words.login);
    else if (reply.ok) {
      const told = await reply.json();
      if (told.go || told.state !== turns().dataset.state || String(told.turn) !== turns().dataset.turn) {
        put(told);
        return;
      }
      say("");
    }
  } catch {
    say(words.down, "warning");
  }
  ways.timer = setTimeout(poll, POLL);
}

function fieldsOf(form) {
  const found = {};
  for (const [name, value] of new FormData(form)) if (name !== "csrfmiddlewaretoken") found[name] = String(value);
  if (form.dataset.act === "end") found.active_ms = String(activity.ms);
  return found;
}

async function send(form) {
  if (ways.busy || ways.reveal) return;
  const error = form.querySelector("[data-error]");
  if (error) error.textContent = "";
  if (form.dataset.act === "choose" && !form.elements.choice.value) {
    error.textContent = words.open;
    return;
  }
  if (!form.reportValidity()) return;
  ways.busy = true;
  root.setAttribute("aria-busy", "true");
  status.textContent = words.sending;
  const { status: code, data } = await post(form.action, fieldsOf(form));
  ways.busy = false;
  root.removeAttribute("aria-busy");
  status.textContent = "";
  if (code === 200) {
    say("");
    if (form.dataset.act === "say") remove(draft);
    put(data);
  } else if (code === 400 && error) {
    error.textContent = `${data.error} ${data.mend ?? ""}`.trim();
  } else if (code === 409) {
    say(`${data.error} ${data.mend ?? ""}`.trim(), "warning");
    poll();
  } else say(code === 0 ? words.down : code === 401 ? words.login : data.error ?? words.failed);
}

async function beat() {
  const { status: code, data } = await post(root.dataset.beat, { active_ms: activity.ms });
  if (code === 200 && data.held === false) say(words.late, "warning");
}

function skipping() {
  const dialog = dialogOf("skip");
  const form = dialog.querySelector("form");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const reason = form.elements.reason.value;
    if (!reason) {
      dialogOf("skip-error").textContent = words.reason;
      return;
    }
    const body = { reason, note: form.elements.note.value, active_ms: activity.ms };
    const { status: code, data } = await post(root.dataset.skip, body);
    if (code === 200) {
      remove(draft);
      window.location.assign(root.dataset.rate);
    } else dialogOf("skip-error").textContent = data.error ?? words.failed;
  });
  dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
}

function open(id) {
  if (!ways.reveal) dialogOf(id).showModal();
}

root.addEventListener("submit", (event) => {
  const form = event.target.closest("form[data-act]");
  if (!form) return;
  event.preventDefault();
  send(form);
});
root.addEventListener("click", (event) => {
  if (event.target.closest("[data-raw]") && !ways.reveal) raw(!ways.raw);
  if (event.target.closest("[data-reveal-all]")) ways.reveal?.finish();
  if (event.target.closest("[data-skip-open]")) open("skip");
  if (event.target.closest("[data-help]")) open("help");
});
root.addEventListener("input", (event) => {
  if (event.target.id === "say-text") write(draft, { turn: turns().dataset.turn, text: event.target.value });
  if (event.target.name === "choice") tie();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && ways.reveal && !event.isComposing) ways.reveal.finish();
  const sends = event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing;
  const form = event.target.closest?.("form[data-act]");
  if (!sends || !form || event.defaultPrevented) return;
  event.preventDefault();
  form.requestSubmit();
});
if (root.dataset.shortcuts === "on") {
  listen({
    form: () => (ways.reveal ? null : main()),
    submit: () => main()?.requestSubmit(),
    skip: () => open("skip"),
    undo: () => {},
    raw: () => raw(!ways.raw),
    help: () => open("help"),
    why: () => talk.querySelector("#rationale")?.focus(),
    flag: () => talk.querySelector("[name=safety]")?.click(),
    goOn: () => {},
  });
}
skipping();
setInterval(beat, BEAT);
activity.begin(Number(root.dataset.active));
root.dataset.ready = "";
settle();
