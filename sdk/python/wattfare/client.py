"""The client of an app's backend, synchronous and for asyncio."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

import httpx

from wattfare import calls, session_handlers
from wattfare.answers import Session
from wattfare.calls import Access, Call
from wattfare.errors import WattfareNetworkError
from wattfare.payers import AsyncGrant, AsyncUser, Grant, Libraries, User
from wattfare.session_handlers import Resolved

T = TypeVar("T")


class Wattfare:
    """The Wattfare client of a backend. Create one per process: it keeps connections open.

    `secret_key`: `sk_live_…` or `sk_test_…`; anything else raises WattfareAuthError. `base_url`: the gateway's.
    """

    def __init__(
        self, secret_key: str, base_url: str = calls.DEFAULT_URL, *, http_client: httpx.Client | None = None
    ) -> None:
        self._access = Access.of(secret_key, base_url)
        self._http = http_client or httpx.Client(timeout=calls.CALL_SECONDS)
        self._libraries = Libraries(self._access)

    def user(self, user_id: str) -> User:
        """Return the user with your app's own id."""
        return User(self, self._libraries, user_id)

    def grant(self, grant_token: str) -> Grant:
        """Return the grant with the token that `requestGrant()` returned to the page."""
        return Grant(self, self._libraries, grant_token)

    def create_session(
        self, user_id: str, *, monthly_usd: float | None = None, user_label: str | None = None
    ) -> Session:
        """Return a session for this user's page.

        `monthly_usd`: the suggested cap. `user_label`: the account's name as the payer knows it.
        """
        return self.send(calls.create_session(user_id, monthly_usd=monthly_usd, user_label=user_label))

    def session_handler(
        self, resolve_user: Callable[[Any], Resolved], *, monthly_usd: float | None = None
    ) -> Callable[..., Any]:
        """Return a view for the page's `session` URL: for Flask, Django, Starlette and FastAPI.

        `resolve_user` gets the framework's request and returns who is signed in, None for nobody (401).
        """
        return session_handlers.plain(self.create_session, resolve_user, monthly_usd)

    def send(self, call: Call[T]) -> T:
        """Send one call of `wattfare.calls`. Raises WattfareError."""
        try:
            response = self._http.request(
                call.method,
                self._access.place(call),
                params=dict(call.query) or None,
                json=call.body,
                headers=self._access.headers(call),
            )
        except httpx.HTTPError as fault:
            raise WattfareNetworkError(f"{self._access.url} cannot be reached ({type(fault).__name__}).") from fault
        return self._access.answer(call, response.status_code, response.content)

    def close(self) -> None:
        """Close all connections, including those of `openai()` and `anthropic()`."""
        self._http.close()
        self._libraries.close()

    def __enter__(self) -> "Wattfare":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncWattfare:
    """The Wattfare client of a backend, for asyncio. Create one per event loop: it keeps connections open.

    `secret_key`: `sk_live_…` or `sk_test_…`; anything else raises WattfareAuthError. `base_url`: the gateway's.
    """

    def __init__(
        self, secret_key: str, base_url: str = calls.DEFAULT_URL, *, http_client: httpx.AsyncClient | None = None
    ) -> None:
        self._access = Access.of(secret_key, base_url)
        self._http = http_client or httpx.AsyncClient(timeout=calls.CALL_SECONDS)
        self._libraries = Libraries(self._access)

    def user(self, user_id: str) -> AsyncUser:
        """Return the user with your app's own id."""
        return AsyncUser(self, self._libraries, user_id)

    def grant(self, grant_token: str) -> AsyncGrant:
        """Return the grant with the token that `requestGrant()` returned to the page."""
        return AsyncGrant(self, self._libraries, grant_token)

    async def create_session(
        self, user_id: str, *, monthly_usd: float | None = None, user_label: str | None = None
    ) -> Session:
        """Return a session for this user's page.

        `monthly_usd`: the suggested cap. `user_label`: the account's name as the payer knows it.
        """
        return await self.send(calls.create_session(user_id, monthly_usd=monthly_usd, user_label=user_label))

    def session_handler(
        self,
        resolve_user: Callable[[Any], "Resolved | Awaitable[Resolved]"],
        *,
        monthly_usd: float | None = None,
    ) -> Callable[..., Awaitable[Any]]:
        """Return an async view for the page's `session` URL: for aiohttp, Starlette, FastAPI and Django.

        `resolve_user` gets the framework's request and returns, or is awaited for, who is signed in; None: 401.
        """
        return session_handlers.asynchronous(self.create_session, resolve_user, monthly_usd)

    async def send(self, call: Call[T]) -> T:
        """Send one call of `wattfare.calls`. Raises WattfareError."""
        try:
            response = await self._http.request(
                call.method,
                self._access.place(call),
                params=dict(call.query) or None,
                json=call.body,
                headers=self._access.headers(call),
            )
        except httpx.HTTPError as fault:
            raise WattfareNetworkError(f"{self._access.url} cannot be reached ({type(fault).__name__}).") from fault
        return self._access.answer(call, response.status_code, response.content)

    async def close(self) -> None:
        """Close all connections, including those of the model libraries."""
        await self._http.aclose()
        await self._libraries.aclose()

    async def __aenter__(self) -> "AsyncWattfare":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
