// Rows of small tables: mismatches, and the migrations known on this machine.

import { count, duration, moment } from "./format.js";

export function row(cells) {
  const made = document.createElement("tr");
  for (const cell of cells) {
    const [words, kind] = Array.isArray(cell) ? cell : [cell, ""];
    const one = document.createElement("td");
    one.className = kind;
    one.textContent = words;
    made.append(one);
  }
  return made;
}

export function past(each, own) {
  if (each.error) return row([each.name, `unreadable: ${each.error}`, "–", "–", ["–", "r"], ["–", "r"]]);
  const took = each.committedAt ? duration((new Date(each.committedAt) - new Date(each.startedAt)) / 1000) : "–";
  const made = row([each.name, each.state, moment(each.startedAt), took, [count(each.documents), "r"], [count(each.mismatches), "r"]]);
  if (each.name === own) made.setAttribute("aria-current", "true");
  return made;
}

// The others are asked for now and then; this one is known better.
export function ownRow(table, body) {
  const cells = table.querySelector("[aria-current]")?.cells;
  if (!cells) return;
  cells[1].textContent = body.state;
  cells[4].textContent = count(body.progress.copiedDocuments);
  cells[5].textContent = count(body.verification.mismatches);
}
