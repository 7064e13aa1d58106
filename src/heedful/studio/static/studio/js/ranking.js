// The board beside the grid of ranks: chips in order of rank, dragged by mouse, pen or finger.

import { rows } from "./fields.js";

export const LETTERS = "ABCDEFGHI";

// {index: rank} of what is ranked so far.
export function ranks(form) {
  const found = new Map();
  for (const row of rows(form)) if (row.checked) found.set(Number(row.element.dataset.of), Number(row.checked.value));
  return found;
}

// Ranks as they are kept, 1, 2, 2, 4, of any that say the same.
export function tidy(given) {
  const all = [...given.values()];
  return new Map([...given].map(([index, rank]) => [index, 1 + all.filter((other) => other < rank).length]));
}

// "B > A = C"
export function sentence(given) {
  const places = [...new Set(given.values())].sort((x, y) => x - y);
  const at = (place) => [...given].filter(([, rank]) => rank === place).map(([index]) => LETTERS[index]);
  return places.map((place) => at(place).sort().join(" = ")).join(" > ");
}

export class Board {
  constructor(form, changed) {
    this.form = form;
    this.list = form.querySelector("[data-board]");
    this.changed = changed;
    this.list.addEventListener("pointerdown", (event) => this.take(event));
    for (const chip of this.list.children) {
      const answer = form.querySelector(`[data-answer="${chip.dataset.chip}"] .formatted`);
      chip.querySelector(".chip-text").textContent = (answer?.textContent ?? "").trim().slice(0, 90);
    }
    this.draw();
  }

  // Chips into the order of their ranks; those without one stay at the end.
  draw() {
    const given = tidy(ranks(this.form));
    const chips = [...this.list.children];
    const place = (chip) => given.get(Number(chip.dataset.chip)) ?? 99;
    chips.sort((x, y) => place(x) - place(y) || x.dataset.chip - y.dataset.chip);
    for (const chip of chips) {
      const rank = place(chip);
      const tied = [...given.values()].filter((one) => one === rank).length > 1;
      chip.querySelector(".place").textContent = rank === 99 ? "–" : `${rank}${tied ? " =" : ""}`;
      chip.classList.toggle("ranked", rank !== 99);
      this.list.append(chip);
    }
  }

  take(event) {
    const chip = event.target.closest("[data-chip]");
    const byTouch = event.pointerType !== "mouse";
    if (!chip || event.button || this.dragged || (byTouch && !event.target.closest(".handle"))) return;
    event.preventDefault();
    this.dragged = { chip, from: event.clientY, before: [...this.list.children] };
    this.list.setPointerCapture(event.pointerId); // of the list: the chip itself moves about in the page
    chip.classList.add("dragged");
    this.list.onpointermove = (one) => this.move(one);
    this.list.onpointerup = () => this.drop(true);
    this.list.onpointercancel = () => this.drop(false);
  }

  move(event) {
    const { chip } = this.dragged;
    this.dragged.moved ||= Math.abs(event.clientY - this.dragged.from) > 4;
    const others = [...this.list.children].filter((one) => one !== chip);
    const middle = (one) => one.getBoundingClientRect().top + one.getBoundingClientRect().height / 2;
    const next = others.find((one) => event.clientY < middle(one)) ?? null;
    if (chip.nextElementSibling !== next) this.list.insertBefore(chip, next);
  }

  // Let go: the places are the ranks; a drag that broke off changes nothing.
  drop(kept) {
    const { chip, before, moved } = this.dragged;
    chip.classList.remove("dragged");
    this.list.onpointermove = this.list.onpointerup = this.list.onpointercancel = null;
    this.dragged = null;
    if (!kept) this.list.append(...before);
    if (!kept || !moved) return;
    [...this.list.children].forEach((one, place) => {
      const name = `rank-${one.dataset.chip}`;
      const input = this.form.querySelector(`input[name="${name}"][value="${place + 1}"]`);
      input.checked = true;
    });
    this.draw();
    this.changed();
  }
}
