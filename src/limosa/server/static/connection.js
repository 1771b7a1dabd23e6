// The way to the server: live by server-sent events, by polling where those do not come through,
// and again by itself after it was lost.

const API = "api/limosa/v1/";
const TOKEN = "limosa.token";
const POLL_EVERY = 2000;
const POLL_FOR = 30000; // then events are tried again
const POLL_HIDDEN_EVERY = 10000;
const SILENT_FOR = 10000; // the server says something every second
const GIVE_UP_AFTER = 8000; // on one request

export class Refused extends Error {
  constructor(message, { status, hint }) {
    super(hint ? `${message} – ${hint}` : message);
    this.status = status;
  }
}

// No answer came.
class Lost extends Error {}

export class Connection {
  constructor({ onStatus, onSamples, onEntries, onState, askToken }) {
    Object.assign(this, { onStatus, onSamples, onEntries, onState, askToken });
    this.since = null; // of the last sample, as the server wrote it
    this.after = 0; // the last entry
    this.failures = 0;
  }

  async run() {
    for (;;) {
      try {
        await this.look();
        this.failures = 0;
        // Browsers open six connections to one server: tabs that nobody sees leave theirs.
        if (document.hidden || !(await this.listen())) await this.poll();
      } catch (error) {
        if (error instanceof Refused && error.status === 401) {
          await this.ask(error);
        } else {
          if (!(error instanceof Refused || error instanceof Lost)) console.error(error); // our own fault
          await this.lost();
        }
      }
    }
  }

  async get(path, options = {}) {
    let response;
    try {
      response = await fetch(API + path, {
        ...options,
        headers: { ...this.headers(), ...options.headers },
        cache: "no-store",
        signal: options.signal ?? AbortSignal.timeout(GIVE_UP_AFTER),
      });
    } catch {
      throw new Lost("the server does not answer");
    }
    if (!response.ok) throw await refusal(response);
    return response;
  }

  async json(path, options) {
    return (await this.get(path, options)).json();
  }

  async post(verb, body = {}) {
    const response = await this.get(`actions/${verb}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(30000),
    });
    this.onStatus(await response.json());
  }

  hasToken() {
    return Boolean(sessionStorage.getItem(TOKEN));
  }

  // Whoever drives this may forget all samples and entries, to be given them anew.
  forget() {
    this.since = null;
    this.after = 0;
  }

  headers() {
    const token = sessionStorage.getItem(TOKEN);
    return token ? { Authorization: `Bearer ${token}` } : {};
  }

  async look() {
    const status = await this.json("status");
    this.onStatus(status);
    const [history, log] = await Promise.all([
      this.json(this.since == null ? "history?limit=1500" : `history?since=${this.since}`),
      this.json(this.after ? `entries?after=${this.after}` : "entries"),
    ]);
    this.take("samples", history);
    this.take("entries", log);
  }

  async poll() {
    this.onState("polling");
    const until = Date.now() + POLL_FOR;
    const wasHidden = document.hidden;
    while (Date.now() < until && document.hidden === wasHidden) {
      await Promise.race([pause(wasHidden ? POLL_HIDDEN_EVERY : POLL_EVERY), turn()]);
      await this.look();
    }
  }

  // Return whether events came through; how they ended does not matter.
  async listen() {
    const stop = new AbortController();
    let heard = false;
    let alarm = setTimeout(() => stop.abort(), SILENT_FOR);
    turn().then(() => stop.abort());
    try {
      const path = `events?after=${this.after}${this.since == null ? "" : `&since=${this.since}`}`;
      const response = await this.get(path, { signal: stop.signal });
      if (!response.headers.get("Content-Type")?.startsWith("text/event-stream")) return false;
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return heard;
        clearTimeout(alarm);
        alarm = setTimeout(() => stop.abort(), SILENT_FOR);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        for (const block of blocks) this.hear(block);
        if (blocks.length && !heard) {
          heard = true;
          this.onState("live");
        }
      }
    } catch (error) {
      if (error instanceof Refused && error.status === 401) throw error;
      return heard || document.hidden;
    } finally {
      clearTimeout(alarm);
      stop.abort();
    }
  }

  hear(block) {
    let kind = "";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event:")) kind = line.slice(6).trim();
      if (line.startsWith("data:")) data += line.slice(5);
    }
    if (!data) return; // a sign of life
    const body = JSON.parse(data);
    if (kind === "status") this.onStatus(body);
    else this.take(kind, body);
  }

  take(kind, body) {
    if (kind === "samples") {
      if (body.samples.length) this.since = body.samples.at(-1)[0];
      this.onSamples(body);
    } else if (kind === "entries") {
      if (body.entries.length) this.after = body.entries.at(-1).number;
      this.onEntries(body.entries);
    }
  }

  async lost() {
    this.failures += 1;
    this.onState("lost");
    await pause(Math.min(5000, 500 * 2 ** Math.min(this.failures, 4)));
  }

  async ask(error) {
    this.onState("locked");
    const token = await this.askToken(this.hasToken() ? error.message : "");
    sessionStorage.setItem(TOKEN, token);
  }
}

async function refusal(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // Not from our own code, as a proxy's page: the status says what there is to say.
  }
  const error = told.error?.message ? told.error : { message: told.errorDescription ?? told.error ?? told.detail };
  const message = typeof error.message === "string" ? error.message : `the server answered ${response.status}`;
  return new Refused(message, { status: response.status, hint: error.hint });
}

// The page was hidden or shown.
const turn = () => new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
