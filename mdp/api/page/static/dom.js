// Making elements. Text goes in as text nodes alone, so that nothing that is shown can become markup.

/**
 * @param {string} name
 * @param {Object<string, string | number | boolean | null | undefined | EventListener>} [attributes] `class`, `onclick`, …;
 *   null, undefined and false are left out.
 * @param {...(Node | string | number | null | undefined)} children
 * @returns {HTMLElement}
 */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) =>
    typeof child === "number" ? String(child) : child));
  return element;
}

/** @param {string} id @returns {any} the element, which the document must hold */
export function part(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** Put children in place of those an element has. @param {Element} element @param {...any} children */
export function fill(element, ...children) {
  element.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

const SVG = "http://www.w3.org/2000/svg";

/** A bar of a share. @param {number} share 0 to 1 @param {string} label @returns {HTMLElement} */
export function gauge(share, label) {
  const width = Math.max(0, Math.min(1, share)) * 100;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const bar = document.createElementNS(SVG, "rect");
  bar.setAttribute("width", String(width));
  bar.setAttribute("height", "8");
  svg.append(bar);
  const attributes = { class: share >= 0.9 ? "gauge full" : "gauge", role: "meter", "aria-label": label,
    "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(width) };
  return make("div", attributes, svg);
}

/**
 * A table.
 * @param {Array<{name: string, isNumber?: boolean, isOptional?: boolean}>} columns
 * @param {Array<{cells: any[], class?: string}>} rows
 * @param {string} label
 */
export function table(columns, rows, label) {
  const style = (column) => [column.isNumber && "number", column.isOptional && "optional"].filter(Boolean).join(" ");
  const head = make("tr", {}, ...columns.map((column) => make("th", { scope: "col", class: style(column) }, column.name)));
  const body = rows.map((row) => make("tr", { class: row.class }, ...row.cells.map((cell, number) =>
    make("td", { class: style(columns[number]) }, cell ?? ""))));
  return make("div", { class: "scroll" },
    make("table", { "aria-label": label }, make("thead", {}, head), make("tbody", {}, ...body)));
}
