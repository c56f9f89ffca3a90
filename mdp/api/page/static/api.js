// Asking the API. What it refuses is thrown as a `Refusal` that says why, in the API's own words.

/** An answer that is none. */
export class Refusal extends Error {
  /** @param {number} status 0: nobody answered @param {string} detail @param {boolean} isRetryable */
  constructor(status, detail, isRetryable) {
    super(detail);
    this.status = status;
    this.isRetryable = isRetryable;
  }
}

/** Told once each time a key is asked for. @type {(() => void)[]} */
const onKeyNeeded = [];

/** @param {() => void} listener */
export const whenKeyNeeded = (listener) => { onKeyNeeded.push(listener); };

/**
 * @param {string} path with its leading slash
 * @param {Object<string, string | number | null | undefined>} [query] null and undefined are left out
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>} the document
 * @throws {Refusal}
 */
export async function ask(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return send(search ? `${path}?${search}` : path, { signal, headers: { accept: "application/json" } });
}

/**
 * Begin a session: the browser keeps the key as a cookie that no script can read.
 * @param {string} key
 */
export const beginSession = (key) => send("/api/v1/session", {
  method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ key }),
}, false);

/** @param {string} address @param {RequestInit} options @param {boolean} [tells] whether a missing key is told of */
async function send(address, options, tells = true) {
  let answer;
  try {
    answer = await fetch(address, { credentials: "same-origin", cache: "no-cache", ...options });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Refusal(0, "the service does not answer", true);
  }
  const text = await answer.text();
  if (answer.ok) return text ? JSON.parse(text) : null;
  if (answer.status === 401 && tells) onKeyNeeded.forEach((listener) => listener());
  throw refusal(answer.status, text);
}

/** @param {number} status @param {string} text of a problem document, or of anything */
function refusal(status, text) {
  try {
    const problem = JSON.parse(text);
    return new Refusal(status, String(problem.detail ?? problem.title ?? status), Boolean(problem.retryable));
  } catch {
    return new Refusal(status, `the service answered ${status}`, status >= 500);
  }
}

/** Rows as objects by the names of the columns. @param {{columns: string[], rows: any[][]}} document */
export const records = ({ columns, rows }) =>
  rows.map((row) => Object.fromEntries(columns.map((name, number) => [name, row[number]])));
