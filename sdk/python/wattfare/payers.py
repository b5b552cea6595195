"""Payers (a user of the app, or a visitor's grant), and model libraries configured to charge them.

Rule: a library is imported on first use, and its connections are shared by all payers of one client.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from wattfare import calls
from wattfare.answers import ConnectionStatus, GrantStatus, Session
from wattfare.calls import Access
from wattfare.errors import WattfareError

if TYPE_CHECKING:
    from anthropic import Anthropic, AsyncAnthropic
    from openai import AsyncOpenAI, OpenAI

    from wattfare.client import AsyncWattfare, Wattfare


class Libraries:
    """OpenAI's and Anthropic's clients, one of each kind, created on first use."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._made: dict[str, Any] = {}

    def openai(self, kind: str, headers: dict[str, str], options: dict[str, Any]) -> Any:
        """Return an `OpenAI` or `AsyncOpenAI` (`kind`) with these headers."""
        return self._set_up("openai", kind, f"{self._access.url}/v1", headers, options)

    def anthropic(self, kind: str, headers: dict[str, str], options: dict[str, Any]) -> Any:
        """Return an `Anthropic` or `AsyncAnthropic` (`kind`) with these headers."""
        client = self._set_up("anthropic", kind, self._access.url, headers, options)
        # Do not send the environment's ANTHROPIC_AUTH_TOKEN.
        client.auth_token = None
        return client

    def _set_up(self, package: str, kind: str, url: str, headers: dict[str, str], options: dict[str, Any]) -> Any:
        if kind not in self._made:
            try:
                library = import_module(package)
            except ImportError:
                raise WattfareError(f"This needs the package {package}: pip install 'wattfare[{package}]'") from None
            self._made[kind] = getattr(library, kind)(api_key=self._access.secret_key, base_url=url)
        # with_options returns a copy that shares the connections.
        given = options.pop("default_headers", {})
        return self._made[kind].with_options(default_headers={**given, **headers}, **options)

    def close(self) -> None:
        """Close the connections of the synchronous clients."""
        for kind in ("OpenAI", "Anthropic"):
            if kind in self._made:
                self._made[kind].close()

    async def aclose(self) -> None:
        """Close all connections."""
        self.close()
        for kind in ("AsyncOpenAI", "AsyncAnthropic"):
            if kind in self._made:
                await self._made[kind].close()


class Payer:
    """A payer, identified by one request header."""

    def __init__(self, libraries: Libraries, headers: Callable[[], dict[str, str]]) -> None:
        self._libraries = libraries
        self._headers = headers

    @property
    def headers(self) -> dict[str, str]:
        """The header that identifies this payer, for use with your own client."""
        return self._headers()

    def openai(self, **options: Any) -> "OpenAI":
        """Return OpenAI's client, charged to this payer; `options`: its own. Needs `wattfare[openai]`."""
        client: OpenAI = self._libraries.openai("OpenAI", self.headers, options)
        return client

    def async_openai(self, **options: Any) -> "AsyncOpenAI":
        """Return OpenAI's asynchronous client, charged to this payer."""
        client: AsyncOpenAI = self._libraries.openai("AsyncOpenAI", self.headers, options)
        return client

    def anthropic(self, **options: Any) -> "Anthropic":
        """Return Anthropic's client, charged to this payer; `options`: its own. Needs `wattfare[anthropic]`."""
        client: Anthropic = self._libraries.anthropic("Anthropic", self.headers, options)
        return client

    def async_anthropic(self, **options: Any) -> "AsyncAnthropic":
        """Return Anthropic's asynchronous client, charged to this payer."""
        client: AsyncAnthropic = self._libraries.anthropic("AsyncAnthropic", self.headers, options)
        return client


class User(Payer):
    """A user of the app."""

    def __init__(self, client: "Wattfare", libraries: Libraries, user_id: str) -> None:
        self._client = client
        self.id = calls.checked(user_id)
        super().__init__(libraries, lambda: {calls.USER_HEADER: calls.in_header(user_id)})

    def status(self) -> ConnectionStatus:
        """Return the user's connection; a user who never connected is no error."""
        return self._client.send(calls.status(self.id))

    def create_session(self, *, monthly_usd: float | None = None, user_label: str | None = None) -> Session:
        """Return a session for this user's page; see `Wattfare.create_session`."""
        return self._client.create_session(self.id, monthly_usd=monthly_usd, user_label=user_label)

    def disconnect(self) -> None:
        """End the connection immediately."""
        self._client.send(calls.disconnect(self.id))


class AsyncUser(Payer):
    """A user of the app, for asyncio."""

    def __init__(self, client: "AsyncWattfare", libraries: Libraries, user_id: str) -> None:
        self._client = client
        self.id = calls.checked(user_id)
        super().__init__(libraries, lambda: {calls.USER_HEADER: calls.in_header(user_id)})

    async def status(self) -> ConnectionStatus:
        """Return the user's connection; a user who never connected is no error."""
        return await self._client.send(calls.status(self.id))

    async def create_session(self, *, monthly_usd: float | None = None, user_label: str | None = None) -> Session:
        """Return a session for this user's page; see `AsyncWattfare.create_session`."""
        return await self._client.create_session(self.id, monthly_usd=monthly_usd, user_label=user_label)

    async def disconnect(self) -> None:
        """End the connection immediately."""
        await self._client.send(calls.disconnect(self.id))


class Grant(Payer):
    """A grant: a few requests approved by a visitor without an account."""

    def __init__(self, client: "Wattfare", libraries: Libraries, token: str) -> None:
        self._client = client
        self._token = token
        super().__init__(libraries, lambda: {calls.GRANT_HEADER: token})

    def status(self) -> GrantStatus:
        """Return the grant's state. Raises WattfareGrantError."""
        return self._client.send(calls.grant_status(self._token))


class AsyncGrant(Payer):
    """A grant, for asyncio."""

    def __init__(self, client: "AsyncWattfare", libraries: Libraries, token: str) -> None:
        self._client = client
        self._token = token
        super().__init__(libraries, lambda: {calls.GRANT_HEADER: token})

    async def status(self) -> GrantStatus:
        """Return the grant's state. Raises WattfareGrantError."""
        return await self._client.send(calls.grant_status(self._token))
