// The dialog that asks why an item is passed.

import { $, words } from "./screen.js";

const dialog = $("#skip");
const form = $("form", dialog);
let told = () => {};

export function ask(answer) {
  told = answer;
  form.reset();
  $("#skip-error").textContent = "";
  dialog.showModal();
  $("input[name=reason]", form).focus();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const reason = new FormData(form).get("reason");
  if (!reason) {
    $("#skip-error").textContent = words.reason;
    return;
  }
  dialog.close();
  told({ reason, note: $("#skip-note").value });
});

$("[data-close]", dialog).addEventListener("click", () => dialog.close());

// Digits choose a reason, Enter passes the item.
export function keys() {
  dialog.addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229 || event.target.matches("textarea")) return;
    const input = $(`input[data-key="${event.key}"]`, form);
    if (!input || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    input.checked = true;
    input.focus();
  });
}
