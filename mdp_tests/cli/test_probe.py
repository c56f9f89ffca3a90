"""What a container's health check says of a service."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mdp.cli.probe import main, probe


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        code = int(self.path.strip("/"))
        self.send_response(code)
        self.send_header("Location", "/200")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("code", "is_well"), [(200, True), (204, True), (503, False), (404, False), (307, False)])
def test_a_service_is_well_when_it_says_so_itself(url, code, is_well):
    wrong = probe(f"{url}/{code}")
    assert (wrong is None) is is_well
    assert is_well or str(code) in wrong


def test_a_service_that_is_not_there_or_says_nothing_is_not_well(capsys, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        assert "timed out" in probe(url, timeout_s=0.05)
    assert main([url]) == 1
    assert "refused" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["ftp://x"], ["file:///etc/passwd"], ["http://a", "http://b"]])
def test_only_a_service_can_be_asked(arguments):
    assert main(arguments) == 2
