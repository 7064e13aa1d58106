// What is said and not yet acknowledged: kept in the browser, sent again until the studio answers, also after a
// reload. Each entry is {own, url, body, assignment}; its body holds the key that makes a second sending harmless.

import { later, post } from "./post.js";
import { newKey, read, remove, write } from "./store.js";

const LONGEST_WAIT = 30_000;

export class Outbox {
  // own: whose entries; told(state, reply): "sending", "kept", "retrying", "login".
  constructor(own, told) {
    this.name = `heedful:outbox:${own}`;
    this.told = told;
    this.wake = () => {};
    window.addEventListener("online", () => this.wake());
    document.addEventListener("visibilitychange", () => !document.hidden && this.wake());
    window.addEventListener("beforeunload", (event) => this.waiting() && !this.safe && event.preventDefault());
  }

  waiting() {
    return read(this.name);
  }

  put(entry) {
    this.safe = write(this.name, entry);
    return entry;
  }

  // Send what waits until it is answered for good; gives {status, data}.
  async send() {
    const entry = this.waiting();
    for (let wait = 1000; ; wait = Math.min(wait * 2, LONGEST_WAIT)) {
      this.told("sending");
      const reply = await post(entry.url, entry.body);
      if (!later(reply.status)) {
        remove(this.name);
        return reply;
      }
      this.told(this.state(reply.status), reply);
      await this.pause(reply.wait * 1000 || wait);
    }
  }

  state(status) {
    if (status === 401) return "login";
    return status === 0 ? "kept" : "retrying";
  }

  pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

// The key of a task's submission: the same for as long as the task is not sent.
export function keyOf(assignment) {
  const name = `heedful:key:${assignment}`;
  const known = read(name);
  if (known) return known;
  const made = newKey();
  write(name, made);
  return made;
}

export const forgetKey = (assignment) => remove(`heedful:key:${assignment}`);
