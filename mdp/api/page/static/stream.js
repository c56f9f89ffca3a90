// News as they happen: over a WebSocket, or as server-sent events where no WebSocket comes through. It reconnects with
// growing pauses, asks only for what changed since, and asks for the whole when a number is missing.

/**
 * @typedef {"connecting" | "live" | "fallback" | "reconnecting"} StreamState
 * @typedef {(message: any) => void} OnMessage
 * @typedef {(state: StreamState, detail: string) => void} OnState
 */

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;

/** So many attempts at a WebSocket fail before events are tried instead. */
const PATIENCE = 3;

/** After so many silent heartbeats a connection counts as lost. */
const MISSED = 2.5;

const EVENTS = ["snapshot", "candle", "stale", "fresh", "heartbeat", "closing", "error-message", "feed"];

/** One connection, kept alive. */
export class Stream {
  /** @param {OnMessage} onMessage @param {OnState} onState */
  constructor(onMessage, onState) {
    this.onMessage = onMessage;
    this.onState = onState;
    /** @type {string[]} */
    this.topics = [];
    /** @type {Map<string, number>} the last number of each topic */
    this.seen = new Map();
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {EventSource | null} */
    this.events = null;
    this.failures = 0;
    this.heartbeat_s = 15;
    this.timer = 0;
    this.watch = 0;
  }

  /** Follow these topics, and no others. @param {string[]} topics */
  follow(topics) {
    const gone = this.topics.filter((topic) => !topics.includes(topic));
    const added = topics.filter((topic) => !this.topics.includes(topic));
    this.topics = topics;
    for (const topic of [...gone, ...added]) this.seen.delete(topic);
    if (this.events) {
      this.#listen();
    } else if (this.socket?.readyState === WebSocket.OPEN) {
      if (gone.length) this.#say({ op: "unsubscribe", topics: gone });
      if (added.length) this.#say({ op: "subscribe", topics: added });
    } else if (!this.socket && !this.timer) {
      this.#open();
    }
  }

  /** Ask for the whole of a topic again. @param {string} topic */
  again(topic) {
    this.seen.delete(topic);
    if (this.socket?.readyState !== WebSocket.OPEN) return;
    this.#say({ op: "unsubscribe", topics: [topic] });
    this.#say({ op: "subscribe", topics: [topic] });
  }

  /** Try now rather than when the pause is over. */
  hurry() {
    if (!this.timer) return;
    clearTimeout(this.timer);
    this.timer = 0;
    this.#open();
  }

  #open() {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/api/v1/stream`);
    this.socket = socket;
    socket.onopen = () => {
      this.#alive();
      this.#subscribe();
    };
    // Open is not enough: what stands between may accept a connection and let nothing through.
    socket.onmessage = (event) => {
      this.failures = 0;
      this.onState("live", "");
      this.#hear(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.#lost(event.reason);
    };
  }

  #subscribe() {
    if (!this.topics.length) return;
    const since = Object.fromEntries([...this.seen].filter(([topic]) => this.topics.includes(topic)));
    this.#say({ op: "subscribe", topics: this.topics, ...(Object.keys(since).length ? { since } : {}) });
  }

  #say(message) {
    this.socket?.send(JSON.stringify(message));
  }

  #hear(text) {
    this.#alive();
    const message = JSON.parse(text);
    if (message.heartbeat_s) this.heartbeat_s = message.heartbeat_s;
    if (this.#isWhole(message)) this.onMessage(message);
  }

  /** Whether nothing was lost before a message; otherwise the topic is asked for again. */
  #isWhole(message) {
    const { topic, type, seq } = message;
    if (!topic || typeof seq !== "number") return true;
    if (!this.topics.includes(topic)) return false;
    const before = this.seen.get(topic);
    if (type === "candle" && before !== undefined && seq !== before + 1 + (message.skipped ?? 0)) {
      this.again(topic);
      return false;
    }
    this.seen.set(topic, seq);
    return true;
  }

  #alive() {
    clearTimeout(this.watch);
    this.watch = setTimeout(() => this.#silent(), this.heartbeat_s * MISSED * 1000);
  }

  #silent() {
    const { socket, events } = this;
    this.socket = this.events = null;
    socket?.close();
    events?.close();
    this.#lost("nothing was heard");
  }

  #lost(reason) {
    clearTimeout(this.watch);
    this.socket = this.events = null;
    this.failures += 1;
    if (this.failures % (PATIENCE + 1) === PATIENCE) {
      this.#listen();
      return;
    }
    const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(this.failures - 1, 8));
    const pause = longest * (0.5 + Math.random() / 2);
    this.onState("reconnecting", reason);
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.#open();
    }, pause);
  }

  /** Server-sent events. The browser reconnects by itself; when it gives up, a WebSocket is tried again. */
  #listen() {
    this.events?.close();
    if (!this.topics.length) return; // what comes next follows some, and this is called again
    const query = new URLSearchParams(this.topics.map((topic) => ["topic", topic]));
    const events = new EventSource(`/api/v1/stream/events?${query}`);
    this.events = events;
    events.onopen = () => {
      this.#alive();
      this.onState("fallback", "");
    };
    events.onerror = () => {
      if (this.events !== events) return;
      events.close();
      this.#lost("");
    };
    for (const name of ["message", ...EVENTS]) {
      events.addEventListener(name, (event) => {
        if (this.events === events) this.#hear(/** @type {MessageEvent} */ (event).data);
      });
    }
  }
}
