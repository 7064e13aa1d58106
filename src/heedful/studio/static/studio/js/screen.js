// What a rater sees of the page around the task: its status line, notices that stay, dialogs, the raw toggle.

export const $ = (selector, within = document) => within.querySelector(selector);

export const read = (id) => JSON.parse(document.getElementById(id).textContent);

export const words = read("rate-words");

export const fit = (text, values) => text.replace(/%\((\w+)\)s/g, (_, name) => values[name] ?? "");

const status = $("#status");
const notices = $("#notices");

export function say(text) {
  status.textContent = text;
}

// A notice that stays until it is cleared or said anew; acts are [label, function or address].
export function notice(name, kind, text, acts = []) {
  clear(name);
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  box.dataset.notice = name;
  const line = document.createElement("p");
  line.textContent = text;
  box.append(line);
  for (const [label, act] of acts) {
    const made = document.createElement(typeof act === "string" ? "a" : "button");
    made.className = "button small";
    made.textContent = label;
    if (typeof act === "string") made.href = act;
    else made.addEventListener("click", act);
    box.append(made);
  }
  notices.append(box);
  return box;
}

export function clear(name = "") {
  for (const box of notices.querySelectorAll(name ? `[data-notice="${name}"]` : "[data-notice]")) box.remove();
}

let raw = false;

export function showRaw(form, on = !raw) {
  raw = on;
  for (const one of form.querySelectorAll(".formatted")) one.hidden = raw;
  for (const one of form.querySelectorAll(".as-written")) one.hidden = !raw;
  const button = $("[data-raw]", form);
  button.setAttribute("aria-pressed", String(raw));
  button.firstChild.textContent = raw ? words.raw_on : words.raw_off;
}

let guideline = null;

// The guideline stays as the rater left it; at first it is open where there is room beside the task.
export function placeGuideline(form) {
  const details = $("[data-guideline]", form);
  details.open = guideline ?? window.matchMedia("(min-width: 62rem)").matches;
  details.addEventListener("toggle", () => {
    guideline = details.open;
  });
}

export function today(count) {
  const place = $("#today");
  place.hidden = !count;
  $("b", place).textContent = count;
}
