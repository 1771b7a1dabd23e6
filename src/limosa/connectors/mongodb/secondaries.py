"""Reading whole collections from secondaries, where the connection string or a person says so."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from pymongo.uri_parser import parse_uri

from ...errors import ConnectionLost, TransientError
from ...model import Batch
from ...settings import ReadFrom
from .deployment import Deployment

#: Seconds for which a member that failed is left alone.
_AVOID_SECONDS = 30.0
_MODES = frozenset({"secondary", "secondaryPreferred", "nearest"})
_PREFERENCE = frozenset({"readpreference", "readpreferencetags", "maxstalenessseconds"})
_PARTS = re.compile(r"(mongodb(?:\+srv)?)://([^@/?]*@)?[^/?]*(/[^?]*)?(?:\?(.*))?", re.DOTALL)
#: Of a set, not of one member; or about choosing one, which is done here.
_OF_THE_SET = frozenset(
    {
        *("replicaset", *_PREFERENCE),
        *("directconnection", "srvmaxhosts", "srvservicename", "loadbalanced"),
    }
)


class Secondaries:
    """
    Lends a deployment to read from: a secondary if ``readPreference`` says so.

    Whoever reads from one must ask for a majority's state not older than what the primary has
    said: a secondary answers once it has that.
    """

    def __init__(self, uri: str, primary: Deployment) -> None:
        self._uri = uri
        self._primary = primary
        self._direct: dict[str, Deployment] = {}
        self._avoided: dict[str, float] = {}  # until when
        self._lock = threading.Lock()

    @cached_property
    def are_wanted(self) -> bool:
        return self._mode in _MODES

    @cached_property
    def _mode(self) -> str:
        mode: str = self._options.get("readPreference", "primary")
        return mode

    @cached_property
    def _options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = parse_uri(self._uri)["options"]
        return options

    def read(self, read: Callable[[Deployment], Iterator[Batch]]) -> Iterator[Batch]:
        """
        Yield what *read* yields from one member.

        Raises:
            TransientError: among others, that member failed; the next call chooses another one.
        """
        if not self.are_wanted:
            yield from read(self._primary)
            return
        address, deployment = self._chosen()
        try:
            yield from read(deployment)
        except TransientError:
            with self._lock:
                self._avoided[address] = time.monotonic() + _AVOID_SECONDS
            raise

    def close(self) -> None:
        """Close all connections to single members."""
        with self._lock:
            for deployment in self._direct.values():
                deployment.close()

    def _chosen(self) -> tuple[str, Deployment]:
        now = time.monotonic()
        tags = self._options.get("readPreferenceTags") or [{}]
        with self._lock:
            avoided = {a for a, until in self._avoided.items() if until > now}
            usable = [a for a in self._primary.secondaries(tags) if a not in avoided]
            if usable:
                address = random.choice(usable)  # noqa: S311 - spreads load
                if address not in self._direct:
                    self._direct[address] = Deployment(at_member(self._uri, address))
                return address, self._direct[address]
        if self._mode == "secondary":
            msg = f"{self._primary.identity}: no secondary with the tags asked for is there"
            raise ConnectionLost(msg)
        return "", self._primary


def reading_from(uri: str, whom: ReadFrom) -> str:
    """Return *uri* with a ``readPreference`` for *whom*; one that wants secondaries stays."""
    place, _, query = uri.partition("?")
    given = [(o.partition("=")[0].lower(), o) for o in query.split("&") if o]
    if whom is ReadFrom.PRIMARY:
        kept = [o for name, o in given if name not in _PREFERENCE]
    elif any(n == "readpreference" and o.partition("=")[2] in _MODES for n, o in given):
        return uri
    else:
        kept = [o for name, o in given if name != "readpreference"]
        kept.append("readPreference=secondaryPreferred")
    separator = "" if "/" in place.partition("://")[2] else "/"
    return f"{place}{separator}?{'&'.join(kept)}" if kept else place


def at_member(uri: str, address: str) -> str:
    """Return *uri* for one member alone, with the same credentials and options."""
    found = _PARTS.fullmatch(uri)
    assert found is not None, "it was parsed before"
    scheme, user, database, query = found.groups(default="")
    kept = [o for o in query.split("&") if o and o.partition("=")[0].lower() not in _OF_THE_SET]
    if scheme == "mongodb+srv":
        kept += _from_records(uri, {o.partition("=")[0].lower() for o in kept})
    return (
        f"mongodb://{user}{address}{database or '/'}?{'&'.join([*kept, 'directConnection=true'])}"
    )


def _from_records(uri: str, given: set[str]) -> list[str]:
    """Return what stands for a server list in the DNS: encryption, and what its records add."""
    options: Mapping[str, Any] = parse_uri(uri)["options"]
    more = {"tls": "true"} if not given & {"tls", "ssl"} else {}
    if "authSource" in options and "authsource" not in given:
        more["authSource"] = options["authSource"]
    return [urlencode({name: value}) for name, value in more.items()]
