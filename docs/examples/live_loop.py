"""A live loop: act on closed candles only, and not at all while anything may be old.

Run it as a script, or cell by cell in an editor that knows ``# %%``. It needs a running service (``mdp serve``) and
feeds (``mdp feed``). It goes on for ever, and says something at each close; with ``MDP_EXAMPLE_UPDATES=20`` it ends
after as many updates, of which most are of the forming candle.
"""

# %% What to follow
import os
from itertools import islice

import polars as pl

from mdp.client import BufferSnapshot, CandleUpdate, Client, Disconnected, Fresh, Missing, Stale
from mdp.domain.candle_buffer import CandleBuffer

MARKET, TIMEFRAME = "binance:BTC-USDT", "1m"
client = Client(os.environ.get("MDP_EXAMPLE_URL", "http://127.0.0.1:8000"))
updates = int(os.environ.get("MDP_EXAMPLE_UPDATES", "0")) or None


# %% The decision sees closed candles, the same that a backtest sees; the forming one is left out.
def decide(buffer: CandleBuffer) -> str:
    """Return what to do: a toy."""
    closes = buffer.frame().filter(pl.col("state") != "forming")["close"]
    return "long" if closes[-1] > closes.tail(20).mean() else "flat"


# %% The loop. Each end of a candle comes once, also after the connection or the service was away: then with the reason
# `read`, or `history` where it was away for longer than the buffer reaches. It comes again only with other values, as
# `corrected`; that REST confirms it is no update.
is_trusted = False
with client.stream(MARKET, TIMEFRAME) as stream:
    for update in islice(stream, updates):
        match update:
            case BufferSnapshot():
                is_trusted = not update.buffer.is_stale
                print(f"begin with {len(update.buffer.closed)} closed candles, trusted: {is_trusted}")
            case Stale() | Disconnected():
                is_trusted = False
                print(f"hands off: {update}")
            case Fresh():
                is_trusted = True
                print("fresh again")
            case Missing():
                print(f"{update.slots} candles in {update.interval} are nowhere: {update.detail}")
            case CandleUpdate(is_closed=True, reason="changed"):
                # a change that came as it happened: the connection is there, and a feed keeps the buffer
                buffer = stream.buffer(MARKET, TIMEFRAME)
                is_trusted = buffer is not None and not buffer.is_stale
                if buffer is not None and is_trusted and buffer.newest == update.candle:  # not one that came late
                    print(f"{update.candle.close} at the close: {decide(buffer)}")
            case CandleUpdate(reason="corrected"):
                print(f"{update.candle.close} is what it was after all: too late to act on, mind it from now on")
            case CandleUpdate(is_closed=True):
                print(f"{update.candle.close} closed meanwhile ({update.reason}): known now, too late to act on")

# %%
client.close()
