"""The queue of Celery between the daemon and the workers: its address, and the options on which the promises rest.

Not here: what is put into it (``launcher``), what is done with it (``execution``).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from dagster_celery.config import DEFAULT_CONFIG

CONNECT_S, ANSWER_S = 5, 10
"""Seconds until a broker that does not answer counts as away; a worker asks it for work every second."""

_PUBLISHING = {"max_retries": 2, "interval_start": 0.2, "interval_step": 0.5, "interval_max": 1}
_CONNECTION = {"socket_connect_timeout": CONNECT_S, "socket_timeout": ANSWER_S, "socket_keepalive": True}

OPTIONS: dict[str, Any] = {
    **DEFAULT_CONFIG,
    # A task leaves the queue before it begins: nobody ever gets one twice because it takes long. One that began and
    # was lost is noticed by its signs of life, and Dagster launches its run anew.
    "task_acks_late": False,
    "task_reject_on_worker_lost": False,
    # Nobody reads results: how a run ended is in Dagster's storage.
    "task_ignore_result": True,
    # A worker takes what it can begin at once: nothing waits behind a busy worker while another is idle.
    "worker_prefetch_multiplier": 1,
    "worker_disable_prefetch": True,
    "task_publish_retry": True,
    "task_publish_retry_policy": _PUBLISHING,
    "broker_transport_options": {**_CONNECTION, **_PUBLISHING},
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # for ever: whoever restarts the broker does not restart the workers
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
    "worker_send_task_events": False,
}
"""What Celery does beyond its defaults, on both sides of the queue."""


def celery_address(url: str) -> str:
    """Return the address of a Valkey or Redis in Celery's words.

    It knows no ``valkey://``, and wants to be told that a certificate is to be checked.

    >>> celery_address("valkey://queue:6379/1")
    'redis://queue:6379/1'
    >>> celery_address("rediss://queue:6380/1")
    'rediss://queue:6380/1?ssl_cert_reqs=required'
    """
    said = "redis" + url.removeprefix("valkey") if url.startswith("valkey") else url
    parts = urlsplit(said)
    if parts.scheme != "rediss" or "ssl_cert_reqs" in parts.query:
        return said
    return f"{said}{'&' if parts.query else '?'}ssl_cert_reqs=required"
