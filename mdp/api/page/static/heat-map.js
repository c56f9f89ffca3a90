// The coverage as a map on a canvas: a cell for each market and day, walked by pointer and by arrow keys alike.

import { bandsOf, LEAST_BAND, saidOf } from "./coverage.js";
import { fill, make, part } from "./dom.js";
import { percent } from "./format.js";
import { colour, whenThemeChanges } from "./theme.js";

const ROW = 22;
const CELL = 18;
const TOP = 20;
const NARROWEST = 5;
const WIDEST = 30;

/** @typedef {import("./coverage.js").CoverageMap} CoverageMap */

export class HeatMap {
  /** @param {(market: string, day: string, unit: string) => void} onOpened */
  constructor(onOpened) {
    this.onOpened = onOpened;
    /** @type {HTMLCanvasElement} */
    this.canvas = part("map");
    this.scroll = part("map-scroll");
    /** @type {CoverageMap | null} */
    this.map = null;
    this.row = 0;
    this.column = 0;
    this.step = 10;
    this.canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.canvas.addEventListener("click", (event) => {
      this.#point(event);
      this.#opened();
    });
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("focus", () => this.draw());
    this.canvas.addEventListener("blur", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.scroll);
    whenThemeChanges(() => this.draw());
  }

  /** @param {CoverageMap} map */
  show(map) {
    this.map = map;
    this.row = Math.min(this.row, map.markets.length - 1);
    this.column = map.days.length - 1;
    fill(part("map-names"), ...map.markets.map((market) => make("div", {}, market)));
    fill(part("map-shares"), ...map.markets.map((market) => make("div", {}, this.#share(market))));
    this.draw();
    this.scroll.scrollLeft = this.scroll.scrollWidth;
    part("map-said").textContent = "";
  }

  #share(market) {
    const cells = this.map.days.map((day) => this.map.cells.get(`${market} ${day}`)).filter(Boolean);
    const sum = (name) => cells.reduce((total, cell) => total + cell[name], 0);
    return cells.length ? percent(sum("present"), sum("expected")) : "–";
  }

  draw() {
    const { map, canvas } = this;
    if (!map || !map.days.length) return;
    const wide = this.scroll.clientWidth - 4;
    this.step = Math.max(NARROWEST, Math.min(WIDEST, Math.floor(wide / map.days.length)));
    const [width, height] = [this.step * map.days.length + 4, TOP + ROW * map.markets.length + 2];
    const ratio = devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.clearRect(0, 0, width, height);
    this.#labels(pen);
    map.markets.forEach((market, row) => map.days.forEach((day, column) =>
      this.#cell(pen, map.cells.get(`${market} ${day}`), row, column)));
    if (document.activeElement === canvas) this.#cursor(pen);
  }

  #labels(pen) {
    pen.fillStyle = colour("--quiet");
    pen.font = "11px system-ui, sans-serif";
    let free = -1;
    this.map.days.forEach((day, column) => {
      const left = column * this.step + 2;
      if ((column && !day.endsWith("-01")) || left < free) return;
      const name = new Date(`${day}T00:00Z`).toLocaleString("en-GB", { month: "short", timeZone: "UTC" });
      const label = column === 0 || day.slice(5, 7) === "01" ? `${name} ${day.slice(0, 4)}` : name;
      pen.fillText(label, left, 13);
      free = left + pen.measureText(label).width + 10;
    });
  }

  #cell(pen, cell, row, column) {
    const width = this.step - (this.step >= 4 ? 1 : 0);
    const left = column * this.step + 2;
    let top = TOP + row * ROW + 2;
    for (const band of bandsOf(cell, CELL)) {
      const isPaper = band.colour === "#ffffff";
      pen.fillStyle = isPaper ? colour("--card") : band.colour;
      pen.fillRect(left, top, width, band.height);
      if (isPaper && band.height > LEAST_BAND) {
        pen.strokeStyle = colour("--line");
        pen.strokeRect(left + 0.5, top + 0.5, width - 1, band.height - 1);
      }
      top += band.height;
    }
  }

  #cursor(pen) {
    pen.strokeStyle = colour("--ink");
    pen.lineWidth = 2;
    pen.strokeRect(this.column * this.step + 1, TOP + this.row * ROW + 1, this.step + 1, CELL + 2);
  }

  #point(event) {
    if (!this.map) return;
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - TOP) / ROW);
    const column = Math.floor((event.clientX - box.left - 2) / this.step);
    if (row < 0 || row >= this.map.markets.length || column < 0 || column >= this.map.days.length) return;
    this.row = row;
    this.column = column;
    this.#say();
  }

  #key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -1e6],
      End: [0, 1e6], PageUp: [0, -30], PageDown: [0, 30] };
    const move = moves[event.key];
    if (!this.map || (!move && event.key !== "Enter" && event.key !== " ")) return;
    event.preventDefault();
    event.stopPropagation();
    if (!move) {
      this.#opened();
      return;
    }
    this.row = Math.max(0, Math.min(this.map.markets.length - 1, this.row + move[0]));
    this.column = Math.max(0, Math.min(this.map.days.length - 1, this.column + move[1]));
    const left = this.column * this.step;
    if (left < this.scroll.scrollLeft || left + this.step > this.scroll.scrollLeft + this.scroll.clientWidth) {
      this.scroll.scrollLeft = left - this.scroll.clientWidth / 2;
    }
    this.draw();
    this.#say();
  }

  #say() {
    const [market, day] = [this.map.markets[this.row], this.map.days[this.column]];
    part("map-said").textContent = saidOf(market, day, this.map.cells.get(`${market} ${day}`), this.map.unit);
  }

  #opened() {
    if (this.map) this.onOpened(this.map.markets[this.row], this.map.days[this.column], this.map.unit);
  }
}
