// The page: what the server says, put where it belongs.

import { Collections } from "./collections.js";
import { Connection } from "./connection.js";
import { Curve, peaks, rates } from "./curve.js";
import { Dialogs } from "./dialogs.js";
import { clock, count, duration, left, percent, plural, short, size } from "./format.js";
import { Log } from "./log.js";
import { ownRow, past, row } from "./rows.js";
import { Steps } from "./steps.js";

const $ = (id) => document.getElementById(id);

// Samples held; beyond, the server is asked for thinner ones.
const MOST_SAMPLES = 4000;
const COLLECTIONS_EVERY = 3000;
const PAST_EVERY = 30000;

// Of the verbs of a state the one whose refusal a person wants to have explained.
const AWAITED = { IDLE: "start", RUNNING: "commit", FAILED: "resume", COMMITTED: "reverse" };

const COLUMN = { documents: 2, events: 4, applied: 5, compared: 6, waiting: 7, lag: 8 };

let status = null;
let samples = [];
let span = null;

function text(id, value) {
  const node = $(id);
  const written = value || "\u00a0";
  if (node.textContent !== written) node.textContent = written;
}

function show(id, isShown) {
  if ($(id).hidden === isShown) $(id).hidden = !isShown;
}

function say(words) {
  $("said").textContent = words;
}

function complain(words) {
  $("toast-text").textContent = words;
  show("toast", true);
}

// ---- What the status says

function onStatus(body) {
  const before = status;
  if (before && (before.name !== body.name || before.startedAt !== body.startedAt)) startAnew();
  status = body;
  if (before?.headline !== body.headline) {
    say(`${body.headline}. ${body.advice}`);
    if (before) refreshPast();
  }
  head(body);
  ends(body);
  progress(body);
  figures(body);
  verification(body);
  steps.set(body.steps);
  controls(body);
  dialogs.refresh(body);
  ownRow($("past-rows"), body);
  text("updated", `As of ${clock(new Date(body.at))}`);
}

function startAnew() {
  samples = [];
  log.clear();
  connection.forget();
  curves();
}

function head(body) {
  text("name", body.name);
  text("headline", body.headline);
  text("advice", body.advice);
  text("phase", body.state === "IDLE" ? "" : body.phase);
  text("state", body.state);
  $("state").dataset.state = body.state;
  show("failure", Boolean(body.failure));
  if (body.failure) {
    text("failure-message", body.failure.message);
    text("failure-code", body.failure.code);
  }
  const share = body.phase === "collection copy" ? `${percent(body.progress.fractionCopied)} · ` : "";
  document.title = `${share}${body.headline}${body.name ? ` – ${body.name}` : ""}`;
}

function ends(body) {
  text("source", body.source || body.clusters[0] || "–");
  text("target", body.target || body.clusters[1] || "–");
  text("source-note", note("source", body) || (body.canWrite ? "no longer to be written to" : "the application writes here"));
  text("target-note", note("target", body) || (body.canWrite ? "the application may write here" : "not to be written to yet"));
}

function note(side, body) {
  if (body.state === "IDLE" && body.clusters.length) return side === "source" ? "cluster0" : "cluster1";
  const found = body.ends?.[side];
  if (found?.isUnavailable) return "does not answer";
  if (body.blockedWrites.includes(side)) return "writes by others are blocked";
  return "";
}

function progress(body) {
  const { progress: now, collectionCopy: copy, verification: check } = body;
  const isPlanned = Boolean(body.plannedAt);
  bar("copy-bar", "copied-percent", now.fractionCopied, isPlanned);
  // On the way back nothing is copied: all documents are there, and no bytes.
  const bytes = now.copiedBytes ? `, ${size(now.copiedBytes)}` : "";
  const amounts = `${count(now.copiedDocuments)} of about ${count(copy.estimatedDocuments)} documents${bytes}`;
  text("copied-detail", isPlanned ? amounts : "");
  text("copy-eta", body.phase === "collection copy" ? left(now.remainingSeconds) : "");
  bar("verify-bar", "verified-percent", now.fractionVerified, isPlanned && check.isEnabled);
  const compared = isPlanned ? `${count(check.comparedDocuments)} documents compared` : "";
  text("verified-detail", check.isEnabled ? compared : "switched off");
  text("verify-eta", body.phase === "collection copy" ? "" : left(now.remainingSeconds));
}

function bar(id, label, fraction, isKnown) {
  text(label, isKnown ? percent(fraction) : "–");
  $(id).setAttribute("aria-valuenow", Math.floor(fraction * 100));
  $(id).firstElementChild.style.transform = `translateX(${(isKnown ? fraction : 0) * 100 - 100}%)`;
}

