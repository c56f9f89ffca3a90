// Asking for a key where the service wants one. The key goes to the service once, and comes back as a cookie.

import { beginSession, whenKeyNeeded } from "./api.js";
import { part } from "./dom.js";

/** @param {() => void} onAccepted */
export function watchForKeys(onAccepted) {
  /** @type {HTMLDialogElement} */
  const dialog = part("key-dialog");
  const [input, problem] = [part("key"), part("key-problem")];
  whenKeyNeeded(() => { if (!dialog.open) dialog.showModal(); });
  part("key-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.textContent = "";
    try {
      await beginSession(input.value.trim());
      input.value = "";
      dialog.close();
      onAccepted();
    } catch (error) {
      problem.textContent = error.message;
      input.select();
    }
  });
}
