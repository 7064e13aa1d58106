// Time at work on an item: a hidden page counts for nothing, nor does one that nobody touched for a minute.

const IDLE = 60_000;
const TICK = 1000;
const SIGNS = ["pointerdown", "pointermove", "keydown", "wheel", "scroll", "input", "touchstart"];

export class Activity {
  constructor() {
    this.total = 0;
    this.on = false;
    this.touched = this.at = performance.now();
    for (const sign of SIGNS) {
      document.addEventListener(sign, () => this.touch(), { passive: true, capture: true });
    }
    document.addEventListener("visibilitychange", () => this.turn());
    setInterval(() => this.count(), TICK);
  }

  // An item is shown on which so much time was spent before.
  begin(milliseconds) {
    this.total = milliseconds;
    this.on = true;
    this.touched = this.at = performance.now();
  }

  stop() {
    this.count();
    this.on = false;
  }

  get ms() {
    this.count();
    return Math.round(this.total);
  }

  touch() {
    this.count();
    this.touched = performance.now();
  }

  // The page was hidden or is seen again: what went before is counted by how it was.
  turn() {
    this.count(!document.hidden);
    if (!document.hidden) this.touched = performance.now();
  }

  count(wasHidden = document.hidden) {
    const now = performance.now();
    const end = Math.min(now, this.touched + IDLE);
    if (this.on && !wasHidden && end > this.at) this.total += end - this.at;
    this.at = now;
  }
}
