"""Views for the page's `session` URL, synchronous and asynchronous.

Rule: the framework is recognised by its request object, so that no framework is imported that the app does not use.
"""

import inspect
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from wattfare.answers import Session
from wattfare.errors import WattfareAuthError, WattfareError

_JSON = "application/json"
_NO_STORE = {"Cache-Control": "no-store"}


@dataclass(frozen=True)
class SessionUser:
    """The signed-in user: your app's id, the account's name as the user knows it, and the suggested cap."""

    id: str
    label: str | None = None
    monthly_usd: float | None = None


Resolved = SessionUser | str | None


def plain(
    create: Callable[..., Session], resolve_user: Callable[[Any], Resolved], monthly_usd: float | None
) -> Callable[..., Any]:
    """Return a synchronous view."""

    def wattfare_session(request: Any = None) -> Any:
        request = _request(request)
        try:
            session = create(**_session_options(request, resolve_user(request), monthly_usd))
        except WattfareError as error:
            return _respond(request, error.status or 502, error.to_json())
        return _respond(request, 200, session.to_json())

    return _described(wattfare_session)


def asynchronous(
    create: Callable[..., Awaitable[Session]],
    resolve_user: Callable[[Any], "Resolved | Awaitable[Resolved]"],
    monthly_usd: float | None,
) -> Callable[..., Awaitable[Any]]:
    """Return an asynchronous view."""

    async def wattfare_session(request: Any = None) -> Any:
        request = _request(request)
        try:
            found = resolve_user(request)
            user = await found if inspect.isawaitable(found) else found
            session = await create(**_session_options(request, user, monthly_usd))
        except WattfareError as error:
            return _respond(request, error.status or 502, error.to_json())
        return _respond(request, 200, session.to_json())

    return _described(wattfare_session)


def _described(view: Callable[..., Any]) -> Callable[..., Any]:
    """Annotate the view's parameter for FastAPI, and exempt it from Django's CSRF check.

    None is needed: another site can have a session made, but no browser lets it read the answer.
    """
    starlette = sys.modules.get("starlette.requests")
    if starlette is not None:
        parameter = inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=starlette.Request)
        view.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    view.csrf_exempt = True  # type: ignore[attr-defined]
    return view


def _request(given: Any) -> Any:
    """Return the request; Flask does not pass it to views."""
    return sys.modules["flask"].request if given is None else given


def _session_options(request: Any, user: Resolved, monthly_usd: float | None) -> dict[str, Any]:
    if request.method != "POST":
        raise WattfareError("Use POST here.", code="invalid_request", status=405)
    if not user:
        raise WattfareAuthError("Sign in first.", status=401)
    known = SessionUser(user) if isinstance(user, str) else user
    return {"user_id": known.id, "monthly_usd": known.monthly_usd or monthly_usd, "user_label": known.label}


def _respond(request: Any, status: int, document: dict[str, Any]) -> Any:
    """Return the framework's own response."""
    text = json.dumps(document)
    framework = _framework(request)
    if framework == "aiohttp":
        from aiohttp import web

        return web.Response(text=text, status=status, content_type=_JSON, headers=_NO_STORE)
    if framework == "starlette":
        from starlette.responses import Response

        return Response(text, status_code=status, media_type=_JSON, headers=_NO_STORE)
    if framework == "django":
        from django.http import HttpResponse

        return HttpResponse(text, status=status, content_type=_JSON, headers=_NO_STORE)
    import flask

    return flask.Response(text, status=status, content_type=_JSON, headers=_NO_STORE)


def _framework(request: Any) -> str:
    """Return the framework's package: that of the request's class or of one of its base classes."""
    packages = {kind.__module__.partition(".")[0] for kind in type(request).__mro__}
    return next((name for name in ("aiohttp", "starlette", "django") if name in packages), "flask")
