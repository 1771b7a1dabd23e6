// What asks before it is done.

import { count, duration } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Dialogs {
  constructor({ act, status }) {
    this.act = act;
    this.status = status;
    this.confirm("start", "s-refused", launch);
    this.confirm("commit", "d-refused");
    this.confirm("reverse", "r-refused");
    this.confirm("throttle", "t-refused", limits);
    for (const verb of ["start", "throttle"]) {
      $(`${verb}-cancel`).addEventListener("click", () => $(`${verb}-dialog`).close());
    }
    $("unlock").addEventListener("click", () => $("token-dialog").showModal());
  }

  open(verb) {
    for (const line of $(`${verb}-dialog`).querySelectorAll(".refused")) line.hidden = true;
    if (verb === "start") ways(this.status()?.clusters ?? []);
    if (verb === "throttle") fill(this.status()?.limits ?? {});
    this.refresh(this.status());
    $(`${verb}-dialog`).showModal();
    if (verb === "throttle") $("throttle-form").querySelector(":checked").focus();
  }

  confirm(verb, refused, body = () => ({})) {
    $(`${verb}-confirm`).addEventListener("click", async (event) => {
      event.preventDefault(); // the dialog closes when it is done
      const button = $(`${verb}-confirm`);
      button.disabled = true;
      try {
        await this.act(verb, body());
        $(`${verb}-dialog`).close();
      } catch (error) {
        $(refused).textContent = error.message;
        $(refused).hidden = false;
      } finally {
        button.disabled = false;
      }
    });
  }

  // While the dialog is open its figures go on.
  refresh(status) {
    if (!status) return;
    $("d-waiting").textContent = count(status.progress.changesWaiting);
    $("d-lag").textContent = duration(status.lagTimeSeconds);
    $("d-target").textContent = status.target || "the target";
    $("d-verify").hidden = !status.verification.isEnabled;
    const { mismatches } = status.verification;
    const lag = status.lagTimeSeconds ?? 0;
    const warnings = [];
    if (!status.verification.isEnabled) warnings.push("Nothing was compared: this migration runs without verification.");
    if (mismatches) warnings.push(`${count(mismatches)} documents differ. The commit will be refused unless they agree by then.`);
    if (lag > 10) warnings.push(`The target is ${duration(lag)} behind: that is about how long the application has to wait.`);
    $("d-warning").textContent = warnings.join(" ");
    $("d-warning").hidden = !warnings.length;
    const { enabled, reason } = status.controls.commit;
    if ($("commit-dialog").open && status.state === "RUNNING") {
      $("commit-confirm").disabled = !enabled;
      $("commit-confirm").title = reason;
    }
  }

  askToken(why) {
    $("token-refused").textContent = why;
    $("token-refused").hidden = !why;
    $("token").value = "";
    if (!$("token-dialog").open) $("token-dialog").showModal();
    return new Promise((done) => {
      $("token-form").addEventListener("submit", (event) => {
        event.preventDefault();
        $("token-dialog").close();
        done($("token").value.trim());
      }, { once: true });
    });
  }
}

function ways([one, two]) {
  $("way-0").textContent = `${one} → ${two}`;
  $("way-1").textContent = `${two} → ${one}`;
}

// In the words of the start call of mongosync.
function launch() {
  const { source, include, reversible } = $("start-form").elements;
  const wanted = include.value.split(",").map((name) => name.trim()).filter(Boolean);
  const entries = wanted.map((name) => {
    const [database, ...collection] = name.split(".");
    return collection.length ? { database, collections: [collection.join(".")] } : { database };
  });
  return {
    source: source.value,
    destination: source.value === "cluster0" ? "cluster1" : "cluster0",
    ...(entries.length ? { includeNamespaces: entries } : {}),
    ...(reversible.checked ? { reversible: true } : {}),
  };
}

function fill(limits) {
  const form = $("throttle-form");
  form.elements.loadLevel.value = String(limits.loadLevel ?? 3);
  form.elements.documentsPerSecond.value = limits.documentsPerSecond ?? "";
  form.elements.megabytesPerSecond.value = limits.megabytesPerSecond ?? "";
}

function limits() {
  const { loadLevel, documentsPerSecond, megabytesPerSecond } = $("throttle-form").elements;
  const number = (field) => (field.value === "" ? null : Number(field.value));
  return {
    loadLevel: Number(loadLevel.value),
    documentsPerSecond: number(documentsPerSecond),
    megabytesPerSecond: number(megabytesPerSecond),
  };
}
