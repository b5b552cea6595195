"""Typed access to environment variables.

Rule: a missing or malformed value raises one line that names the variable and says what to do. The line never repeats
the value, which may be a key.
"""

import re
import ssl
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from gateway import redis_url
from gateway.redis_url import is_host

ENV_FILE = "WATTFARE_ENV_FILE"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPENROUTER = "https://openrouter.ai"
_INTEGER = re.compile(r"[0-9]{1,9}")
_USD = re.compile(r"[0-9]{1,6}(\.[0-9]{1,9})?")
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")


class SettingsError(ValueError):
    """One line that names a variable and says what to do, without its value."""


def with_file(variables: Mapping[str, str]) -> Mapping[str, str]:
    """Return the variables plus those of the file WATTFARE_ENV_FILE, if set: lines of NAME=value. Raises SettingsError.

    The supervisor reads the file again on SIGHUP; the environment of a running process cannot be changed.
    """
    path = variables.get(ENV_FILE, "").strip()
    if not path:
        return variables
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError):
        raise SettingsError(f"{ENV_FILE} names a file that cannot be read.") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if not name or name.startswith("#"):
            continue
        if not equals or not _NAME.fullmatch(name):
            raise SettingsError(f"{ENV_FILE} is malformed at line {number}; write NAME=value.")
        if name in found or variables.get(name, "").strip():
            raise SettingsError(f"{name} stands twice: in {ENV_FILE} and there again or in the environment; keep one.")
        found[name] = value.strip().strip("'\"")
    return {**variables, **found}


