// Curves over the whole history, drawn as SVG; pointer and arrow keys read them.

import { clock } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 210;
const TOP = 30;
const BOTTOM = 22;
const LETTER = 5.6; // width on average
const SPANS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];

// Columns of a sample that this file knows.
const AT = 0;
const PHASE = 1;

// What a counter grew by a second, in steps of `step` seconds: [time, value or null for a gap].
export function rates(samples, column, step) {
  return steps(samples, step, (before, last) => {
    const seconds = last[AT] - before[AT];
    return seconds > 0 ? Math.max(0, last[column] - before[column]) / seconds : null;
  });
}

// The largest value of each step.
export function peaks(samples, column, step) {
  return steps(samples, step, (_, last, group) => {
    const known = group.map((s) => s[column]).filter((v) => v != null);
    return known.length ? Math.max(...known) : null;
  });
}

function steps(samples, step, value) {
  const points = [];
  const gap = Math.max(15, 4 * step, 4 * spacing(samples));
  let before = null;
  let group = [];
  const close = () => {
    const last = group.at(-1);
    if (before && last[AT] - before[AT] > gap) points.push([before[AT] + step, null]);
    else if (before) points.push([last[AT], value(before, last, group)]);
    else points.push([last[AT], value(last, last, group)]);
    before = last;
    group = [];
  };
  for (const sample of samples) {
    if (group.length && Math.floor(sample[AT] / step) !== Math.floor(group[0][AT] / step)) close();
    group.push(sample);
  }
  if (group.length && (!before || group.at(-1)[AT] - before[AT] >= step / 2)) close();
  return points;
}

function spacing(samples) {
  if (samples.length < 3) return 1;
  return (samples.at(-1)[AT] - samples[0][AT]) / (samples.length - 1);
}

function ceiling(value, least) {
  if (!(value > least)) return least;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((f) => f * power).find((f) => f >= value);
}

const element = (name, attributes = {}, parent = null) => {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
};

export class Curve {
  // Each series: {name, colour, points(samples, step), write(value), axis: "left" or "right"}
  constructor(figure, { title, series, least }) {
    this.figure = figure;
    this.title = title;
    this.series = series;
    this.least = least; // of each axis: a line at nothing is not blown up
    this.samples = [];
    this.span = null;
    this.at = null; // where it is read; null: at its end
    this.width = 0;
    this.build();
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  show(samples, span) {
    this.samples = span ? samples.filter((s) => s[AT] >= samples.at(-1)[AT] - span) : samples;
    this.draw();
  }

  build() {
    this.legend = document.createElement("figcaption");
    this.legend.className = "legend";
    this.values = this.series.map((each) => {
      const item = document.createElement("span");
      const line = document.createElement("i");
      line.className = each.colour;
      const value = document.createElement("b");
      item.append(line, each.name, value);
      this.legend.append(item);
      return value;
    });
    this.svg = element("svg", { role: "img", tabindex: "0" });
    this.back = element("g", {}, this.svg);
    this.lines = this.series.map((each) => ({
      area: element("path", { class: `area ${each.colour}` }, this.svg),
      line: element("path", { class: each.colour }, this.svg),
    }));
    this.cross = element("line", { class: "cross", y1: TOP, y2: HEIGHT - BOTTOM }, this.svg);
    this.read = document.createElement("p");
    this.read.className = "sr";
    this.read.setAttribute("role", "status");
    this.figure.append(this.legend, this.svg, this.read);
    this.svg.addEventListener("pointermove", (event) => this.point(event.offsetX));
    this.svg.addEventListener("pointerleave", () => this.leave());
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  draw() {
    this.width = this.svg.clientWidth || this.figure.clientWidth;
    if (!this.width) return;
    this.svg.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.back.replaceChildren();
    this.points = this.series.map(() => []);
    const first = this.samples[0]?.[AT] ?? Date.now() / 1000 - 60;
    const last = Math.max(this.samples.at(-1)?.[AT] ?? 0, first + 10);
    this.from = first;
    this.to = last;
    const step = SPANS.find((s) => s >= (last - first) / (this.width / 4)) ?? 172800;
    this.points = this.series.map((each) => each.points(this.samples, step));
    this.tops = { left: this.top("left"), right: this.top("right") };
    this.grid();
    this.marks();
    this.series.forEach((each, i) => this.line(each, i));
    this.tell();
    const said = this.series.map((each, i) => `${each.name} ${each.write(this.last(i))}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.title}, ${clock(new Date(first * 1000))} to ${clock(new Date(last * 1000))}: now ${said}. Arrow keys read it.`);
  }

  top(axis) {
    const values = this.series.flatMap((each, i) => ((each.axis ?? "left") === axis ? this.points[i].map((p) => p[1] ?? 0) : []));
    return ceiling(values.reduce((a, b) => Math.max(a, b), 0), this.least[axis] ?? 1);
  }

  x(at) {
    return ((at - this.from) / (this.to - this.from)) * this.width;
  }

  y(value, axis) {
    return HEIGHT - BOTTOM - (value / this.tops[axis]) * (HEIGHT - TOP - BOTTOM);
  }

  grid() {
    const right = this.series.find((each) => each.axis === "right");
    for (const share of [0, 0.5, 1]) {
      const y = Math.round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)) + 0.5;
      element("line", { class: "grid", x1: 0, x2: this.width, y1: y, y2: y }, this.back);
      if (!share) continue;
      element("text", { x: 0, y: y - 4 }, this.back).textContent = this.series[0].tick(share * this.tops.left);
      if (right) element("text", { x: this.width, y: y - 4, "text-anchor": "end" }, this.back).textContent = right.tick(share * this.tops.right);
    }
    const long = this.to - this.from > 86400;
    [[this.from, "start", 0], [(this.from + this.to) / 2, "middle", this.width / 2], [this.to, "end", this.width]].forEach(([at, anchor, x]) => {
      const date = new Date(at * 1000);
      const day = long ? `${date.toLocaleDateString("en-GB", { day: "numeric", month: "short" })} ` : "";
      element("text", { x, y: HEIGHT - 5, "text-anchor": anchor }, this.back).textContent = day + clock(date, { seconds: !long });
    });
  }

