// How much of each exchange's quota is used now, who waits, and what must be left alone.

import { fill, gauge, make, part } from "./dom.js";
import { amount, count, duration } from "./format.js";

/** @param {any} report document of `/api/v1/budgets` */
export function showBudgets(report) {
  part("budgets-note").textContent = report.is_running ? "share of our own used now" : "";
  if (!report.is_running) {
    const why = report.problem ? `The bus does not answer: ${report.problem}` : "Nobody is asking an exchange.";
    fill(part("budgets"), make("p", { class: "empty" }, why));
    return;
  }
  const shown = report.exchanges.flatMap(ofExchange);
  fill(part("budgets"), ...(shown.length ? shown
    : [make("p", { class: "empty" }, "Nobody has asked an exchange yet.")]));
}

function ofExchange(use) {
  const name = use.host ? `${use.exchange} (${use.host})` : use.exchange;
  const waiting = use.processes.reduce((sum, process) => sum + (process.waiting ?? 0), 0);
  const cooling = use.cool_down_s > 0 ? make("p", { class: "problem" },
    `${name} is left alone for ${duration(use.cool_down_s)}: ${use.reason}`) : null;
  return [cooling, ...use.quotas.map((quota) => ofQuota(name, quota, use, waiting))];
}

function ofQuota(name, quota, use, waiting) {
  const share = quota.share ? quota.used_by_env / quota.share : 0;
  const said = `${amount(quota.used_by_env)} of ${amount(quota.share)} in ${duration(quota.window_s)}`;
  const asked = `${count(use.requests)} asked${waiting ? `, ${count(waiting)} wait` : ""}`;
  return make("div", { class: "budget" },
    make("div", { class: "line" }, make("b", {}, `${name} · ${quota.quota}`), make("span", {}, said)),
    gauge(share, `${name} ${quota.quota}: ${said}`),
    make("div", { class: "line quiet" }, make("span", {}, quota.env), make("span", {}, asked)));
}
