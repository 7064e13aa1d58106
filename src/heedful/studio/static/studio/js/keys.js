// A whole judgment without the mouse. Keys rest in text fields, selects and dialogs, and while somebody composes.

import { choose, firstOpen, rows } from "./fields.js";

const TEXT = "textarea, select, [contenteditable], input:not([type=radio], [type=checkbox], [type=button])";
const OWN_ENTER = "button, a, summary, [role=button]";

// The letter or digit of a key, whatever the keyboard's alphabet.
export function sign(event) {
  if (/^[a-z0-9?]$/i.test(event.key)) return event.key.toLowerCase();
  const code = /^(?:Key|Digit|Numpad)([A-Z0-9])$/.exec(event.code ?? "");
  if (code && !event.shiftKey) return code[1].toLowerCase();
  return event.key === "Enter" ? "enter" : "";
}

const composing = (event) => event.isComposing || event.keyCode === 229;

function press(form, key) {
  const button = form.querySelector(`input[data-letter="${key}"]`);
  if (button) choose(button);
  return Boolean(button);
}

// A digit: in the row that has the focus, else in the first that is open; then on to the next open one.
function digit(form, key) {
  const all = rows(form);
  if (!all.length) return false;
  const at = document.activeElement?.closest("[data-row]");
  const row = all.find((one) => one.element === at) ?? firstOpen(form) ?? (all.length === 1 ? all[0] : null);
  const input = row?.inputs.find((one) => one.dataset.key === key);
  if (!input) return false;
  choose(input);
  const next = all.length > 1 && firstOpen(form);
  if (next) next.inputs[0].focus();
  next?.element?.scrollIntoView({ block: "nearest" });
  return true;
}

// A letter: to the rank or the first question of that answer.
function letter(form, key) {
  if (form.dataset.kind === "pairwise") return false;
  const index = "abcdefghi".indexOf(key);
  const row = rows(form).find((one) => one.element.dataset.of === String(index));
  if (!row) return false;
  (row.checked ?? row.inputs[0]).focus();
  row.element.scrollIntoView({ block: "nearest" });
  return true;
}

// acts: {form(), submit, skip, undo, raw, help, why, flag, goOn}; form() is null while there is no task.
export function listen(acts) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || composing(event) || event.altKey) return;
    const writing = event.target.closest?.(TEXT);
    const form = acts.form();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      if (!form || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      acts.submit();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.repeat || document.querySelector("dialog[open]")) return;
    if (writing) {
      if (event.key === "Escape") writing.blur();
      return;
    }
    const key = sign(event);
    if (!key) return;
    if (key === "enter" && event.target.closest?.(OWN_ENTER)) return;
    if (act(acts, form, key)) event.preventDefault();
  });
}

// Whether the key meant something.
function act(acts, form, key) {
  const always = { "?": acts.help, u: acts.undo, enter: form ? acts.submit : acts.goOn }[key];
  const atTask = form && free(form, key) && { s: acts.skip, r: acts.raw, n: acts.why, f: acts.flag }[key];
  const known = always ?? atTask;
  if (known) known();
  if (known || !form) return Boolean(known);
  if (key === "t" && form.dataset.kind === "pairwise") return digit(form, "4");
  return /^\d$/.test(key) ? digit(form, key) : press(form, key) || letter(form, key);
}

// F is an answer's letter where there are six answers or more.
function free(form, key) {
  return key !== "f" || form.dataset.kind === "pairwise" || Number(form.dataset.count) < 6;
}
