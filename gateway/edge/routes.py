"""The URL table and the single error boundary: every refused or failed call gets the JSON envelope."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import StreamReader, web
from aiohttp.http import RawRequestMessage

from gateway.call import Call, CallerConnection, write
from gateway.edge import cors
from gateway.edge.api import Api
from gateway.edge.home import home
from gateway.errors import InvalidRequest, WattfareError
from gateway.logs import log_bug
from gateway.metered.answer import Answer
from gateway.metered.proxy import Proxy
from gateway.openrouter.dialects import WIRE, Dialect
from gateway.settings import Settings

_PREFIXES = ("/v1", "/api/v1")
_LONGEST_PATH = 200  # characters of a path that a message repeats; no path of the API is longer
_COUNT_TOKENS = f"/{Dialect.MESSAGES.value}/count_tokens"

Handler = Callable[[Call, tuple[str, ...]], Awaitable[web.Response | Answer]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path below `/v1`. `*` matches one segment, which the handler gets. `browser`: pages may call it (CORS).

    `enclose`: makes its error bodies; None: the plain envelope.
    """

    path: str
    handlers: dict[str, Handler]
    browser: bool = False
    enclose: Callable[[int, Mapping[str, object]], dict[str, object]] | None = None


class Routes:
    """Finds the handler of a call, and turns its exceptions into answers."""

    def __init__(self, proxy: Proxy, api: Api, settings: Settings) -> None:
        self._api = api
        self._public_url = settings.public_url
        self._caller_seconds = settings.caller_silence_seconds
        self._most_body_bytes = settings.max_body_mb * 1024 * 1024
        self._routes = _table(proxy, api)
        self._fixed = {
            "/healthz": Route("", {"GET": api.healthz}),
            "/readyz": Route("", {"GET": api.readyz}),
            "/openapi.json": Route("", {"GET": api.openapi}),
            "/": Route("", {"GET": home(settings)}),
            **{prefix + route.path: route for route in self._routes if "*" not in route.path for prefix in _PREFIXES},
        }

    async def handle(
        self,
        message: RawRequestMessage,
        content: StreamReader,
        connection: CallerConnection,
        fault: InvalidRequest | None,
    ) -> bool:
        """Answer one request; return whether its connection may be kept. `fault`: what is wrong with its HTTP."""
        call = Call(message, content, connection, self._caller_seconds, self._most_body_bytes)
        is_for_pages = False
        try:
            if fault is not None:
                raise fault
            segments: tuple[str, ...] = ()
            route = self._fixed.get(call.path)
            if route is None:
                route, segments = self._find(call)
            call.enclose, is_for_pages = route.enclose, route.browser
            handler = route.handlers.get(message.method)
            if handler is not None:
                response: web.Response | Answer = await handler(call, segments)
            elif is_for_pages and message.method == "OPTIONS":
                response = cors.preflight(call, sorted(route.handlers))
            else:
                response = await _other(route.handlers, message.method)(call, segments)
            call.status = response.status
        except WattfareError as error:
            response = call.refuse(await self._api.refused(call, error))
        except asyncio.CancelledError:
            call.status = 499
            raise
        except ConnectionError:
            # The caller has disconnected, so this answer is not sent.
            call.status = 499
            call.close()
            response = web.Response(status=499)
        except Exception as bug:
            log_bug(bug, request_id=call.request_id)
            response = call.refuse(WattfareError("Something broke on our side. Try again."))
        finally:
            call.write_log(call.status)
        if isinstance(response, Answer):
            return response.keeps_alive
        if is_for_pages:
            cors.allow_read(call, response)
        return await write(call.request, response)

    def _find(self, call: Call) -> tuple[Route, tuple[str, ...]]:
        """Return the route of a path with a `*`, and the values of these segments. Raises InvalidRequest."""
        below = _below_version(call.request.path)
        for route in self._routes if below is not None else ():
            segments = _match(route.path, below or "")
            if segments is not None:
                return route, segments
        for path, route in self._fixed.items():
            if route.enclose is not None and call.path.startswith(f"{path}/"):
                call.enclose = route.enclose
        raise InvalidRequest(self._nothing_at(call.path), status=404)

    def _nothing_at(self, path: str) -> str:
        """Return the message for an unknown path; it names the right one if only the prefix or a slash is wrong."""
        segments = list(filter(None, path.split("/")))
        while segments and segments[0] in ("v1", "api"):
            del segments[0]
        below = "/" + "/".join(segments)
        is_readable = path.isascii() and len(path) <= _LONGEST_PATH
        if not is_readable or all(_match(route.path, below) is None for route in self._routes):
            return "There is nothing at this path. See /openapi.json."
        url = self._public_url
        bases = f"The base URL is {url}/v1 for OpenAI's clients, {url} for Anthropic's"
        return f"There is nothing at this path. Use /v1{below}. {bases}, without a slash at its end."


def _table(proxy: Proxy, api: Api) -> list[Route]:
    def metered(dialect: Dialect) -> Handler:
        return lambda call, _: proxy.forward(call, dialect)

    return [
        *(Route(f"/{each.value}", {"POST": metered(each)}, enclose=WIRE[each].enclose) for each in Dialect),
        Route(_COUNT_TOKENS, {"POST": api.count_tokens}, enclose=WIRE[Dialect.MESSAGES].enclose),
        Route("/sessions", {"POST": api.create_session}),
        Route("/status", {"GET": api.status}),
        Route(
            "/connections",
            {"GET": api.connection, "POST": api.approve, "DELETE": api.disconnect},
            browser=True,
        ),
        Route("/attempts/*", {"GET": api.attempt, "POST": api.redeem}, browser=True),
        Route("/grants", {"GET": api.grant}),
        Route("/usage/*", {"GET": api.usage}),
        Route("/models", {"GET": api.models}),
        Route("/models/*/*/endpoints", {"GET": api.endpoints}),
    ]


def _other(handlers: dict[str, Handler], method: str) -> Handler:
    """Return the handler of a method that is not in the table. Raises InvalidRequest."""
    if method == "HEAD" and "GET" in handlers:
        return handlers["GET"]
    allowed = ", ".join(sorted(handlers))
    raise InvalidRequest(f"Use {allowed} here.", status=405, headers={"Allow": allowed})


def _below_version(path: str) -> str | None:
    for prefix in _PREFIXES:
        if path.startswith(f"{prefix}/"):
            return path[len(prefix) :]
    return None


def _match(pattern: str, path: str) -> tuple[str, ...] | None:
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    found = []
    for expected, segment in zip(wanted, given, strict=True):
        if expected == "*" and segment:
            found.append(segment)
        elif expected != segment:
            return None
    return tuple(found)
