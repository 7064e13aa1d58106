// What stays in the browser: in local storage where there is some, else for as long as the page is open.

const spare = new Map();

function box() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

export function read(key) {
  try {
    const text = box()?.getItem(key);
    if (text) return JSON.parse(text);
  } catch { /* another program wrote there, or storage is closed */ }
  return spare.get(key) ?? null;
}

// Whether it stays when the page is closed.
export function write(key, value) {
  spare.set(key, value);
  try {
    box().setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function remove(key) {
  spare.delete(key);
  try {
    box()?.removeItem(key);
  } catch { /* nothing was kept */ }
}

// A key for one submission. randomUUID is only there over HTTPS; a studio in a local network has none.
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(18));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_");
}
