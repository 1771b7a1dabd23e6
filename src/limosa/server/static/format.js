// Figures as people read them, in the same form as on the command line.

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export const count = (number) => (number == null ? "–" : whole.format(number));

export function size(number) {
  if (number == null) return "–";
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (number < 1000) return unit === "B" ? `${number.toFixed(0)} B` : `${number.toFixed(1)} ${unit}`;
    number /= 1000;
  }
  return `${number.toFixed(1)} TB`;
}

export function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const all = Math.round(seconds);
  const two = (n) => String(n).padStart(2, "0");
  return `${Math.floor(all / 3600)}:${two(Math.floor((all % 3600) / 60))}:${two(all % 60)}`;
}

// 100 only when nothing is left to do.
export const percent = (fraction) => `${Math.floor(Math.min(1, Math.max(0, fraction)) * 100)} %`;

export function left(seconds) {
  if (seconds == null) return "";
  if (seconds < 10) return "a few seconds left";
  if (seconds < 90) return `about ${Math.round(seconds / 10) * 10} s left`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min left`;
  if (seconds < 172800) return `about ${Math.round(seconds / 3600)} h left`;
  return `about ${Math.round(seconds / 86400)} days left`;
}

export const short = (number) => {
  const bounds = [[1e9, "G"], [1e6, "M"], [1e3, "k"]];
  for (const [bound, unit] of bounds) {
    if (number >= bound) return `${+(number / bound).toPrecision(3)}${unit}`;
  }
  return String(+number.toPrecision(2));
};

export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export function clock(date, { seconds = true } = {}) {
  return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined });
}

export function moment(text) {
  if (!text) return "–";
  const date = new Date(text);
  const day = date.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
  return `${day}, ${clock(date, { seconds: false })}`;
}
