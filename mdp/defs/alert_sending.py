"""Sending alerts to a webhook: JSON with a ``text`` for people, as incoming webhooks of Slack and Mattermost read it.

Not here: what is sent (``alerting``).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import httpx

from mdp.defs.alerting import Alert

TIMEOUT_S, TRIES, PAUSE_S = 5.0, 2, 0.5
"""Of one attempt, however slowly the answer drips; how many there are; the pause between them."""

ALL_S = 20.0
"""Of one look: Dagster gives a sensor a minute."""

_MARKS = {"run_stuck": "⏳"}
_REFUSED_FOR_GOOD = frozenset({400, 413, 422})
"""An alert that is answered so will never be taken; what stands behind it may be."""


class Sent(NamedTuple):
    """How sending went.

    Attributes:
        sent: What arrived.
        unsent: What did not, and is to be sent later.
        error: Why, without the address, which is a secret.
        refused: What the webhook will never take.
    """

    sent: list[Alert]
    unsent: list[Alert]
    error: str = ""
    refused: tuple[Alert, ...] = ()


def send(url: str, alerts: Sequence[Alert], environment: str) -> Sent:
    """Send alerts one by one; after one that does not arrive, the rest waits for another time.

    Args:
        url: Of the webhook.
        alerts: In their order.
        environment: Said in each text: several may write to one channel.
    """
    return asyncio.run(_send(url, alerts, environment)) if alerts else Sent([], [])


async def _send(url: str, alerts: Sequence[Alert], environment: str) -> Sent:
    sent: list[Alert] = []
    refused: list[Alert] = []
    error, deadline = "", time.monotonic() + ALL_S
    # the transport itself: a client would heed the variables of proxies, and log the address, which is a secret
    async with httpx.AsyncHTTPTransport() as transport:
        for number, alert in enumerate(alerts):
            status, said = await _post(transport, url, _body(alert, environment), deadline)
            if status in _REFUSED_FOR_GOOD:
                refused.append(alert)
                error = said
            elif said:
                return Sent(sent, list(alerts[number:]), said, tuple(refused))
            else:
                sent.append(alert)
    return Sent(sent, [], error, tuple(refused))


async def _post(
    transport: httpx.AsyncBaseTransport, url: str, body: dict[str, object], deadline: float
) -> tuple[int | None, str]:
    """Return the last status, and what is wrong; nothing where it arrived."""
    status, said = None, "no time was left; the rest goes at the next look"
    for number in range(TRIES):
        left_s = min(TIMEOUT_S, deadline - time.monotonic())
        if left_s <= 0:
            break
        if number:
            await asyncio.sleep(min(PAUSE_S, left_s))
        try:
            async with asyncio.timeout(left_s):
                status = await _attempt(transport, url, body)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            status, said = None, f"the webhook did not answer: {type(error).__name__}"
            continue
        if 200 <= status < 300:
            return status, ""
        said = f"the webhook answered {status}"
        if status in _REFUSED_FOR_GOOD:
            break
    return status, said


async def _attempt(transport: httpx.AsyncBaseTransport, url: str, body: dict[str, object]) -> int:
    answer = await transport.handle_async_request(httpx.Request("POST", url, json=body))
    with contextlib.suppress(httpx.HTTPError):  # left unread: an answer of any length costs nothing
        await answer.aclose()
    return answer.status_code


def _body(alert: Alert, environment: str) -> dict[str, object]:
    text = f"{_MARKS.get(alert.kind, '❗')} mdp {environment}: {alert.text}"
    told = {name: said for name, said in alert.fields.items() if said}
    return {**told, "text": text[:2_000], "kind": alert.kind, "about": alert.about, "environment": environment}
