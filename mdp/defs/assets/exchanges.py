"""The exchanges, as external assets: where the lineage begins.

Not here: talking to them (``mdp.exchanges``).
"""

import dagster as dg

from mdp.domain.market import Exchange

_WHAT = {
    Exchange.BINANCE: ("Binance spot", "1-minute candles of BTC, ETH and SOL against USDT, REST `/api/v3/klines`."),
    Exchange.BYBIT: ("Bybit v5 spot", "1-minute candles of BTC, ETH and SOL against USDT, REST `/v5/market/kline`."),
    Exchange.OKX: ("OKX v5 spot", "1-minute candles of BTC, ETH and SOL against USDT, REST `/api/v5/market/…candles`."),
    Exchange.DERIBIT: ("Deribit", "DVOL of BTC and ETH by the hour or minute, `public/get_volatility_index_data`."),
}


@dg.definitions
def exchanges() -> dg.Definitions:
    """One external asset for each exchange."""
    return dg.Definitions(
        assets=[
            dg.AssetSpec(
                key=exchange.value,
                group_name="exchanges",
                owners=["team:market-data"],
                kinds={"api"},
                description=f"{name}, outside of this platform. {what}",
            )
            for exchange, (name, what) in _WHAT.items()
        ]
    )
