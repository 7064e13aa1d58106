// Unfinished work: kept in the browser at once, at the studio a moment later. Another tab's work is never overwritten.

import { post } from "./post.js";
import { read, remove, write } from "./store.js";

const nameOf = (assignment) => `heedful:draft:${assignment}`;

const CALM = 700;
const AGAIN = 5000;

export class Drafts {
  // told(state, data): "saved", "here", "conflict", "refused", "login", "late".
  constructor(told) {
    this.told = told;
  }

  // Begin with an item; gives the fields to fill its form with: the browser's own, if the studio has none newer.
  begin(url, assignment, standing, ms) {
    clearTimeout(this.timer);
    Object.assign(this, { url, ms, name: nameOf(assignment), revision: standing.revision });
    Object.assign(this, { fields: null, busy: null, closed: false });
    const here = read(this.name);
    if (here && here.base >= standing.revision) {
      this.change(here.fields);
      return here.fields;
    }
    remove(this.name);
    return standing.fields;
  }

  change(fields) {
    if (this.closed) return;
    this.fields = fields;
    write(this.name, { base: this.revision, fields });
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save(), CALM);
  }

  // Save what is not saved; one request at a time.
  async save() {
    clearTimeout(this.timer);
    if (this.busy) await this.busy;
    if (!this.fields || this.closed) return;
    this.busy = this.send(this.fields);
    await this.busy;
    this.busy = null;
  }

  async send(fields) {
    const { name } = this;
    const body = { fields, revision: this.revision, active_ms: this.ms() };
    const { status, data } = await post(this.url, body);
    if (name !== this.name || this.closed) return;
    if (status === 200) {
      this.revision = data.revision;
      if (this.fields === fields) {
        this.fields = null;
        remove(name);
      } else write(name, { base: this.revision, fields: this.fields });
      this.told(data.held ? "saved" : "late", data);
    } else if (status === 409) {
      this.closed = true;
      remove(name);
      this.told("conflict", data);
    } else if (status === 400) {
      this.fields = null;
      this.told("refused", data);
    } else {
      this.told(status === 401 ? "login" : "here", data);
      this.timer = setTimeout(() => this.save(), AGAIN);
    }
  }

  // The work on an item is sent or passed: perhaps by this page, perhaps by one before a reload.
  end(assignment) {
    remove(nameOf(assignment));
    if (this.name !== nameOf(assignment)) return;
    clearTimeout(this.timer);
    this.closed = true;
  }
}