class Environment:
    """Typed variables. An empty one counts as absent, since compose files set such. Raises SettingsError."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def text(self, name: str) -> str | None:
        value = self._variables.get(name, "").strip()
        if "\0" in value:
            raise SettingsError(f"{name} holds a NUL character; remove it.")
        return value or None

    def starting(self, prefix: str) -> dict[str, str]:
        """Return all variables whose names begin so, and that are not empty."""
        found = {name: self.text(name) for name in self._variables if name.startswith(prefix)}
        return {name: value for name, value in found.items() if value is not None}

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        value = self.text(name) or default
        if value not in choices:
            raise SettingsError(f"{name} must be {' or '.join(choices)}; set one of them or leave it out.")
        return value

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.text(name)
        if value is None:
            return default
        if not _INTEGER.fullmatch(value) or not least <= int(value) <= most:
            raise SettingsError(f"{name} must be a whole number from {least} to {most}; the default is {default}.")
        return int(value)

    def usd(self, name: str, default: int, *, most: int) -> Decimal:
        """Return an exact amount of US dollars."""
        value = self.text(name)
        usd = Decimal(default if value is None else value if _USD.fullmatch(value) else 0)
        if not 0 < usd <= most:
            raise SettingsError(
                f"{name} must be an amount of US dollars above 0, at most {most}; the default is {default}."
            )
        return usd

    def seconds(self, name: str, default: float, *, zero: bool = False) -> float:
        value = self.text(name)
        if value is None:
            return default
        if not _SECONDS.fullmatch(value) or (float(value) == 0 and not zero):
            wanted = "a number of seconds, 0 or more" if zero else "a number of seconds above 0"
            raise SettingsError(f"{name} must be {wanted}, such as 5 or 0.5; the default is {default:g}.")
        return float(value)

    def host(self, name: str, default: str) -> str:
        value = self.text(name) or default
        if not is_host(value):
            raise SettingsError(
                f"{name} must be an IP address or a host name, without a port; the default is {default}."
            )
        return value

    def web_url(self, name: str, default: str) -> str:
        value = (self.text(name) or default).rstrip("/")
        parts = _split(value)
        if parts is None or parts.scheme not in ("http", "https") or parts.username is not None:
            raise SettingsError(
                f"{name} must be an http:// or https:// URL without user or password, such as {default}."
            )
        if "?" in value or "#" in value:
            raise SettingsError(f"{name} must have no query and no fragment, such as {default}.")
        return value

    def optional_url(self, name: str) -> str | None:
        return self.web_url(name, "https://host.example") if self.text(name) else None

    def line(self, name: str, default: str, *, most: int) -> str:
        """Return one line of text for people to read."""
        value = self.text(name) or default
        if len(value) > most or not value.isprintable():
            raise SettingsError(f"{name} must be at most {most} characters on one line.")
        return value

    def link(self, name: str) -> str | None:
        """Return a web page's URL or a mailto: address. The variable's name may leave out OPERATOR_."""
        value = self.text(name) or self.text(name.replace("OPERATOR_", ""))
        if value is None or re.fullmatch(r"mailto:[^\s@]+@[^\s@]+", value):
            return value
        parts = _split(value)
        if parts is None or parts.scheme not in ("http", "https") or parts.username is not None:
            raise SettingsError(f"{name} must be an http:// or https:// URL, or mailto: with an address.")
        return value

    def proxy_for(self, url: str) -> str | None:
        """Return the proxy for `url` by HTTPS_PROXY and NO_PROXY (or in lower case). None for an http:// URL."""
        target = urlsplit(url)
        value = self.text("HTTPS_PROXY") or self.text("https_proxy")
        if value is None or target.scheme != "https":
            return None
        host = target.hostname or ""
        for item in (self.text("NO_PROXY") or self.text("no_proxy") or "").lower().split(","):
            suffix = item.strip().partition(":")[0].lstrip("*.")
            if item.strip() == "*" or (suffix and (host == suffix or host.endswith(f".{suffix}"))):
                return None
        parts = _split(value)
        if parts is None or parts.scheme != "http":
            raise SettingsError(
                "HTTPS_PROXY must be the http:// URL of a proxy, such as http://user:password@proxy:3128."
            )
        return value

    def openrouter_url(self, name: str) -> str:
        """Return the base URL of OpenRouter, below which the API is at /api/v1; that path is removed if given."""
        value = self.web_url(name, _OPENROUTER).removesuffix("/api/v1").rstrip("/")
        parts = urlsplit(value)
        has_path = parts.path and (parts.hostname or "").removeprefix("www.") == urlsplit(_OPENROUTER).hostname
        if has_path or parts.path.endswith(("/api", "/v1")):
            raise SettingsError(f"{name} has a path that OpenRouter does not have; write {_OPENROUTER} and no more.")
        return value

    def origin(self, name: str, default: str, *, production: bool) -> str:
        """Return an origin as a browser serialises it: lower case, no default port, no path (RFC 6454 §6.1).

        In production it must be set, and be https.
        """
        if production and self.text(name) is None:
            raise SettingsError(f"{name} is missing; production needs the https:// origin that browsers see.")
        parts = urlsplit(self.web_url(name, default))
        if parts.path:
            raise SettingsError(
                f"{name} must be an origin alone, scheme://host[:port] with no path, such as {default}."
            )
        host = parts.hostname or ""
        if production and parts.scheme != "https":
            raise SettingsError(f"{name} must start with https:// when WATTFARE_ENV is production.")
        shown = f"[{host}]" if ":" in host else host
        standard = {"http": 80, "https": 443}[parts.scheme]
        return f"{parts.scheme}://{shown}" + ("" if parts.port in (None, standard) else f":{parts.port}")

    def redis_url(self, *, required: bool) -> str | None:
        value = self.text("REDIS_URL")
        if value is None:
            if required:
                raise SettingsError(f"REDIS_URL is missing; production needs a Redis of its own: {redis_url.FORMS}.")
            return None
        try:
            redis_url.parse(value).tls()
        except (ValueError, OSError):
            raise SettingsError(f"REDIS_URL is malformed; write {redis_url.FORMS}.") from None
        return value

    def redis_ca_file(self, url: str | None) -> Path | None:
        value = self._for_tls("WATTFARE_REDIS_CA_FILE", url)
        if value is None:
            return None
        path = Path(value).expanduser().absolute()
        try:
            ssl.create_default_context(cafile=path)
        except OSError:
            raise SettingsError("WATTFARE_REDIS_CA_FILE is no file of certificates; name a PEM file.") from None
        return path

    def redis_self_signed(self, url: str | None) -> bool:
        name = "WATTFARE_REDIS_SELF_SIGNED"
        is_on = self.choice(name, "off", ("on", "off")) == "on"
        if is_on and self._for_tls(name, url) and self.text("WATTFARE_REDIS_CA_FILE"):
            raise SettingsError(f"{name} trusts any certificate; leave it or WATTFARE_REDIS_CA_FILE out.")
        return is_on

    def _for_tls(self, name: str, url: str | None) -> str | None:
        value = self.text(name)
        if value is not None and (url is None or not redis_url.parse(url).is_tls):
            raise SettingsError(f"{name} is for a Redis behind TLS; write rediss:// in REDIS_URL, or leave it out.")
        return value


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL that has a host and, if any, a valid port; else None."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", url):
        return None
    try:
        parts = urlsplit(url)
        valid_port = parts.port != 0
    except ValueError:
        return None
    return parts if valid_port and parts.hostname and is_host(parts.hostname) else None
