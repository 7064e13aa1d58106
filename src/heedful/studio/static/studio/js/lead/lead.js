// Small helps of the lead's pages. Everything works without them.

function copying(button) {
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // a page without encryption has no clipboard of the newer kind
    }
    const before = button.textContent;
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = before; }, 2000);
  });
}

function dropping(area) {
  const form = area.closest("form");
  const input = area.querySelector("input[type=file]");
  const name = area.querySelector("[data-drop-name]");
  const told = () => { name.textContent = input.files.length ? input.files[0].name : ""; };
  input.addEventListener("change", told);
  for (const kind of ["dragenter", "dragover"]) {
    area.addEventListener(kind, (event) => { event.preventDefault(); area.classList.add("over"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    area.addEventListener(kind, () => area.classList.remove("over"));
  }
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    const one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    input.files = one.files;
    told();
    form.requestSubmit();
  });
}

function adding(button) {
  const prefix = button.dataset.formsetAdd;
  const rows = document.querySelector(`[data-formset="${prefix}"]`);
  const blank = document.querySelector(`[data-formset-row="${prefix}"]`);
  const total = document.getElementById(`id_${prefix}-TOTAL_FORMS`);
  const most = Number(document.getElementById(`id_${prefix}-MAX_NUM_FORMS`).value);
  button.hidden = false;
  button.addEventListener("click", () => {
    const number = Number(total.value);
    const copy = blank.content.cloneNode(true);
    for (const node of copy.querySelectorAll("*")) {
      for (const attribute of [...node.attributes]) {
        if (attribute.value.includes("__prefix__")) {
          node.setAttribute(attribute.name, attribute.value.replaceAll("__prefix__", String(number)));
        }
      }
    }
    const first = copy.querySelector("input, textarea, select");
    rows.append(copy);
    total.value = String(number + 1);
    button.disabled = number + 1 >= most;
    first.focus();
  });
}

// A second click on a button that writes does nothing while the first is on its way.
function once(form) {
  let sent = false;
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });
}

// On a narrow screen the entry of the page one is on is scrolled into sight.
function nearer(here) {
  const strip = here.closest(".tabs, .nav");
  strip.scrollLeft = here.offsetLeft - (strip.clientWidth - here.offsetWidth) / 2;
}

document.querySelectorAll(".tabs [aria-current], .nav [aria-current]").forEach(nearer);
document.querySelectorAll("[data-copy]").forEach(copying);
document.querySelectorAll("[data-drop]").forEach(dropping);
document.querySelectorAll("[data-formset-add]").forEach(adding);
document.querySelectorAll("main form[method=post]").forEach(once);