function figures(body) {
  const { progress: now, changes, verification: check } = body;
  const isCopying = body.phase === "collection copy";
  const took = body.copiedAt ? (new Date(body.copiedAt) - new Date(body.plannedAt)) / 1000 : null;
  text("f-rate", isCopying ? `${count(now.documentsPerSecond)}/s` : took ? `${count(now.copiedDocuments / took)}/s` : "–");
  text("f-bytes", isCopying ? `${size(now.bytesPerSecond)}/s` : took ? `on average, ${duration(took)}` : "");
  text("f-lag", duration(body.lagTimeSeconds));
  text("f-lag-note", changes.appliedTo && body.lagTimeSeconds != null ? `as of ${clock(new Date(changes.appliedTo))}` : "");
  text("f-waiting", count(now.changesWaiting));
  text("f-applied-rate", body.plannedAt ? `${count(now.eventsCapturedPerSecond)}/s captured` : "");
  text("f-applied", count(body.plannedAt && changes.changesApplied));
  text("f-captured", body.plannedAt ? `${count(now.changesAppliedPerSecond)}/s, of ${count(changes.eventsCaptured)}` : "");
  text("f-mismatches", check.isEnabled && body.plannedAt ? count(check.mismatches) : "–");
  $("f-mismatches").classList.toggle("is-bad", check.mismatches > 0);
  text("f-recheck", check.waitingForRecheck ? `${count(check.waitingForRecheck)} to be rechecked` : "");
  text("f-oplog", body.oplog?.remaining ?? "–");
  $("f-oplog").classList.toggle("is-bad", (body.oplog?.remainingSeconds ?? Infinity) < 900);
  text("f-oplog-note", body.oplog ? "if capture stood still" : body.canWrite ? "" : "not measured yet");
}

function verification(body) {
  const check = body.verification;
  const parts = [];
  if (!check.isEnabled) parts.push("This migration runs without: nothing is compared.");
  else if (!check.comparedDocuments) parts.push("Nothing was compared yet. It begins once the copy is complete.");
  else {
    parts.push(`${plural(check.comparedDocuments, "document")} compared, ${count(check.equalDocuments)} equal.`);
    if (check.recheckedDocuments) parts.push(`${count(check.recheckedDocuments)} were compared again after they changed.`);
    if (check.waitingForRecheck) parts.push(`${count(check.waitingForRecheck)} wait for that.`);
    parts.push(check.mismatches ? `${plural(check.mismatches, "mismatch").replace("mismatchs", "mismatches")}:` : "No mismatch.");
  }
  text("verification-text", parts.join(" "));
  if (check.mismatches !== verification.known) {
    verification.known = check.mismatches;
    mismatches(check.mismatches).catch(() => (verification.known = null)); // asked for again with the next
  }
}

async function mismatches(number) {
  const found = number ? (await connection.json("mismatches")).mismatches : [];
  show("mismatches", found.length > 0);
  $("mismatch-rows").replaceChildren(...found.map((m) => row([m.kind, m.namespace, [JSON.stringify(m.key), "key"]])));
}

function controls({ controls: verbs, state, clusters }) {
  const isOver = state === "COMMITTED";
  show("resume", state === "PAUSED" || state === "FAILED");
  const isIdle = state === "IDLE" && clusters.length > 0; // else another command starts it
  show("start", isIdle);
  show("pause", !(isIdle || state === "PAUSED" || state === "FAILED" || isOver || state === "REVERSING"));
  show("reverse", isOver || state === "REVERSING");
  show("commit", !isOver && !isIdle);
  show("throttle", !isOver && !isIdle);
  for (const [verb, { enabled, reason }] of Object.entries(verbs)) {
    const button = $(verb);
    if (!button) continue;
    const isBusy = button.getAttribute("aria-busy") === "true";
    if (button.disabled !== (!enabled || isBusy)) button.disabled = !enabled || isBusy;
    button.title = enabled ? "" : reason;
  }
  text("why", explained(state, verbs));
}

// A button that cannot be pressed has no title for the keyboard, nor for a finger.
function explained(state, verbs) {
  const verb = AWAITED[state];
  if (!verb || verbs[verb].enabled) return "";
  return `${verb[0].toUpperCase()}${verb.slice(1)}: ${verbs[verb].reason}.`;
}

// ---- History

function onSamples(body) {
  samples.push(...body.samples);
  if (samples.length > MOST_SAMPLES) {
    connection.json("history?limit=1500").then((whole) => { samples = whole.samples; }).catch(() => samples.splice(0, 500));
  }
  curves();
}

function curves() {
  rate.show(samples, span);
  lag.show(samples, span);
}

// ---- Verbs

async function act(verb, body) {
  const button = $(verb);
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    await connection.post(verb, body);
  } finally {
    button.removeAttribute("aria-busy");
    if (status) controls(status);
  }
}

function onClick(verb) {
  act(verb).catch((error) => complain(`${verb}: ${error.message}`));
}

// ---- What is asked for now and then

async function refreshCollections() {
  const began = performance.now();
  try {
    await collections.refresh();
  } catch {
    // The connection tells that it is lost; the figures stay until it is back.
  }
  // Sorting a hundred thousand of them is not for every moment.
  const pause = Math.max(COLLECTIONS_EVERY, 20 * (performance.now() - began));
  setTimeout(refreshCollections, document.hidden ? 4 * pause : pause);
}

