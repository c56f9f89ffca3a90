"""Drop-in klines: the questions that bots put to exchanges, answered from this store in the exchanges' own words.

A bot is pointed here by changing one address. ``refusals`` words what the service refuses before a route is reached.
Not here: our own routes (the modules beside this package), how an exchange is asked (``exchanges``).
"""

from __future__ import annotations

from fastapi import APIRouter

from mdp.api.compat.binance import router as binance
from mdp.api.compat.bybit import router as bybit
from mdp.api.compat.okx import router as okx

router = APIRouter(prefix="/compat", tags=["Drop-in klines"])
for one in (binance, bybit, okx):
    router.include_router(one)
