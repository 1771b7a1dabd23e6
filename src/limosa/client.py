"""A server of `limosa serve`, or mongosync itself, as seen from another program."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from .errors import ConfigError, LimosaError

Verb = Literal["start", "pause", "resume", "commit", "reverse"]

#: Where the calls are that mongosync does not have.
_OWN = "/api/limosa/v1"
_OK, _MISSING = 200, 404

#: Seconds for an answer: a start waits for both ends.
_TIMEOUT = 60.0


class ServerUnreachable(LimosaError):
    """There is no answer from the server, or not one of ours."""

    code = "server_unreachable"
    hint = "check the address and whether `limosa serve` runs there"


class ServerRefused(LimosaError):
    """The server has refused the call, for the reason that it gave."""

    code = "server_refused"


@dataclass(frozen=True, slots=True)
class Client:
    """Calls mongosync's API, and where it must our own, at *url*."""

    url: str
    token: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Client:
        """
        Return a client with the token of the environment variable ``LIMOSA_TOKEN``, if set.

        Raises:
            ConfigError: *url* is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            msg = f"expected the address of a server such as 'http://127.0.0.1:27182', got {url!r}"
            raise ConfigError(msg)
        return cls(url.rstrip("/"), os.environ.get("LIMOSA_TOKEN", ""))

    def progress(self) -> dict[str, Any]:
        """
        Return the whole answer, which holds ``progress`` also if the migration has failed.

        Raises:
            ServerUnreachable: there is none.
        """
        answer = self._call("GET", "/api/v1/progress")
        if "progress" not in answer:
            raise _refused(answer, doing="ask for the progress")
        return answer

    def call(self, verb: Verb, body: dict[str, Any] | None = None) -> None:
        """
        Return once the server has done what *verb* says.

        Raises:
            ServerRefused: it has not.
            ServerUnreachable: there is no answer.
        """
        answer = self._call("POST", f"/api/v1/{verb}", json.dumps(body or {}).encode())
        if not answer.get("success"):
            raise _refused(answer, doing=verb)

    def status(self) -> dict[str, Any] | None:
        """
        Return all that `limosa status --json` shows of the migration, and more.

        None from mongosync itself, which knows its progress only.

        Raises:
            ServerRefused: it is not told to the caller.
            ServerUnreachable: there is no answer.
        """
        code, answer = self._answer("GET", f"{_OWN}/status")
        if code == _MISSING:
            return None
        if code != _OK:
            raise _refused(answer, doing="ask for the status")
        return answer

    def throttle(self, limits: Mapping[str, Any]) -> dict[str, Any]:
        """
        Change the *limits* that are named, and return the status after it.

        Raises:
            ServerRefused: they are as they were.
            ServerUnreachable: there is no answer.
        """
        body = json.dumps(dict(limits)).encode()
        code, answer = self._answer("POST", f"{_OWN}/actions/throttle", body)
        if code != _OK:
            raise _refused(answer, doing="throttle")
        return answer

    def _call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        return self._answer(method, path, body)[1]

    def _answer(
        self, method: str, path: str, body: bytes | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return status code and body."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        request = urllib.request.Request(  # noqa: S310 - the scheme was checked
            self.url + path, data=body, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
                code, raw = response.status, response.read()
        except urllib.error.HTTPError as exc:
            code, raw = exc.code, exc.read()  # refused: the reason is in the body
        except OSError as exc:
            reason = getattr(exc, "reason", exc)
            msg = f"call {self.url}{path}: {reason}"
            raise ServerUnreachable(msg) from exc
        if code == _MISSING:
            return code, {"error": f"there is no {path} at {self.url}"}
        return code, self._parsed(path, raw)

    def _parsed(self, path: str, raw: bytes) -> dict[str, Any]:
        try:
            found = json.loads(raw)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            msg = f"call {self.url}{path}: expected an answer of mongosync's API, got another one"
            raise ServerUnreachable(msg)
        return found


def _refused(answer: dict[str, Any], *, doing: str) -> ServerRefused:
    why = answer.get("errorDescription") or answer.get("error") or "it did not say why"
    return ServerRefused(f"{doing}: {why}")
