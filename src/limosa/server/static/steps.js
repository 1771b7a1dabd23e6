// The steps of the migration: those that were begun, and those to come.

import { duration, plural } from "./format.js";

const WORDS = {
  pending: "to come",
  running: "under way",
  retrying: "to be tried again",
  failed: "failed",
};

export class Steps {
  constructor({ section, list }) {
    Object.assign(this, { section, list });
    this.known = "";
  }

  set(steps) {
    const known = JSON.stringify(steps);
    if (known === this.known) return;
    this.known = known;
    this.section.hidden = !steps.some((step) => step.beganAt);
    this.list.replaceChildren(...steps.map(item));
  }
}

function item(step) {
  const made = document.createElement("li");
  made.dataset.state = step.state;
  made.append(
    part(step.label),
    part(step.attempts ? plural(step.attempts, "attempt") : "", "note"),
    part(WORDS[step.state] ?? took(step), step.state === "failed" ? "is-bad" : "note"),
    part(step.lastError ?? "", "is-bad"),
  );
  return made;
}

function part(text, kind = "") {
  const made = document.createElement("span");
  made.className = kind;
  made.textContent = text;
  return made;
}

const took = ({ beganAt, endedAt }) => duration((new Date(endedAt) - new Date(beganAt)) / 1000);