  // A line where each phase begins, with its name where that has room.
  marks() {
    const begins = this.samples.filter((s, i) => i > 0 && s[PHASE] !== this.samples[i - 1][PHASE]);
    begins.forEach((sample, i) => {
      const x = this.x(sample[AT]);
      const until = begins[i + 1] ? this.x(begins[i + 1][AT]) : this.width;
      element("line", { class: "phase-mark", x1: x, x2: x, y1: 2, y2: HEIGHT - BOTTOM }, this.back);
      const fits = until - x > sample[PHASE].length * LETTER + 8;
      if (fits) element("text", { x: x + 5, y: 10 }, this.back).textContent = sample[PHASE];
    });
  }

  line(each, i) {
    const axis = each.axis ?? "left";
    let path = "";
    let area = "";
    let open = null;
    for (const [at, value] of [...this.points[i], [0, null]]) {
      if (value == null) {
        if (open != null) area += `V${HEIGHT - BOTTOM}H${open}Z`;
        open = null;
        continue;
      }
      const x = this.x(at).toFixed(1);
      const step = `${open == null ? "M" : "L"}${x} ${this.y(value, axis).toFixed(1)}`;
      path += step;
      area += step;
      open ??= x;
    }
    this.lines[i].line.setAttribute("d", path);
    this.lines[i].area.setAttribute("d", each.filled ? area : "");
  }

  last(i) {
    return this.points[i].at(-1)?.[1] ?? null;
  }

  tell() {
    const times = this.points[0] ?? [];
    const found = this.at == null ? -1 : times.findIndex((p) => p[0] >= this.at);
    const index = found < 0 ? times.length - 1 : found;
    this.series.forEach((each, i) => {
      this.values[i].textContent = each.write(this.points[i][index]?.[1] ?? null);
    });
    this.cross.classList.toggle("is-on", this.at != null);
    if (this.at == null || !times.length) return;
    const x = this.x(times[index][0]);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
  }

  point(x) {
    this.at = this.from + (x / this.width) * (this.to - this.from);
    this.tell();
  }

  leave() {
    this.at = null;
    this.tell();
  }

  key(event) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const times = (this.points[0] ?? []).map((p) => p[0]);
    if (!move || !times.length) return;
    event.preventDefault();
    const found = this.at == null ? times.length - 1 : times.findIndex((t) => t >= this.at);
    this.at = times[Math.min(times.length - 1, Math.max(0, found + move))];
    this.tell();
    const said = this.series.map((each, i) => `${each.name} ${this.values[i].textContent}`).join(", ");
    this.read.textContent = `${clock(new Date(this.at * 1000))}: ${said}`;
  }
}
