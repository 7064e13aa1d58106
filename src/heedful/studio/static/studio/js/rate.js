// The raters' page: one item after another. Everything that is said is kept here until the studio has it.

import { Activity } from "./activity.js";
import { draw } from "./diff.js";
import { Drafts } from "./drafts.js";
import { collect, fill, firstOpen, rows } from "./fields.js";
import { listen } from "./keys.js";
import { forgetKey, keyOf, Outbox } from "./outbox.js";
import { later, post } from "./post.js";
import { Board, LETTERS, ranks, sentence, tidy } from "./ranking.js";
import { $, clear, fit, notice, placeGuideline, read, say, showRaw, today, words } from "./screen.js";
import * as skipping from "./skipping.js";

const BEAT = 30_000;
const AHEAD = 1000;
const LOOK = { busy: 20_000, done: 60_000, share: 120_000 };
const DIFF_CALM = 150;

const root = $("#rate");
const work = $("#work");
const activity = new Activity();
const outbox = new Outbox(root.dataset.own, sending);
const drafts = new Drafts(drafting);
const state = { task: null, ahead: null, last: null, busy: false, beaten: 0 };

const form = () => $("form.task", work);
const address = (assignment, act) => `${root.dataset.base}${assignment}/${act}/`;
const ready = () => (state.task && !state.busy ? form() : null);

// --- an item comes ---

function adopt(data) {
  clear();
  say("");
  work.innerHTML = data.html;
  begin(data);
  window.scrollTo(0, 0);
  $(".task-title", work).focus({ preventScroll: true });
}

function begin(data) {
  const made = form();
  state.task = data;
  state.beaten = data.active_ms;
  activity.begin(data.active_ms);
  fill(made, drafts.begin(address(data.assignment, "draft"), data.assignment, data, () => activity.ms));
  keyOf(data.assignment);
  placeGuideline(made);
  showRaw(made, false);
  state.board = $("[data-board]", made) && new Board(made, () => changed(made));
  $("[data-undo]", made).disabled = !state.last;
  reflect(made);
  clearTimeout(state.soon);
  state.soon = setTimeout(fetchAhead, AHEAD);
}

async function fetchAhead() {
  if (state.ahead || document.hidden) return;
  const { task } = state;
  const { status, data } = await post(root.dataset.next, { prefetch: true });
  if (status === 200 && data.assignment && state.task === task) state.ahead = data;
}

async function next() {
  clearTimeout(state.look);
  clearTimeout(state.soon);
  Object.assign(state, { task: null, busy: true });
  try {
    const data = (await fromAhead()) ?? (await fromStudio());
    if (data.go) return location.assign(data.go);
    tally(data);
    if (data.none) nothing(data);
    else adopt(data);
  } finally {
    state.busy = false;
  }
}

// What was fetched ahead, if it is still ours.
async function fromAhead() {
  const { ahead } = state;
  state.ahead = null;
  if (!ahead || ahead.go) return ahead;
  const { status, data } = await post(address(ahead.assignment, "show"));
  return status === 200 && data.version === ahead.version ? { ...ahead, ...data } : null;
}

