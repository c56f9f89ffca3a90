"""The one configuration of what processes say: form and least level by the settings, everything on stderr.

Lines of the standard library's loggers (ours, Dagster's, uvicorn's, Celery's) and those of structlog take the same way.
Not here: the form (``lines``).
"""

from __future__ import annotations

import logging
import sys

import structlog

from mdp.config.settings import Settings
from mdp.logs.lines import Spelling
from mdp.logs.secrets import hiding
from mdp.logs.writing import WholeLines

CHATTY = ("httpx", "httpcore", "ccxt", "uvicorn.error", "uvicorn.access", "websockets", "asyncio", "urllib3", "kombu",
          "amqp", "sqlalchemy", "alembic", "deltalake", "google")  # fmt: skip
"""They tell each request or connection; from them only what went wrong is heard."""


def configure_logs(settings: Settings, *, target: int | None = None, **about: str) -> None:
    """Say everything that this process says in the form of the settings; may be called again, the last call counts.

    For the entry points of processes alone: importing this package must change nothing in a notebook.

    Args:
        settings: Of the environment.
        target: File descriptor to write to; None: stderr.
        about: Said in every line, such as ``feed="binance"``.
    """
    handler = _Ours(target)
    handler.setLevel(settings.log.level.upper())  # for loggers that belong to no hierarchy
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(allow=()),
    ]
    spelling = Spelling(settings.log.form, hiding(settings))
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[spelling], foreign_pre_chain=shared))
    structlog.configure(
        processors=[
            *shared[:-1],
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(**about)
    _take_root(handler, settings.log.level.upper())
    _take_consoles(handler)


class _Ours(WholeLines):
    """The handler of this configuration, so that it is found again."""


def _take_root(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    for one in [one for one in root.handlers if isinstance(one, _Ours) or _is_console(one)]:
        root.removeHandler(one)
    root.addHandler(handler)
    root.setLevel(level)
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)
    logging.captureWarnings(capture=True)


def _take_consoles(handler: logging.Handler) -> None:
    """Take the consoles that libraries gave their loggers, and those that they will give to loggers of their own.

    Dagster makes, for each run, a logger that belongs to no hierarchy, with a coloured console; it makes it of the
    class that the standard library's ``setLoggerClass`` names.
    """
    for logger in list(logging.root.manager.loggerDict.values()):
        if not isinstance(logger, logging.Logger):
            continue
        for one in [one for one in logger.handlers if _is_console(one) or isinstance(one, _Ours)]:
            logger.removeHandler(one)
            if not logger.propagate:
                logger.addHandler(handler)
    _WithoutConsole.ours = handler
    logging.setLoggerClass(_WithoutConsole)


class _WithoutConsole(logging.Logger):
    """A logger to which nobody can give a console: its lines go where all others go, once."""

    ours: logging.Handler | None = None

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802 the name is the standard library's
        """Take a handler, but ours in place of a console, and that only where lines would not come to it anyway."""
        if not _is_console(hdlr) or self.ours is None:
            super().addHandler(hdlr)
        elif self.parent is None or not self.propagate:
            super().addHandler(self.ours)


def _is_console(handler: logging.Handler) -> bool:
    streams = (sys.stderr, sys.stdout, sys.__stderr__, sys.__stdout__)
    return isinstance(handler, logging.StreamHandler) and any(handler.stream is one for one in streams)
