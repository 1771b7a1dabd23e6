// What happened, newest first.

import { clock } from "./format.js";

const MOST = 1000;

export class Log {
  constructor({ list, empty }) {
    this.list = list;
    this.empty = empty;
  }

  add(entries) {
    // Whoever reads further down is not to be moved.
    const wasAt = this.list.scrollTop;
    const before = this.list.scrollHeight;
    this.list.prepend(...entries.map(item).reverse());
    while (this.list.children.length > MOST) this.list.lastElementChild.remove();
    if (wasAt > 0) this.list.scrollTop = wasAt + this.list.scrollHeight - before;
    this.mark();
  }

  clear() {
    this.list.replaceChildren();
    this.mark();
  }

  mark() {
    this.empty.hidden = this.list.children.length > 0;
    this.list.hidden = !this.empty.hidden;
  }

  only(level) {
    this.list.classList.toggle("only-warnings", level === "warning");
  }
}

function item(entry) {
  const made = document.createElement("li");
  made.className = entry.level;
  const time = document.createElement("time");
  const at = new Date(entry.at);
  time.dateTime = entry.at;
  time.title = at.toLocaleString("en-GB");
  time.textContent = clock(at);
  const words = document.createElement("p");
  if (entry.level !== "info") {
    const level = document.createElement("span");
    level.className = "sr";
    level.textContent = `${entry.level}: `;
    words.append(level);
  }
  words.append(entry.message);
  made.append(time, words);
  return made;
}