async function fromStudio() {
  for (let wait = 1000; ; wait = Math.min(wait * 2, BEAT)) {
    const { status, data } = await post(root.dataset.next);
    if (status === 200) {
      clear("next");
      return data;
    }
    if (status === 401) askLogin();
    else if (later(status) || status === 409) notice("next", "warning", words.offline);
    else notice("next", "error", [data.error ?? words.failed, data.mend].filter(Boolean).join(" "));
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

function nothing(data) {
  activity.stop();
  say("");
  if (work.innerHTML !== data.html) work.innerHTML = data.html;
  const pause = LOOK[data.none];
  if (pause) state.look = setTimeout(lookAgain, pause);
}

function lookAgain() {
  if (document.hidden) state.look = setTimeout(lookAgain, LOOK.busy);
  else next();
}

function tally(data) {
  if ("last" in data) state.last = data.last;
  if ("today" in data) today(data.today);
}

// --- the rater works ---

function changed(made) {
  drafts.change(collect(made));
  problem("");
  reflect(made);
}

// What follows from the form at once: the board's order, a text's length, what an edit changes.
function reflect(made) {
  const text = $("[data-own-text]", made);
  if (text) {
    $("[data-length]", made).textContent = fit(words.characters, { count: text.value.length.toLocaleString() });
    clearTimeout(state.drawing);
    state.drawing = setTimeout(() => drawDiff(made), DIFF_CALM);
  }
  for (const row of rows(made)) row.element.toggleAttribute("data-set", Boolean(row.checked));
  state.board?.draw();
  const chosen = $("[data-chosen]", made);
  if (chosen) chosen.textContent = $("input[name=choice]:checked + .visually-hidden", made)?.textContent ?? "";
}

function drawDiff(made) {
  const place = $("[data-diff]", made);
  if (place) draw(place, $("[data-original]", made).textContent, $("[data-own-text]", made).value, words.no_change);
}

function problem(text, place) {
  const made = form();
  if (!made) return;
  $("[data-error]", made).textContent = text;
  place?.focus();
  place?.scrollIntoView({ block: "nearest" });
}

// What is missing: [words, where].
function missing(made) {
  const open = firstOpen(made);
  if (open) {
    const { of, title } = open.element.dataset;
    const about = { letter: LETTERS[of] ?? "", name: title ?? "" };
    const text = { pairwise: words.choice, ranking: words.rank }[made.dataset.kind] ?? words.score;
    return [fit(text, about), open.inputs[0]];
  }
  const text = $("[data-own-text]", made);
  if (text && !text.value.trim()) return [words.text, text];
  if (made.dataset.kind === "edit" && text.value === $("[data-original]", made).textContent) {
    return [words.unchanged, text];
  }
  const why = $("#rationale", made);
  return why.required && !why.value.trim() ? [words.why, why] : null;
}

// --- what is said goes out ---

function submit() {
  const made = ready();
  if (!made) return;
  const lack = missing(made);
  if (lack) return problem(fit(words.open, { what: lack[0] }), lack[1]);
  const { assignment, version } = state.task;
  const body = { fields: collect(made), key: keyOf(assignment), version, active_ms: activity.ms };
  hand({ assignment, act: "submit", url: address(assignment, "submit"), body });
}

function skip() {
  if (!ready()) return;
  const { assignment } = state.task;
  skipping.ask((said) => {
    hand({ assignment, act: "skip", url: address(assignment, "skip"), body: { ...said, active_ms: activity.ms } });
  });
}

function hand(entry) {
  activity.stop();
  outbox.put(entry);
  return deliver(entry);
}

async function deliver(entry) {
  const made = form();
  state.busy = true;
  made?.toggleAttribute("inert", true);
  const { status, data } = await outbox.send();
  state.busy = false;
  made?.toggleAttribute("inert", false);
  clear("sending");
  clear("login");
  if (status === 200) return delivered(entry, data);
  if (status === 400 && state.task?.assignment === entry.assignment) {
    activity.begin(activity.ms);
    return refused(data);
  }
  say("");
  const why = [data.error ?? words.gone, data.mend].filter(Boolean).join(" ");
  const leave = () => {
    drafts.end(entry.assignment);
    forgetKey(entry.assignment);
    return next();
  };
  notice("conflict", "warning", why, [[words.next, leave]]).querySelector("button").focus();
}

function delivered(entry, data) {
  drafts.end(entry.assignment);
  forgetKey(entry.assignment);
  tally(data);
  say(entry.act === "skip" ? words.skipped : words.sent);
  if (!data.html) return next();
  clear();
  state.task = null;
  work.innerHTML = data.html;
  $("[data-feedback]", work).focus();
}

// The studio found a mistake: beside the form, with the field.
function refused(data) {
  say("");
  const made = form();
  const place = made.elements[data.where];
  problem([data.error, data.mend].filter(Boolean).join(" "), place instanceof RadioNodeList ? place[0] : place);
}

function sending(how) {
  if (how === "login") return askLogin();
  if (how === "sending") return say(words.sending);
  say("");
  notice("sending", "warning", how === "kept" ? words.kept : words.retrying);
}

function askLogin() {
  notice("login", "warning", words.login, [[words.login_link, root.dataset.login]]);
}

function drafting(how, data) {
  if (how === "saved") say(words.saved);
  else if (how === "here") say(words.saved_here);
  else if (how === "login") askLogin();
  else if (how === "late") notice("late", "warning", words.late);
  else if (how === "refused") notice("refused", "error", fit(words.draft_refused, { why: data.error }));
  else notice("tab", "warning", words.other_tab, [[words.reload, () => location.reload()]]);
}

async function undo() {
  const { last } = state;
  if (!last || state.busy) return;
  state.busy = true;
  if (state.task) await drafts.save();
  const name = `undo:${last}`;
  const { status, data } = await post(address(last, "undo"), { key: keyOf(name) });
  state.busy = false;
  if (status === 401) return askLogin();
  if (status !== 200) {
    if (status === 409) state.last = null;
    return notice("undo", "warning", [data.error ?? words.failed, data.mend].filter(Boolean).join(" "));
  }
  forgetKey(name);
  forgetKey(last);
  state.ahead = null;
  tally(data);
  adopt(data);
  say(words.undone);
  if (data.late) notice("late", "warning", words.late);
}

async function beat() {
  if (!ready() || document.hidden || activity.ms === state.beaten) return;
  const { assignment } = state.task;
  state.beaten = activity.ms;
  const { status, data } = await post(address(assignment, "beat"), { active_ms: state.beaten });
  if (status === 200 && !data.held && state.task?.assignment === assignment) notice("late", "warning", words.late);
}

// --- wiring ---

function wire() {
  work.addEventListener("input", (event) => event.target.form === ready() && changed(ready()));
  work.addEventListener("change", (event) => {
    const made = ready();
    if (made?.dataset.kind === "ranking" && event.target.form === made) {
      say(fit(words.ranked, { order: sentence(tidy(ranks(made))) }));
    }
  });
  work.addEventListener("submit", (event) => {
    if (event.target.matches("[data-test]")) return;
    event.preventDefault();
    if ($("[data-undo]", event.target) && !event.target.matches("form.task")) return;
    if (event.target.matches("form.task")) submit();
    else if (!state.busy) next();
  });
  work.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest(selector);
    if (on("[data-again]")) next();
    else if (on("[data-skip-open]")) skip();
    else if (on("[data-undo]")) undo();
    else if (on("[data-raw]")) showRaw(form());
    else if (on("[data-help]")) $("#help").showModal();
  });
  setInterval(beat, BEAT);
  if (root.dataset.shortcuts === "off") return;
  skipping.keys();
  listen({
    form: ready,
    submit,
    skip,
    undo,
    raw: () => showRaw(form()),
    help: () => $("#help").showModal(),
    why: () => $("#rationale", work).focus(),
    flag: () => $("input[name=safety]", work).click(),
    goOn: () => !state.busy && $("[data-feedback], [data-again], [data-begin]", work) && next(),
  });
}

async function start() {
  const first = read("rate-first");
  tally(first);
  root.dataset.ready = "";
  wire();
  const waiting = outbox.waiting();
  if (!first.assignment && !waiting) {
    if ($("[data-begin], [data-none]", work)) await next();
    return;
  }
  if (waiting) {
    if (first.assignment === waiting.assignment) begin(first);
    return deliver(waiting);
  }
  const { status, data } = await post(address(first.assignment, "show"));
  if (status === 200 && data.version === first.version) begin({ ...first, ...data });
  else if (later(status)) begin(first);
  else await next();
}

start();
