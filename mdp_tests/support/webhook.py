"""A webhook for tests: a server that writes down what it is told, and answers as it is bidden.

Not here: what is sent (``mdp.defs.alert_sending``).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def webhook(answer: Callable[[Any], object]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Run it until the block ends; give its address, with a secret in it, and what it has heard."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads, server.block_on_close, server.release = True, False, threading.Event()
        server.handle_error = lambda *_: None  # who asked is gone
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/services/SECRET", heard
        server.release.set()
        server.shutdown()


def say(status: int, body: bytes = b"", **headers: str) -> Callable[[Any], None]:
    """Return an answer."""

    def answer(handler: Any) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer
