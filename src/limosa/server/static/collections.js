// The table of collections: only the rows in sight exist, so that thousands stay smooth.

import { count, plural, size } from "./format.js";

const ROW = 33; // pixels, as in the style
const SPARE = 8; // rows above and below what is in sight

export class Collections {
  constructor({ rows, table, filter, counter, empty }) {
    Object.assign(this, { view: rows, table, filter, counter, empty });
    this.body = table.tBodies[0];
    this.columns = [];
    this.all = [];
    this.shown = [];
    this.order = { column: "documents", down: true };
    this.window = "";
    rows.addEventListener("scroll", () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw(true)).observe(rows);
    filter.addEventListener("input", () => this.arrange());
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => this.sort(button.dataset.column));
    }
    this.mark();
  }

  set({ columns, collections }) {
    this.columns = columns;
    this.all = collections;
    this.arrange();
  }

  sort(column) {
    const down = this.order.column === column ? !this.order.down : column !== "namespace";
    this.order = { column, down };
    this.mark();
    this.arrange();
  }

  mark() {
    for (const button of this.table.tHead.querySelectorAll("button")) {
      const { column, down } = this.order;
      const head = button.closest("th");
      if (button.dataset.column === column) head.setAttribute("aria-sort", down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    }
  }

  arrange() {
    const at = this.columns.indexOf(this.order.column);
    const sought = this.filter.value.trim().toLowerCase();
    const sign = this.order.down ? -1 : 1;
    this.shown = this.all
      .filter((row) => row[0].toLowerCase().includes(sought))
      .sort((a, b) => (at === 0 ? sign * compare(a[0], b[0]) : sign * (a[at] - b[at]) || compare(a[0], b[0])));
    this.table.setAttribute("aria-rowcount", this.shown.length + 1);
    this.counter.textContent = sought ? `${count(this.shown.length)} of ${count(this.all.length)}` : count(this.all.length);
    this.empty.hidden = this.shown.length > 0;
    this.empty.textContent = sought ? `No collection is called like “${sought}”.` : "No collection is planned yet.";
    this.draw(true);
  }

  draw(always = false) {
    const { scrollTop: top, clientHeight: height } = this.view;
    // Where there are fewer rows than before, the view is still scrolled to where they were.
    const first = Math.max(0, Math.min(this.shown.length, Math.floor(top / ROW)) - SPARE);
    const last = Math.min(this.shown.length, Math.ceil((top + height) / ROW) + SPARE);
    const window = `${first}-${last}`;
    if (window === this.window && !always) return;
    this.window = window;
    while (this.body.rows.length < last - first + 2) this.body.append(this.row());
    while (this.body.rows.length > last - first + 2) this.body.rows[this.body.rows.length - 2].remove();
    this.gap(this.body.rows[0], first);
    this.gap(this.body.rows[this.body.rows.length - 1], this.shown.length - last);
    for (let i = first; i < last; i += 1) this.fill(this.body.rows[i - first + 1], this.shown[i], i);
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

  gap(row, rows) {
    row.className = "gap";
    row.removeAttribute("aria-rowindex");
    row.setAttribute("aria-hidden", "true");
    row.hidden = rows === 0;
    if (row.cells.length !== 1) row.replaceChildren(document.createElement("td"));
    row.cells[0].colSpan = 5;
    row.cells[0].style.height = `${rows * ROW}px`;
  }

  fill(row, [name, documents, copied, compared, bytes], index) {
    if (row.cells.length !== 5) {
      row.replaceChildren(...this.row().cells);
      row.className = "";
      row.hidden = false;
      row.removeAttribute("aria-hidden");
    }
    row.setAttribute("aria-rowindex", index + 2);
    const cells = row.cells;
    write(cells[0], name);
    cells[0].title = name;
    write(cells[1], count(documents));
    meter(cells[2], copied, documents);
    meter(cells[3], compared, Math.max(documents, copied));
    write(cells[4], size(bytes));
  }
}

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

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
