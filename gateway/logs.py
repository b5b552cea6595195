"""Structured logs: one JSON line for each event, on standard output.

Rule: no line holds a key, a prompt or a user id in clear.
"""

import logging
import sys

import orjson
import structlog

log: structlog.stdlib.BoundLogger = structlog.get_logger()


def configure(level: str = "info") -> None:
    """Write every line as JSON to standard output, also those of libraries (warnings and errors).

    `level`: debug, info, warning or error; lines of ours below it are dropped.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(serializer=_serialize)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(serializer=_serialize),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def silence() -> None:
    """Write nothing below critical: the standard output of an operator's command is its answer."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _serialize(event: object, **_: object) -> str:
    return orjson.dumps(event, default=repr).decode()
