// The table of collections. Only the rows in sight exist, and of a hundred thousand collections only
// those around them are held: the server sorts, filters and hands out a part at a time.

import { count, plural, size } from "./format.js";

const ROW = 33; // pixels, as in the style
const SPARE = 8; // rows above and below what is in sight
const PART = 1000; // collections held
const TYPING = 150; // milliseconds after the last letter
const SCROLLING = 50; // milliseconds between two questions while rows go by

export class Collections {
  constructor({ rows, table, filter, counter, empty, load }) {
    Object.assign(this, { view: rows, table, filter, counter, empty, load });
    this.body = table.tBodies[0];
    this.held = []; // rows from `from` on
    this.from = 0;
    this.matching = 0;
    this.total = 0;
    this.order = { column: "documents", down: true };
    this.sought = "";
    this.window = "";
    this.asking = null; // the question under way
    this.isStale = false; // whether another one is to follow it
    this.next = null;
    rows.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw(true)).observe(rows);
    filter.addEventListener("input", () => this.later(TYPING, () => this.startOver()));
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => this.sort(button.dataset.column));
    }
    this.mark();
  }

  // Ask for what is around the rows in sight; return once it is shown. One question at a time: a
  // server that needs a second for each is not asked twenty times while rows go by.
  refresh() {
    this.isStale = this.asking !== null;
    this.asking ??= this.asked().finally(() => {
      this.asking = null;
      if (this.isStale) this.ask();
    });
    return this.asking;
  }

  async asked() {
    const first = this.inSight()[0];
    const from = this.matching <= PART ? 0 : Math.max(0, Math.min(first - PART / 2, this.matching - PART));
    const wanted = { search: this.sought, sort: this.order.column, descending: this.order.down };
    const question = new URLSearchParams({ ...wanted, offset: from, limit: PART });
    const found = await this.load(`collections?${question}`);
    if (wanted.search !== this.sought || wanted.sort !== this.order.column || wanted.descending !== this.order.down) return;
    Object.assign(this, { held: found.collections, from, matching: found.matching, total: found.total });
    this.show();
  }

  sort(column) {
    const down = this.order.column === column ? !this.order.down : column !== "namespace";
    this.order = { column, down };
    this.mark();
    this.startOver();
  }

  startOver() {
    this.sought = this.filter.value.trim();
    this.view.scrollTop = 0;
    this.ask();
  }

  // What cannot be had now is asked for again by whoever refreshes now and then.
  ask() {
    this.refresh().catch(() => {});
  }

  later(milliseconds, what) {
    clearTimeout(this.next);
    this.next = setTimeout(() => {
      this.next = null;
      what();
    }, milliseconds);
  }

  mark() {
    for (const button of this.table.tHead.querySelectorAll("button")) {
      const { column, down } = this.order;
      const head = button.closest("th");
      if (button.dataset.column === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  show() {
    this.table.setAttribute("aria-rowcount", this.matching + 1);
    this.counter.textContent = this.sought ? `${count(this.matching)} of ${count(this.total)}` : count(this.total);
    this.empty.hidden = this.matching > 0;
    this.empty.textContent = this.sought ? `No collection is called like “${this.sought}”.` : "No collection is planned yet.";
    this.draw(true);
  }

  // The first row that exists, and the one after the last.
  inSight() {
    const { scrollTop: top, clientHeight: height } = this.view;
    // Where there are fewer rows than before, the view is still scrolled to where they were.
    const first = Math.max(0, Math.min(this.matching, Math.floor(top / ROW)) - SPARE);
    return [first, Math.min(this.matching, Math.ceil((top + height) / ROW) + SPARE)];
  }

  draw(always = false) {
    const [first, last] = this.inSight();
    const window = `${first}-${last}`;
    if (window === this.window && !always) return;
    this.window = window;
    while (this.body.rows.length < last - first + 2) this.body.append(this.row());
    while (this.body.rows.length > last - first + 2) this.body.rows[this.body.rows.length - 2].remove();
    this.gap(this.body.rows[0], first);
    this.gap(this.body.rows[this.body.rows.length - 1], this.matching - last);
    let isMissing = false;
    for (let i = first; i < last; i += 1) {
      const held = this.held[i - this.from];
      isMissing ||= !held;
      this.fill(this.body.rows[i - first + 1], held, i);
    }
    // While rows go by the question is asked now and then, not only when they rest.
    if (isMissing && this.next === null) this.later(SCROLLING, () => this.ask());
  }

  row() {
    const row = document.createElement("tr");
    for (const kind of ["", "r", "meter", "meter second", "r"]) {
      const cell = document.createElement("td");
      cell.className = kind;
      if (kind.startsWith("meter")) {
        const bar = document.createElement("span");
        bar.className = kind === "meter" ? "mini" : "mini second";
        bar.append(document.createElement("span"));
        cell.append(bar, document.createTextNode(""));
      }
      row.append(cell);
    }
    return row;
  }

  // Of one column: where some are hidden, more would take their room.
  gap(row, rows) {
    row.className = "gap";
    row.removeAttribute("aria-rowindex");
    row.setAttribute("aria-hidden", "true");
    row.hidden = rows === 0;
    if (row.cells.length !== 1) row.replaceChildren(document.createElement("td"));
    row.cells[0].style.height = `${rows * ROW}px`;
  }

  // Fill in a row; one that is not there yet keeps its place.
  fill(row, held, index) {
    if (row.cells.length !== 5) {
      row.replaceChildren(...this.row().cells);
      row.className = "";
      row.hidden = false;
      row.removeAttribute("aria-hidden");
    }
    row.setAttribute("aria-rowindex", index + 2);
    row.classList.toggle("is-coming", !held);
    const [name, documents, copied, compared, bytes] = held ?? ["…", 0, 0, 0, 0];
    const cells = row.cells;
    write(cells[0], name);
    cells[0].title = name;
    write(cells[1], count(documents));
    meter(cells[2], copied, documents);
    meter(cells[3], compared, Math.max(documents, copied));
    write(cells[4], size(bytes));
  }
}

function write(cell, text) {
  if (cell.textContent !== text) cell.textContent = text;
}

function meter(cell, part, whole) {
  const share = whole ? Math.min(1, part / whole) : 1;
  cell.firstChild.firstChild.style.transform = `scaleX(${share})`;
  const text = count(part);
  if (cell.lastChild.data !== text) cell.lastChild.data = text;
  cell.title = `${count(part)} of about ${plural(whole, "document")}`;
}