async function refreshPast() {
  clearTimeout(refreshPast.next);
  try {
    const { migrations } = await connection.json("migrations");
    show("past", migrations.length > 0);
    $("past-rows").replaceChildren(...migrations.map((each) => past(each, status?.name)));
    if (status) ownRow($("past-rows"), status);
  } catch {
    // As above.
  }
  clearTimeout(refreshPast.next); // two may have been under way
  refreshPast.next = setTimeout(refreshPast, PAST_EVERY);
}

async function exportAll(event) {
  if (!connection.hasToken()) return; // the link does
  event.preventDefault();
  try {
    const blob = await (await connection.get("export", { signal: AbortSignal.timeout(60000) })).blob();
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${status?.name || "limosa"}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  } catch (error) {
    complain(`export: ${error.message}`);
  }
}

// ---- The connection

const STATES = {
  connecting: "connecting",
  live: "live",
  polling: "live, by polling",
  lost: "connection lost, trying again",
  locked: "locked",
};

function onState(state) {
  const link = $("link");
  if (link.dataset.state === state || (link.dataset.state === "ended" && state === "lost")) return;
  if (state === "lost") say("The connection to the server is lost.");
  else if (["lost", "ended"].includes(link.dataset.state)) say("The connection is back.");
  // The server of a migration that is complete ends with it.
  const isOver = state === "lost" && status?.state === "COMMITTED";
  link.dataset.state = isOver ? "ended" : state;
  locked(state === "locked");
  text("link-text", isOver ? "the server has ended" : STATES[state]);
  document.body.classList.toggle("is-stale", state === "lost" && !isOver);
}

// The dialog that asks for a token may be closed; this is the way back to it.
function locked(isLocked) {
  show("unlock", isLocked);
  if (!isLocked || status) return;
  text("headline", "Locked");
  text("advice", "This server asks for a token.");
  for (const verb of ["pause", "throttle", "commit"]) show(verb, false);
}

// ---- Colours

const THEMES = ["", "light", "dark"];

function theme() {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? "") + 1) % THEMES.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  $("theme").setAttribute("aria-label", `Colours: ${next || "as the system"}`);
  try {
    localStorage.setItem("limosa.theme", next);
  } catch {
    // Kept until the page is left.
  }
}

function choose(group, attribute, chosen) {
  for (const button of group.querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset[attribute] === chosen));
  }
}

// ---- All together

const perSecond = (value) => (value == null ? "–" : `${count(value)}/s`);

const rate = new Curve($("chart-rate"), {
  title: "Throughput",
  least: { left: 10 },
  series: [
    { name: "copied", colour: "green", filled: true, points: (s, step) => rates(s, COLUMN.documents, step), write: perSecond, tick: (v) => `${short(v)}/s` },
    { name: "applied", colour: "rust", points: (s, step) => rates(s, COLUMN.applied, step), write: perSecond },
    { name: "compared", colour: "slate", points: (s, step) => rates(s, COLUMN.compared, step), write: perSecond },
  ],
});

const lag = new Curve($("chart-lag"), {
  title: "Lag and changes waiting",
  least: { left: 2, right: 100 },
  series: [
    { name: "lag", colour: "rust", filled: true, points: (s, step) => peaks(s, COLUMN.lag, step), write: duration, tick: (v) => (v < 120 ? `${+v.toPrecision(2)} s` : duration(v)) },
    { name: "waiting", colour: "slate", axis: "right", points: (s, step) => peaks(s, COLUMN.waiting, step), write: count, tick: short },
  ],
});

const collections = new Collections({ rows: $("rows"), table: $("table"), filter: $("filter"), counter: $("collections-count"), empty: $("rows-empty"), load: (path) => connection.json(path, { signal: AbortSignal.timeout(30000) }) });
const steps = new Steps({ section: $("steps"), list: $("step-list") });
const log = new Log({ list: $("entries"), empty: $("entries-empty") });
const dialogs = new Dialogs({ act, status: () => status });
const connection = new Connection({
  onStatus,
  onSamples,
  onEntries: (entries) => log.add(entries),
  onState,
  askToken: (why) => dialogs.askToken(why),
});

$("pause").addEventListener("click", () => onClick("pause"));
$("resume").addEventListener("click", () => onClick("resume"));
$("start").addEventListener("click", () => dialogs.open("start"));
$("commit").addEventListener("click", () => dialogs.open("commit"));
$("reverse").addEventListener("click", () => dialogs.open("reverse"));
$("throttle").addEventListener("click", () => dialogs.open("throttle"));
$("toast-close").addEventListener("click", () => show("toast", false));
$("theme").addEventListener("click", theme);
$("export").addEventListener("click", exportAll);
$("spans").addEventListener("click", ({ target }) => {
  if (target.dataset.span == null) return;
  span = Number(target.dataset.span) || null;
  choose($("spans"), "span", target.dataset.span);
  curves();
});
$("levels").addEventListener("click", ({ target }) => {
  if (!target.dataset.level) return;
  log.only(target.dataset.level);
  choose($("levels"), "level", target.dataset.level);
});

connection.run();
refreshCollections();
refreshPast();
