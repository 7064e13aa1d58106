// What changed between two texts, word by word, drawn as <ins> and <del>.

const MOST = 4_000_000;

const words = (text) => text.match(/\s+|[\p{L}\p{M}\p{N}_]+|[^\s\p{L}\p{M}\p{N}_]/gu) ?? [];
// Chinese and Japanese have no spaces: their letters stand for themselves.
const split = (text) => words(text).flatMap((one) => (/^[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}]+$/u.test(one) ? [...one] : [one]));

// [["=" | "-" | "+", text], ...]
export function difference(before, after) {
  let a = split(before);
  let b = split(after);
  let head = 0;
  while (head < a.length && head < b.length && a[head] === b[head]) head += 1;
  let tail = 0;
  while (tail < a.length - head && tail < b.length - head && a.at(-1 - tail) === b.at(-1 - tail)) tail += 1;
  const found = [["=", a.slice(0, head).join("")]];
  const end = a.slice(a.length - tail).join("");
  a = a.slice(head, a.length - tail);
  b = b.slice(head, b.length - tail);
  found.push(...(a.length * b.length > MOST ? [["-", a.join("")], ["+", b.join("")]] : middle(a, b)), ["=", end]);
  return joined(found);
}

// Longest common subsequence, by a table.
function middle(a, b) {
  const wide = b.length + 1;
  const table = new Uint16Array((a.length + 1) * wide);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      const same = a[i] === b[j];
      const skip = Math.max(table[(i + 1) * wide + j], table[i * wide + j + 1]);
      table[i * wide + j] = same ? table[(i + 1) * wide + j + 1] + 1 : skip;
    }
  }
  const found = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push(["=", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && table[(i + 1) * wide + j] >= table[i * wide + j + 1])) {
      found.push(["-", a[i]]);
      i += 1;
    } else {
      found.push(["+", b[j]]);
      j += 1;
    }
  }
  return found;
}

function joined(parts) {
  const found = [];
  for (const [sign, text] of parts) {
    if (!text) continue;
    if (found.at(-1)?.[0] === sign) found.at(-1)[1] += text;
    else found.push([sign, text]);
  }
  return found;
}

const AROUND = 160;

// Of long stretches that stay, only the ends are drawn.
function shorter(text, first, last) {
  if (text.length <= 2 * AROUND) return text;
  return `${first ? "" : text.slice(0, AROUND)} … ${last ? "" : text.slice(-AROUND)}`;
}

export function draw(place, before, after, nothing) {
  if (before === after) {
    place.textContent = nothing;
    place.classList.add("muted");
    return;
  }
  place.classList.remove("muted");
  const parts = difference(before, after);
  const nodes = parts.map(([sign, text], at) => {
    if (sign === "=") return document.createTextNode(shorter(text, at === 0, at === parts.length - 1));
    const node = document.createElement(sign === "+" ? "ins" : "del");
    node.textContent = text;
    return node;
  });
  place.replaceChildren(...nodes);
}
