"""The two ways to hear changes, as one router.

Not here: the ways (``websocket``, ``events``).
"""

from __future__ import annotations

from fastapi import APIRouter

from mdp.api.streams import events, websocket

router = APIRouter(tags=["Streams"])
router.include_router(websocket.router)
router.include_router(events.router)
