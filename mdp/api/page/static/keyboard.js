// Keys that work anywhere on the page, unless something that has its own use for them is in focus.

import { part } from "./dom.js";
import { TIMEFRAMES } from "./format.js";
import { switchTheme } from "./theme.js";

const OWN_KEYS = new Set(["INPUT", "SELECT", "TEXTAREA"]);

/**
 * @param {{market: (by: number) => void, timeframe: (name: string) => void, scroll: (slots: number) => void,
 *   zoom: (factor: number) => void, newest: () => void, close: () => boolean}} actions
 */
export function watchKeys(actions) {
  const help = part("help-dialog");
  const showHelp = () => { if (!help.open) help.showModal(); };
  part("help").addEventListener("click", showHelp);
  /** @type {Object<string, () => void>} */
  const keys = {
    ArrowUp: () => actions.market(-1), ArrowDown: () => actions.market(1),
    ArrowLeft: () => actions.scroll(-12), ArrowRight: () => actions.scroll(12),
    "+": () => actions.zoom(1.25), "=": () => actions.zoom(1.25), "-": () => actions.zoom(0.8),
    End: actions.newest, t: switchTheme, c: () => part("map").focus(), "?": showHelp, Escape: actions.close,
    ...Object.fromEntries(TIMEFRAMES.map((name, number) => [String(number + 1), () => actions.timeframe(name)])),
  };
  addEventListener("keydown", (event) => {
    const element = /** @type {HTMLElement} */ (event.target);
    const isTaken = event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || OWN_KEYS.has(element.tagName)
      || document.querySelector("dialog[open]") || (element.getAttribute("role") === "radio" && event.key.startsWith("Arrow"));
    const action = keys[event.key];
    if (isTaken || !action) return;
    event.preventDefault();
    action();
  });
}
