"""A webserver that answers the questions of generations as Dagster does, from a list of backfills.

Not here: Dagster itself (``integration.test_generate``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class ScriptedDagster:
    """What it says, and what was asked of it.

    Attributes:
        backfills: As GraphQL tells them, oldest first.
        heartbeat_age_s: Of its daemons.
        refusal: Type of the answer to whoever launches; empty: it launches.
        launch_s: How long it takes over an answer to whoever launches; the backfill is there at once.
        canceled: Ids that were canceled.
    """

    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self.backfills: list[dict[str, Any]] = []
        self.heartbeat_age_s = 1.0
        self.refusal = ""
        self.raw: bytes | None = None
        self.launch_s = 0.0
        self.canceled: list[str] = []

    def answer(self, query: str, variables: dict[str, Any]) -> Any:
        """Answer one question."""
        if query.startswith("mutation Launch"):
            done = self._launch(variables["backfill"])
            time.sleep(self.launch_s)
            return {"done": done}
        if query.startswith("mutation Cancel"):
            self.canceled.append(variables["id"])
            self.of(variables["id"])["status"] = "CANCELING"
            return {"done": {"__typename": "CancelBackfillSuccess"}}
        newest = self.backfills[::-1]
        if query.startswith("query Active"):
            found = [one for one in newest if one["status"] in ("REQUESTED", "CANCELING", "FAILING")]
            daemons = [
                {"daemonType": name, "lastHeartbeatTime": time.time() - self.heartbeat_age_s}
                for name in ("BACKFILL", "QUEUED_RUN_COORDINATOR", "SCHEDULER")
            ]
            return {"instance": {"daemonHealth": {"allDaemonStatuses": daemons}}, "found": _results(found)}
        found = [one for one in newest if all(tag in one["tags"] for tag in variables["tags"])]
        return {"found": _results(found[: variables["limit"]])}

    def of(self, name: str) -> dict[str, Any]:
        """Return the backfill of an id."""
        return next(one for one in self.backfills if one["id"] == name)

    def _launch(self, params: dict[str, Any]) -> dict[str, Any]:
        if self.refusal:
            return {"__typename": self.refusal, "message": "/home/somebody/secret.py is broken"}
        name = f"b{len(self.backfills)}"
        self.backfills.append(
            {"id": name, "status": "REQUESTED", "timestamp": 1_735_689_600 + len(self.backfills), "endTimestamp": None,
             "partitionNames": params["partitionNames"], "tags": params["tags"], "runs": [],
             "assetSelection": params["assetSelection"], "assetBackfillData": {"assetBackfillStatuses": []}}
        )  # fmt: skip
        return {"__typename": "LaunchBackfillSuccess", "backfillId": name}


def _results(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {"__typename": "Found", "results": found}


@contextmanager
def scripted_dagster() -> Iterator[ScriptedDagster]:
    """Let one answer on a free port until the block ends."""
    scripted = ScriptedDagster()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = scripted.raw or json.dumps({"data": scripted.answer(asked["query"], asked["variables"])}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    scripted.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield scripted
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
