// The dialogue page: sends what the rater says, waits for the answers, shows them together, lets one go on.
// Everything that counts is in the studio: a reload goes on with the same turn.

import { Activity } from "./activity.js";
import { listen } from "./keys.js";
import { post } from "./post.js";
import { Reveal } from "./reveal.js";
import { read, remove, write } from "./store.js";

const POLL = 1000;
const BEAT = 30_000;
const PATIENCE = 15_000;

const root = document.getElementById("dialogue");
const talk = document.getElementById("talk");
const words = JSON.parse(document.getElementById("dialogue-words").textContent);
const notices = document.getElementById("notices");
const status = document.getElementById("status");
const activity = new Activity();
const draft = `heedful:dialogue:${root.dataset.name}`;
const plain = window.matchMedia("(prefers-reduced-motion: reduce)");
const ways = { raw: false, busy: false, reveal: null, timer: 0, seen: 0, down: false, composing: false, beaten: 0 };

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

// What is being written stays in the browser, for a reload.
const jot = (more) => write(draft, { ...read(draft), ...more });

// Which answer goes on is asked only where neither is better; what was chosen is said where its button has no room.
function chosen() {
  const form = main();
  const value = form?.elements.choice?.value;
  form?.querySelector("[data-goes]")?.classList.toggle("asked", ["0", "bad", "good"].includes(value));
  const place = form?.querySelector("[data-chosen]");
  if (place) place.textContent = form.querySelector("[name=choice]:checked + .visually-hidden")?.textContent ?? "";
}

// What the studio sent, in the old one's place; the text that is being written stays, and whoever writes it goes on.
function put(told) {
  ways.seen += 1;
  if (told.go) {
    remove(draft);
    window.location.assign(told.go);
    return;
  }
  const old = talk.querySelector("#rationale");
  const writing = old !== null && document.activeElement === old;
  const flag = talk.querySelector("[name=safety]")?.checked ?? false;
  const before = turns().dataset.state;
  talk.innerHTML = told.html;
  const box = talk.querySelector("#rationale");
  if (old && box) {
    box.value = old.value;
    talk.querySelector("[name=safety]").checked = flag;
    if (writing) {
      box.focus({ preventScroll: true });
      box.setSelectionRange(old.selectionStart, old.selectionEnd);
    }
  }
  settle(before);
}

// After each change: wait, reveal, or let the rater act. A turn whose server is gone is asked again, once by itself.
function settle(before) {
  clearTimeout(ways.timer);
  const { state, turn } = turns().dataset;
  const kept = read(draft) ?? {};
  raw(ways.raw);
  if (!before && talk.querySelector("#rationale")) {
    talk.querySelector("#rationale").value = kept.why ?? "";
    talk.querySelector("[name=safety]").checked = kept.flag ?? false;
  }
  status.textContent = state === "asking" ? words.waiting : "";
  if (state === "asking") {
    ways.timer = setTimeout(poll, POLL);
  } else if (state === "choose") {
    if (before && before !== "choose" && !plain.matches && !document.hidden) reveal();
    else if (before) ready();
    chosen();
  } else if (state === "speak") {
    const box = talk.querySelector("#say-text");
    if (kept.turn === turn) box.value = kept.text;
    if (before) box.focus();
  } else if (state === "lapsed" && ways.again !== turn && !ways.busy) {
    ways.again = turn;
    send(main());
  } else if (state === "failed" && before) focus("[data-main]");
}

// Not away from a text that somebody writes: their next letters would be keys.
function focus(where) {
  if (!document.activeElement?.matches("textarea")) talk.querySelector(where)?.focus({ preventScroll: true });
}

function reveal() {
  const form = main();
  const note = talk.querySelector("[data-revealing]");
  const box = talk.querySelector("[data-answers]");
  form.hidden = true;
  note.hidden = false;
  box.setAttribute("aria-busy", "true");
  const shown = ways.raw ? ".as-written" : ".formatted";
  ways.reveal = new Reveal([...box.querySelectorAll(`[data-answer] > ${shown}`)], () => {
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
  focus(".answer-title");
}

// Puts the turns as they are now in place, if they are others than those on the page. What stood in the way, or nothing.
async function look() {
  const { seen } = ways;
  try {
    const reply = await fetch(root.dataset.turns, {
      headers: { Accept: "application/json" }, credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE),
    });
    if (reply.status === 401) return words.login;
    const told = reply.ok ? await reply.json() : null;
    if (seen !== ways.seen) return ""; // the page went on meanwhile: what came is out of date
    if (!told) return words.lost;
    const { state, turn } = turns().dataset;
    const other = told.go || told.state !== state || String(told.turn) !== turn;
    if (other && !ways.composing) put(told);
    return "";
  } catch {
    return words.lost;
  }
}

async function poll() {
  const { seen } = ways;
  const trouble = await look();
  if (trouble) say(trouble, "warning");
  else if (ways.down) say("");
  ways.down = Boolean(trouble);
  if (seen === ways.seen) ways.timer = setTimeout(poll, POLL);
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
    if (form.dataset.act === "say") jot({ turn: "", text: "" });
    put(data);
  } else if (code === 400 && error) {
    error.textContent = `${data.error} ${data.mend ?? ""}`.trim();
  } else if (code === 409) {
    say(`${data.error} ${data.mend ?? ""}`.trim(), "warning");
    look();
  } else say(code === 0 ? words.down : code === 401 ? words.login : data.error ?? words.failed);
}

async function beat() {
  if (document.hidden || activity.ms === ways.beaten) return;
  ways.beaten = activity.ms;
  const { status: code, data } = await post(root.dataset.beat, { active_ms: ways.beaten });
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
  if (event.target.id === "say-text") jot({ turn: turns().dataset.turn, text: event.target.value });
  if (event.target.id === "rationale") jot({ why: event.target.value });
  if (event.target.name === "safety") jot({ flag: event.target.checked });
  if (event.target.name === "choice") chosen();
});
for (const [name, on] of [["compositionstart", true], ["compositionend", false]]) {
  root.addEventListener(name, () => { ways.composing = on; });
}
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
ways.beaten = activity.ms;
root.querySelector("[data-guideline]").open = window.matchMedia("(min-width: 62rem)").matches; // beside, or above
root.dataset.ready = "";
settle();
