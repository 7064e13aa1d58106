// Shows several texts growing at one pace, letter by letter, whatever their lengths: who reads cannot tell which came
// first or was longer in coming. Texts are taken out of their nodes and put back; no markup is ever made here.

const PACE = 90; // characters a second
const LONGEST = 12; // seconds
const BLOCKS = "p, li, pre, h3, h4, h5, h6, blockquote, hr, div:has(> table), details";

function pieces(element) {
  const walk = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
  const found = [];
  for (let node = walk.nextNode(); node; node = walk.nextNode()) {
    if (node.data.trim()) found.push({ node, text: node.data });
  }
  return found;
}

export class Reveal {
  // elements: what grows. done(): all is there.
  constructor(elements, done) {
    this.done = done;
    this.parts = elements.map((element) => ({ blocks: [...element.querySelectorAll(BLOCKS)], texts: pieces(element) }));
    const longest = Math.max(1, ...this.parts.map(({ texts }) => texts.reduce((n, one) => n + one.text.length, 0)));
    this.pace = Math.max(PACE, longest / LONGEST);
    this.longest = longest;
    for (const part of this.parts) {
      for (const block of part.blocks) block.hidden = true;
      for (const one of part.texts) one.node.data = "";
    }
    this.began = performance.now();
    this.frame = requestAnimationFrame(() => this.step());
    this.timer = setTimeout(() => this.finish(), (longest / this.pace) * 1000 + 500); // where no frame is ever drawn
  }

  step() {
    const count = ((performance.now() - this.began) / 1000) * this.pace;
    if (count >= this.longest) return this.finish();
    for (const part of this.parts) this.show(part, Math.floor(count));
    this.frame = requestAnimationFrame(() => this.step());
    return undefined;
  }

  show(part, count) {
    let left = count;
    for (const one of part.texts) {
      if (left <= 0) break;
      const half = /[\uD800-\uDBFF]/.test(one.text[left - 1] ?? ""); // of a letter of two units
      const letters = one.text.slice(0, left + Number(half));
      if (one.node.data !== letters) {
        one.node.data = letters;
        for (let at = one.node.parentElement?.closest(BLOCKS); at?.hidden; at = at.parentElement?.closest(BLOCKS)) {
          at.hidden = false;
        }
      }
      left -= one.text.length;
    }
  }

  finish() {
    if (!this.parts) return;
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    for (const part of this.parts) {
      for (const one of part.texts) one.node.data = one.text;
      for (const block of part.blocks) block.hidden = false;
    }
    this.parts = null;
    this.done();
  }
}
