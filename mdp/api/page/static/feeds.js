// How the feeds are: each market's state and how late it is, what waits to be stored. What is wrong is said loudly.

import { alarm } from "./alarms.js";
import { fill, make, part, table } from "./dom.js";
import { count, duration, isoTime, shownText } from "./format.js";

const COLUMNS = [{ name: "market" }, { name: "state" }, { name: "newest (UTC)" }, { name: "behind", isNumber: true },
  { name: "close lag", isNumber: true, isOptional: true }, { name: "reconnects", isNumber: true, isOptional: true },
  { name: "corrected", isNumber: true, isOptional: true }];

/** @param {any} live document of `/api/v1/live` @param {string} mode */
export function showFeeds(live, mode) {
  if (mode !== "live") {
    alarm("feeds", null);
    part("feeds-note").textContent = "";
    fill(part("feeds"), make("p", { class: "empty" }, "Mode ", make("code", {}, mode),
      ": stored data only, no feed runs. ", make("code", {}, "MDP_MODE=live"), " and ", make("code", {}, "mdp up"),
      " start them."));
    return;
  }
  const running = live.feeds.filter((feed) => feed.health);
  const late = live.markets.filter((market) => market.late);
  part("feeds-note").textContent = note(live, running);
  if (!running.length) {
    alarm("feeds", null);
    fill(part("feeds"), noFeeds(live));
    return;
  }
  alarm("feeds", late.length ? `${late.length} of ${live.markets.length} markets are late: ${
    late.slice(0, 4).map((one) => `${one.market} (${one.problem})`).join(", ")}${late.length > 4 ? ", …" : ""}` : null);
  const told = new Map(running.flatMap((feed) => feed.health.markets.map((market) => [market.market, market])));
  const rows = live.markets.map((market) => row(market, told.get(market.market)));
  const others = live.problems.filter((problem) => !late.some((one) => problem.startsWith(`${one.market}:`)));
  fill(part("feeds"), table(COLUMNS, rows, "Feeds"), ...others.map((text) => make("p", { class: "problem" }, text)));
}

function row(market, health) {
  const lag = health?.closed_lag_ms;
  const newest = health?.newest_us ? shownText(isoTime(Math.floor(health.newest_us / 1e6))).slice(11, 16) : "–";
  return { class: market.late ? "late" : null, cells: [
    market.market, market.late ? market.problem : health?.state, newest,
    market.behind_s === null ? "–" : duration(market.behind_s), lag === null || lag === undefined ? "–" : `${count(Math.max(0, lag))} ms`,
    health ? count(health.reconnects) : "–", health ? count(health.corrections) : "–",
  ] };
}

function note(live, running) {
  const backlog = live.backlog?.entries ?? 0;
  const run = live.live_run ? "stored by a live run" : "no live run stores them";
  return `${running.length} of ${live.feeds.length} run; ${count(backlog)} minutes wait, ${run}`;
}

function noFeeds(live) {
  const exchanges = live.feeds.map((feed) => feed.exchange);
  return make("p", { class: "empty" }, "No feed runs, so nothing is live. ", make("code", {}, "mdp up"),
    " starts all of them", ...exchanges.slice(0, 1).map((name) =>
      make("span", {}, "; ", make("code", {}, `mdp feed ${name}`), " one alone")), ".");
}
