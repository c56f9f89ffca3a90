"""Teach the emulator what it lacks, then serve; run it with the Python of its own environment.

``.venv-bigquery/bin/python -m mdp_tests.support.bigquery.launch`` prints ``ready REST_PORT GRPC_PORT`` and serves on
127.0.0.1 until SIGTERM, or until its standard input closes where ``--until-stdin-closes`` is given, which it does when
whoever started it has gone, however that came about.

Not here: starting it from a test (``emulator``), for which nothing of the emulator is imported.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import threading
import warnings

import structlog


def quiet() -> None:
    """Log errors only; the emulator logs to standard output, which is for the ports, while it is imported."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    warnings.filterwarnings("ignore", message="Arrow output on a DB-API result", category=UserWarning)


def teach() -> None:
    """Apply every change; before the server's module is imported, which takes functions from the others by name."""
    from bqemulator.api import app
    from bqemulator.grpc_api.read_servicer import BigQueryReadHandler
    from bqemulator.grpc_api.write_servicer import BigQueryWriteHandler

    from mdp_tests.support.bigquery import engine, job_ids, loads, one_at_a_time, scripts, streams, tables, uploads

    for part in (engine, job_ids, loads, scripts, streams, tables, uploads):
        part.teach()
    read = ("_handle_create_read_session",)
    one_at_a_time.serialise(app, ((BigQueryWriteHandler, ("_flush_to_target",)), (BigQueryReadHandler, read)))


def end_with_stdin() -> None:
    """End this process as soon as its standard input does."""

    def wait() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(0)

    threading.Thread(target=wait, daemon=True, name="until-stdin-closes").start()


async def serve(rest_port: int, grpc_port: int) -> None:
    """Serve until the process ends."""
    from bqemulator.config import Settings
    from bqemulator.server import EmulatorServer

    settings = Settings(
        rest_port=rest_port, grpc_port=grpc_port, log_level="error", metrics_enabled=False, max_concurrent_jobs=64
    )
    server = EmulatorServer(settings)
    await server.start()
    print(f"ready {server.rest_port} {server.grpc_port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rest-port", type=int, default=0)
    parser.add_argument("--grpc-port", type=int, default=0)
    parser.add_argument("--until-stdin-closes", action="store_true")
    arguments = parser.parse_args()
    if arguments.until_stdin_closes:
        end_with_stdin()
    quiet()
    teach()
    asyncio.run(serve(arguments.rest_port, arguments.grpc_port))


if __name__ == "__main__":
    main()
