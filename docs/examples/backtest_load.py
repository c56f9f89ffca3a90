"""Load candles for a backtest: of a snapshot, so that the same backtest can be run again next year.

Run it as a script, or cell by cell in an editor that knows ``# %%``. It needs a running service (``mdp serve``) with a
snapshot (``mdp snapshot create``).
"""

# %% The service, and the newest snapshot it has
import os

import polars as pl

from mdp.client import Client

client = Client(os.environ.get("MDP_EXAMPLE_URL", "http://127.0.0.1:8000"))
MARKET, TIMEFRAME, HOUR = "binance:BTC-USDT", "1h", pl.duration(hours=1)

snapshots = client.snapshots()
if not snapshots:
    raise SystemExit("no snapshot yet: mdp snapshot create study-1 --start 2024-12-25 --end 2025-01-08")
snapshot = max(snapshots, key=lambda one: one.created_at)
print(f"snapshot {snapshot.name}, identity {snapshot.id[:12]}, {snapshot.start:%Y-%m-%d} to {snapshot.end:%Y-%m-%d}")

# %% All candles, however many pages they come in. With the identity in its name, another snapshot that was given the
# same name later is refused instead of being taken for this one.
candles = client.history(
    MARKET, TIMEFRAME, snapshot.start, snapshot.end, snapshot=f"{snapshot.name}@{snapshot.id[:12]}"
)
slots = int((snapshot.end - snapshot.start).total_seconds() // 3600)
print(f"{candles.height} of {slots} hours; what is missing is absent, never filled")

# %% A signal: the mean of the last 6 hours above that of the last 24. Windows are of time, not of rows, so that a hole
# does not stretch them; and a row knows only what was known when its candle closed.
signal = candles.select(
    "open_time",
    "close",
    fast=pl.col("close").rolling_mean_by("open_time", "6h"),
    slow=pl.col("close").rolling_mean_by("open_time", "24h"),
).with_columns(is_long=pl.col("fast") > pl.col("slow"))

# %% Returns: what was decided at one close is held until the next. Across a hole nothing is counted.
follows = pl.col("open_time") - pl.col("open_time").shift(1) == HOUR
returns = signal.with_columns(
    market_return=pl.when(follows).then(pl.col("close") / pl.col("close").shift(1) - 1).otherwise(0.0),
).with_columns(
    strategy_return=pl.when(pl.col("is_long").shift(1)).then(pl.col("market_return")).otherwise(0.0),
)

# %% The result, with what is needed to get it again
total = returns.select(pl.col("market_return", "strategy_return").add(1).product().sub(1)).row(0, named=True)
changes = returns["is_long"].cast(pl.Int8).diff().abs().sum()
print(f"holding {total['market_return']:+.2%}, strategy {total['strategy_return']:+.2%} in {changes} trades, no fees")
print(f"again: snapshot {snapshot.id}")
client.close()
