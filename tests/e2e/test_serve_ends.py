"""`limosa serve` notices an end that does not answer, whether or not anything is driven."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answering import Caller, free_port
from faults import HURRIED
from waiting import PATIENCE, until

from limosa import pings
from limosa.ends import Ends
from limosa.server.configuration import Configuration
from limosa.server.running import serve
from limosa.state import State
from limosa.storage.sqlite import SqliteStore
from limosa.testing.proxy import Proxy


def committed(folder: Path, ends: Ends) -> None:
    """Leave a migration that needs no engine."""
    with closing(SqliteStore.drive(folder, "m")) as store:
        store.update(
            lambda m: replace(
                m, state=State.COMMITTED, source=ends.source_id, target=ends.target_id
            )
        )


def test_an_end_that_does_not_answer(
    ends: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the history, on the page, and said on standard error; so is that it is back."""
    monkeypatch.setattr(pings.Pings.__init__, "__kwdefaults__", {"every": 0.1})
    said: list[str] = []
    stop = threading.Event()
    with Proxy(ends.target.replica_set.members[0].port) as proxy:
        target = f"mongodb://{proxy.address}/?{HURRIED}"
        committed(tmp_path / "s", Ends.of(ends.source.uri, target))
        asked = Configuration(
            cluster0=ends.source.uri, cluster1=target, port=free_port(), state=tmp_path / "s"
        )
        caller = Caller(f"http://127.0.0.1:{asked.port}")
        running = threading.Thread(
            target=serve, args=(asked,), kwargs={"stop": stop, "say": said.append}
        )
        running.start()
        try:
            until(lambda: answers(caller), "answer")
            until(lambda: is_gone(caller, "target") is False, "ping")
            proxy.refuse()
            proxy.cut()
            until(lambda: is_gone(caller, "target"), "silence")
            assert is_gone(caller, "source") is False
            proxy.heal()
            until(lambda: is_gone(caller, "target") is False, "answer")
            # A busy machine may have one more of each, at the first answer or the last.
            until(lambda: kinds(caller)[-1:] == ["EndReachable"], "entry")
            assert "EndUnreachable" in kinds(caller)
        finally:
            stop.set()
            running.join(PATIENCE)

    assert {"the target does not answer", "the target answers again"} <= kinds_of(said)


def answers(caller: Caller) -> bool:
    try:
        return caller.call("GET", "/healthz").status == 200
    except OSError:
        return False


def is_gone(caller: Caller, side: str) -> bool | None:
    """Return whether an end is shown as one that does not answer; None before anything is known."""
    progress = caller.progress()["progress"]["source" if side == "source" else "destination"]
    if "pingLatencyMs" not in (progress or {}):
        return None
    status = caller.call("GET", "/api/limosa/v1/status").json
    return bool(status["ends"][side]["isUnavailable"])


def kinds(caller: Caller) -> list[str]:
    found = caller.call("GET", "/api/limosa/v1/entries").json["entries"]
    return [e["kind"] for e in found if e["kind"] in ("EndUnreachable", "EndReachable")]


def kinds_of(said: list[str]) -> set[str]:
    """Return how lines begin."""
    return {line.partition(":")[0] for line in said}
