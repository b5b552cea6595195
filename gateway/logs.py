"""Structured logs: one line for each event on standard output, as JSON, or as text in a terminal.

Rule: no line contains a key, a prompt or a plain user id.
"""

import asyncio
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO, cast

import structlog
from orjson import OPT_UTC_Z, dumps
from structlog.typing import EventDict

log: structlog.stdlib.BoundLogger = structlog.get_logger()


_requests_to: "_TurnWriter | None" = None


def configure(level: str = "info", form: str = "auto") -> None:
    """Write all log lines to standard output, also those of libraries (warnings and errors).

    `level`: debug, info, warning or error; our lines below it are dropped. `form`: json, text, or auto, which is text
    in a terminal, else JSON.
    """
    global _requests_to, _line
    _line = _text_line if form == "text" or (form == "auto" and sys.stdout.isatty()) else _json_line
    lowest, writer = logging.getLevelNamesMapping()[level.upper()], _TurnWriter(sys.stdout)
    structlog.configure(
        processors=[_line],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", writer)),
        cache_logger_on_first_use=True,
    )
    _requests_to = writer if lowest <= logging.INFO else None
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_LibraryLine())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def log_bug(bug: Exception, **more: str) -> None:
    """Log an exception that nothing handles, by its type and place only: its values may contain a prompt or a key."""
    place = traceback.extract_tb(bug.__traceback__)[-1]
    log.error("bug", error=type(bug).__name__, at=f"{place.name}:{place.lineno}", **more)


def log_request(facts: EventDict) -> None:
    """Write the line of a request, as `log.info("request", …)` does in three times the time."""
    if _requests_to is None:
        log.info("request", **facts)
    else:
        facts["event"] = "request"
        _requests_to.write(f"{_line(None, 'info', facts)}\n")


def _json_line(_: object, level: str, event: EventDict) -> str:
    """Return one line as JSON."""
    event["level"], event["time"] = level, datetime.now(UTC)
    return dumps(event, default=repr, option=OPT_UTC_Z).decode()


def _text_line(_: object, level: str, event: EventDict) -> str:
    """Return one line as text: the event, then its fields."""
    said = str(event.pop("event", ""))
    if said == "request":
        # First the fields that identify a request.
        said = " ".join(str(event.pop(name)) for name in ("method", "path", "page", "status") if name in event)
    facts = "  ".join(f"{name}={_in_words(value)}" for name, value in event.items())
    return f"{'' if level == 'info' else level.upper() + ' '}{said}{'  ' if facts else ''}{facts}"


def _in_words(value: object) -> str:
    # repr, if a blank, a line break or a terminal's escape code in a value could be taken for the line's own.
    return value if isinstance(value, str) and value.isprintable() and " " not in value else repr(value)


_line = _json_line


class _LibraryLine(logging.Formatter):
    """Formats a library's record like our lines; of an exception only its type, as its message may contain anything."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        event: EventDict = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info and record.exc_info[0] is not None:
            event["error"] = record.exc_info[0].__name__
        return _line(None, record.levelname.lower(), event)


class _TurnWriter:
    """A file written once in each turn of the event loop, because each write is a system call."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: list[str] = []

    def write(self, text: str) -> None:
        """Buffer a line until the end of this turn; without a loop, write it at once."""
        if not self._lines and not self._schedule():
            self._file.write(text)
            self._file.flush()
        else:
            self._lines.append(text)

    def flush(self) -> None:
        """Do nothing: the end of the turn flushes."""

    def _schedule(self) -> bool:
        try:
            asyncio.get_running_loop().call_soon(self._write_out)
        except RuntimeError:
            return False
        return True

    def _write_out(self) -> None:
        lines, self._lines = self._lines, []
        self._file.write("".join(lines))
        self._file.flush()


def silence() -> None:
    """Log nothing below critical, because the standard output of an operator's command is its result."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
