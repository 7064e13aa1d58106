// What a form says, by the names of its fields, and back into the form.

export function collect(form) {
  const found = {};
  for (const one of form.elements) {
    if (!one.name || ["version", "key", "csrfmiddlewaretoken"].includes(one.name)) continue;
    if (["radio", "checkbox"].includes(one.type)) {
      if (one.checked) found[one.name] = one.value;
    } else if (one.tagName === "TEXTAREA") {
      found[one.name] = one.value;
    }
  }
  return found;
}

export function fill(form, fields) {
  for (const one of form.elements) {
    if (!one.name) continue;
    if (["radio", "checkbox"].includes(one.type)) one.checked = fields[one.name] === one.value;
    else if (one.tagName === "TEXTAREA" && one.name in fields) one.value = fields[one.name];
  }
}

// The rows of radio buttons: [{element, inputs, checked}].
export function rows(form) {
  return [...form.querySelectorAll("[data-row]")].map((element) => {
    const inputs = [...element.querySelectorAll("input[type=radio]")];
    return { element, inputs, checked: inputs.find((one) => one.checked) ?? null };
  });
}

export const firstOpen = (form) => rows(form).find((row) => !row.checked) ?? null;

export function choose(input) {
  input.checked = true;
  input.focus({ preventScroll: true });
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new Event("change", { bubbles: true }));
}
