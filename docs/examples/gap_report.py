"""What is missing, and why: all markets by day as a picture, and the gaps nobody has explained as a list.

Run it as a script, or cell by cell in an editor that knows ``# %%``. It needs a running service (``mdp serve``). The
picture is written to ``gap-report.png``, or to where ``MDP_EXAMPLE_PICTURE`` says.
"""

# %% What there is
import os
from datetime import UTC, datetime, timedelta

import matplotlib as mpl

mpl.use("Agg")  # no window is needed
import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from mdp.client import Client

client = Client(os.environ.get("MDP_EXAMPLE_URL", "http://127.0.0.1:8000"))
entries = client.markets()
markets = [entry for entry in entries if entry.stored is not None]
print(f"{len(markets)} of {len(entries)} markets have candles")
today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
newest = max(entry.stored.end for entry in markets) - timedelta(microseconds=1)
end = min(today, newest.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))  # whole days
start = min(entry.stored.start for entry in markets).replace(hour=0, minute=0, second=0)

# %% How much there is of each market and day
CAUSES = ["unfetched", "exchange_outage", "no_trades", "before_listing", "unknown"]
days = client.coverage(start=start, end=end).filter(pl.col("market").is_in([entry.market for entry in markets]))
stored = days.filter(pl.col("present").sum().over("day") > 0)["day"].unique().sort().tail(90)
days = days.filter(pl.col("day").is_in(stored.implode()))  # the last 90 days of which anything is stored
totals = days.group_by("market", maintain_order=True).agg(pl.col("expected", "present", *CAUSES).sum())
for row in totals.iter_rows(named=True):
    reasons = ", ".join(f"{row[cause]} {cause}" for cause in CAUSES if row[cause])
    print(f"{row['market']:20} {row['present'] / row['expected']:9.4%}  {reasons or 'whole'}")

# %% The gaps: those of a known cause are facts about the exchange; the others are work to do (`mdp heal`)
gaps = pl.concat([client.gaps(entry.market, start, end) for entry in markets])
known = ["exchange_outage", "no_trades", "before_listing"]
open_gaps = gaps.filter(~pl.col("cause").is_in(known) & ~pl.col("is_permanent").fill_null(value=False))
print(f"{gaps.height} gaps, {open_gaps.height} of them without an explanation")
for row in open_gaps.sort("slots", descending=True).head(10).iter_rows(named=True):
    print(f"  {row['market']:20} {row['start']:%Y-%m-%d %H:%M} {row['slots']:6} minutes  {row['cause']}")

# %% The picture: each row a market, each column a day, darker where more is missing; below, minutes by cause
names = totals["market"].to_list()
columns = stored.to_list()
missing = np.full((len(names), len(columns)), np.nan)
for row in days.iter_rows(named=True):
    missing[names.index(row["market"]), columns.index(row["day"])] = 1 - row["present"] / max(row["expected"], 1)

figure, (above, below) = plt.subplots(2, 1, figsize=(10, 6), height_ratios=[3, 2], layout="constrained")
scale = mpl.colors.PowerNorm(0.4, 0, 1)  # by a plain scale a missing minute would look like none
shown = above.imshow(missing, aspect="auto", cmap="Reds", norm=scale, interpolation="nearest")
above.set_yticks(range(len(names)), names)
ticks = range(0, len(columns), max(1, len(columns) // 6))
above.set_xticks(ticks, [f"{columns[one]:%d %b %Y}" for one in ticks])
above.set_title("Share of each day that is missing")
figure.colorbar(shown, ax=above, format=lambda share, _: f"{share:.0%}")
left = np.zeros(len(names))
for cause in CAUSES:
    below.barh(names, totals[cause].to_numpy(), left=left, label=cause.replace("_", " "))
    left += totals[cause].to_numpy()
below.invert_yaxis()
below.set_xlabel("missing minutes by cause")
below.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize="small")

path = os.environ.get("MDP_EXAMPLE_PICTURE", "gap-report.png")
figure.savefig(path, dpi=110)
print(f"wrote {path}")
client.close()
