// Light or dark: as the system prefers, until somebody chooses; the choice is kept in this browser.

const KEPT = "mdp-theme";
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/** @returns {"light" | "dark"} */
export function theme() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "light" || chosen === "dark") return chosen;
  return prefersDark.matches ? "dark" : "light";
}

/** Switch to the other one. */
export function switchTheme() {
  const next = theme() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(KEPT, next);
  } catch { /* a browser that keeps nothing still shows it */ }
  dispatchEvent(new Event("themechange"));
}

/** @param {() => void} listener told after each change */
export function whenThemeChanges(listener) {
  addEventListener("themechange", listener);
  prefersDark.addEventListener("change", listener);
}

/** @param {string} name such as `--ink` @returns {string} the colour it has now */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function restore() {
  try {
    const kept = localStorage.getItem(KEPT);
    if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
  } catch { /* as the system prefers */ }
  document.getElementById("theme")?.addEventListener("click", switchTheme);
}

restore();
