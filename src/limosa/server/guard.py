"""
Who is let in, how often, and with which right.

A page of another site must not be able to steer somebody's migration through the visitor's
own machine, neither directly (`Origin`) nor by a name that it has resolve to a loopback address
(`Host`).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import socket
import stat
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import ConfigError, LimosaError
from .errors import ForeignOrigin, TooManyRequests, Unauthorized
from .routing import Json, refusal

#: Characters that a token must have: a guessed one is not to be found in a lifetime.
_TOKEN_LENGTH = 16
#: Addresses that are remembered for their rate.
_CLIENTS = 4096
#: What may be asked without a token: it tells nothing about any migration.
_OPEN = re.compile(r"/|/static/[^/]+|/docs(/.*)?|/openapi\.json|/healthz|/favicon\.ico")
_READING = {"GET", "HEAD", "OPTIONS"}

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    # No page of another site may embed what it may not ask for.
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'",
    ),
)


class Role(StrEnum):
    """What a token allows."""

    READER = "reader"
    OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Which tokens are known, by their digests, so that none is ever shown."""

    digests: tuple[tuple[Role, bytes], ...] = ()

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """
        Read lines of ``operator TOKEN`` and ``reader TOKEN``; ``#`` begins a comment.

        Raises:
            ConfigError: the file cannot be read or holds something else.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as exc:
            msg = f"read the token file {str(path)!r}: {exc}"
            raise ConfigError(msg) from exc
        found = [
            _token(path, number, words)
            for number, line in enumerate(lines, 1)
            if (words := line.partition("#")[0].split())
        ]
        if not found:
            msg = f"the token file {str(path)!r} holds no token"
            raise ConfigError(msg, hint="write lines such as `operator TOKEN` into it")
        return cls(tuple(found))

    def role(self, authorization: str) -> Role | None:
        """Return the right of who sends this header, found in constant time."""
        scheme, _, token = authorization.partition(" ")
        given = hashlib.sha256(token.strip().encode()).digest()
        found = None
        for role, digest in self.digests:
            if hmac.compare_digest(digest, given):
                found = role
        return found if scheme.lower() == "bearer" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a guard allows."""

    #: None: whoever reaches the port may do everything.
    tokens: Tokens | None = None
    #: Names beside ``localhost`` and this machine's own under which it may be addressed.
    hosts: frozenset[str] = frozenset()
    #: Requests of one address: a second on average, and at once.
    rate: float = 2000.0
    burst: float = 4000.0

    @classmethod
    def of(cls, *, tokens: Tokens | None = None, hosts: Iterable[str] = ()) -> Rules:
        """Return rules that also know this machine's own names."""
        own = {socket.gethostname().lower(), *(host.lower() for host in hosts)}
        return cls(tokens=tokens, hosts=frozenset(own))


class Guard:
    """Passes on the requests that its rules allow, and answers the others."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        self._rates = _Rates(rules.rate, rules.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        if "//" in scope["path"]:  # some clients write //start for /start
            scope["path"] = re.sub(r"/{2,}", "/", scope["path"])
        scope["raw_path"] = None

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                given = {name for name, _ in headers}
                message["headers"] = [*headers, *(h for h in _HEADERS if h[0] not in given)]
            await send(message)

        try:
            scope["limosa.role"] = self._admitted(scope)
        except LimosaError as error:
            answer = Json(refusal(error), status_code=_STATUS.get(type(error), 403))
            if isinstance(error, Unauthorized):
                answer.headers["WWW-Authenticate"] = 'Bearer realm="limosa"'
            await answer(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _admitted(self, scope: Scope) -> Role:
        """
        Return with which right the request is let in.

        Raises:
            LimosaError: it is not.
        """
        headers = Headers(scope=scope)
        client = scope.get("client")
        if not self._rates.allow(client[0] if client else ""):
            msg = f"more than {self._rules.rate:g} requests a second came from one address"
            raise TooManyRequests(msg)
        self._check_host(headers)
        _check_origin(headers, scope)
        if self._rules.tokens is None:
            return Role.OPERATOR
        role = self._rules.tokens.role(headers.get("authorization", ""))
        is_reading = scope["method"] in _READING
        if role is None and is_reading and _OPEN.fullmatch(scope["path"]):
            return Role.READER
        if role is None:
            msg = "no known token came with the request"
            raise Unauthorized(msg)
        if not is_reading and role is not Role.OPERATOR:
            msg = "the token is a reader's; this needs an operator's"
            raise Unauthorized(msg)
        return role

    def _check_host(self, headers: Headers) -> None:
        hosts = headers.getlist("host")
        if not hosts:
            return  # no browser leaves it out
        name = _host_name(hosts[0])
        if len(hosts) > 1 or name is None or not (_is_plain(name) or name in self._rules.hosts):
            msg = f"the request is addressed to {hosts[0][:100]!r}, which is not this server"
            raise ForeignOrigin(msg)


class _Rates:
    """A bucket of tokens for each address; the one that was seen longest ago is forgotten."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, client: str) -> bool:
        now = time.monotonic()
        left, at = self._buckets.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        self._buckets[client] = (max(0.0, left - 1.0), now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return left >= 1.0


_STATUS: dict[type[LimosaError], int] = {
    Unauthorized: 401,
    ForeignOrigin: 403,
    TooManyRequests: 429,
}


def _token(path: Path, number: int, words: list[str]) -> tuple[Role, bytes]:
    if len(words) != 2 or words[0] not in set(Role) or len(words[1]) < _TOKEN_LENGTH:
        # The line itself may hold a secret.
        msg = (
            f"line {number} of the token file {str(path)!r}: expected 'operator TOKEN' or "
            f"'reader TOKEN' with a token of at least {_TOKEN_LENGTH} characters"
        )
        raise ConfigError(msg)
    return Role(words[0]), hashlib.sha256(words[1].encode()).digest()


def is_private(path: Path) -> bool:
    """Whether nobody but its owner and group may read *path*."""
    return not path.stat().st_mode & stat.S_IROTH


def _check_origin(headers: Headers, scope: Scope) -> None:
    """Refuse what a page of another site has sent."""
    origin = headers.get("origin")
    if origin is not None:
        parts = urlsplit(origin)
        if (parts.scheme, parts.netloc.lower()) != (
            scope["scheme"],
            headers.get("host", "").lower(),
        ):
            msg = f"the request comes from a page of {origin[:100]!r}"
            raise ForeignOrigin(msg)
        return
    site = headers.get("sec-fetch-site", "none")
    if scope["method"] not in _READING and site not in ("none", "same-origin"):
        msg = "the request comes from a page of another site"
        raise ForeignOrigin(msg)


def _host_name(host: str) -> str | None:
    """Return the name or address in a ``Host`` header, without port and brackets."""
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[A-Za-z0-9._-]+)(:\d*)?", host)
    return found[1].strip("[]").rstrip(".").lower() if found else None


def _is_plain(name: str) -> bool:
    """Whether *name* needs no resolving, so that nobody can have it resolve to this machine."""
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
