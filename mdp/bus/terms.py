"""The terms on which one process asks one exchange: quotas, our shares of them, and what a request may cost.

Not here: counting (``local``, ``shared``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mdp.bus.messages import QuotaTerms, Want
from mdp.domain.market import Exchange
from mdp.domain.quota import Priority, Quota, share_of
from mdp.errors import ConfigError, InputError

HORIZON = 0.005
"""Part of a window for which leave is given ahead, so that one call serves several requests."""

LONGEST_HORIZON_S = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """See the module.

    Attributes:
        exchange: Who is asked.
        host: Where, such as ``api.binance.com``: a stand-in at another address counts, and refuses, for itself.
        env: Name of the environment, whose processes share ``rate_share``.
        quotas: All quotas of the exchange.
        rate_share: Share of each quota that the environment may use.
        symbol_shares: Share of that for a symbol; symbols that are not named may use all of it.
        timeout_s: Seconds until a request without an answer has failed.
        priority: Who goes first.
    """

    exchange: Exchange
    host: str
    env: str
    quotas: tuple[Quota, ...]
    rate_share: float
    symbol_shares: Mapping[str, float]
    timeout_s: float
    priority: Priority

    def __post_init__(self) -> None:
        for share in (self.rate_share, *self.symbol_shares.values()):
            if not 0 < share <= 1:
                raise InputError("share", got=share, expected="more than 0 and at most 1")
        if not self.timeout_s > 0:
            raise InputError("timeout_s", got=self.timeout_s, expected="more than 0")

    @property
    def name(self) -> str:
        """Return under which name it is counted at an address: ``binance@api.binance.com``."""
        return f"{self.exchange.value}@{self.host}"

    @property
    def longest_window_s(self) -> float:
        """After so long nothing counts any more, in any quota."""
        return max(quota.window_s for quota in self.quotas)

    @property
    def horizon_s(self) -> float:
        """For how long leave is given ahead."""
        return min(LONGEST_HORIZON_S, HORIZON * min(quota.window_s for quota in self.quotas))

    def quota_terms(self) -> list[QuotaTerms]:
        """Return the quotas as the script reads them."""
        return [
            QuotaTerms(one.name, one.amount, one.window_s, share_of(one.amount, self.rate_share), one.is_calendar)
            for one in self.quotas
        ]

    def number_of(self, quota: str) -> int:
        """Return the place of a quota among the quotas.

        Raises:
            InputError: the exchange has no such quota.
        """
        for number, one in enumerate(self.quotas):
            if one.name == quota:
                return number
        known = ", ".join(one.name for one in self.quotas)
        raise InputError("quota", got=quota, expected=f"one of {known}")

    def want(self, request: str, costs: Mapping[str, float], symbol: str | None) -> Want:
        """Return what a request needs.

        Raises:
            InputError: an unknown quota, an amount below 0, or more than the whole quota.
            ConfigError: our share, or the symbol's, is less than one request costs: it could never be sent.
        """
        has_share = symbol is not None and symbol in self.symbol_shares
        limits = [self._symbol_limit(one, symbol) for one in self.quotas] if has_share else []
        numbered = [(self.number_of(name), float(cost)) for name, cost in costs.items() if cost != 0]
        for number, cost in numbered:
            self._require_possible(self.quotas[number], cost)
            if has_share and cost > limits[number]:
                raise ConfigError(
                    f"{self._setting}__SYMBOL_SHARES",
                    got=dict(self.symbol_shares),
                    expected=f"a share of {symbol} in which one request of {cost:g} {self.quotas[number].name} fits",
                )
        return Want(request, symbol if has_share and symbol else "", numbered, limits)

    @property
    def _setting(self) -> str:
        return f"MDP_EXCHANGES__{self.exchange.name}"

    def _symbol_limit(self, quota: Quota, symbol: str | None) -> float:
        return share_of(quota.amount, self.rate_share, self.symbol_shares[symbol or ""])

    def _require_possible(self, quota: Quota, cost: float) -> None:
        if not 0 <= cost <= quota.amount:
            raise InputError(f"costs[{quota.name!r}]", got=cost, expected=f"an amount between 0 and {quota.amount:g}")
        if cost > share_of(quota.amount, self.rate_share):
            raise ConfigError(
                f"{self._setting}__RATE_SHARE",
                got=self.rate_share,
                expected=f"a share of {quota.amount:g} {quota.name} in which one request of {cost:g} fits",
            )


def require_quotas(quotas: Sequence[Quota]) -> tuple[Quota, ...]:
    """Return quotas that can be counted.

    Raises:
        InputError: none at all, one name twice, or an amount or a window that is not above 0.
    """
    names = [quota.name for quota in quotas]
    if not names or len(set(names)) < len(names) or any("|" in name for name in names):
        raise InputError("quotas", got=names, expected="at least one, each name once and without |")
    for quota in quotas:
        if not (quota.amount > 0 and quota.window_s > 0):
            raise InputError(f"quotas[{quota.name!r}]", got=quota, expected="an amount and a window above 0")
    return tuple(quotas)
