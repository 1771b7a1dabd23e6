"""What the dashboard shows of a state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from limosa.canonical import key_for
from limosa.cli.listening import ANYWHERE, completed, place
from limosa.errors import ConfigError
from limosa.history import Sample
from limosa.model import Mismatch, MismatchKind, Namespace
from limosa.state import Failure, Migration, State, Totals
from limosa.steps import StepProgress
from limosa.views.dashboard import (
    Reading,
    controls,
    dashboard_body,
    headline,
    history_body,
    mismatches_body,
)
from limosa.views.status import Status

NOW = datetime(2024, 5, 1, 12, 0, 0, tzinfo=UTC)
PLANNED = Migration("m", state=State.RUNNING, planned_at=NOW - timedelta(hours=1))
COPIED = replace(PLANNED, copied_at=NOW - timedelta(minutes=9), indexed_at=NOW)
CONSISTENT = replace(COPIED, applied_to=NOW, captured_to=NOW)
READY = replace(CONSISTENT, verified_at=NOW)


def reading(migration: Migration, **more: Any) -> Reading:
    totals = more.pop("totals", Totals(documents=1_000, partitions=4))
    driven = more.pop("is_driven", True)
    steps = more.pop("steps", ())
    status = Status(migration, totals, NOW, is_driven=driven, steps=steps)
    return Reading(status=status, state=more.pop("state", migration.state), **more)


def samples(*documents: int) -> list[Sample]:
    """One a second, the last one now."""
    last = len(documents) - 1
    return [
        Sample(at=NOW - timedelta(seconds=last - i), phase="collection copy", documents_copied=n)
        for i, n in enumerate(documents)
    ]


@pytest.mark.parametrize(
    ("migration", "words"),
    [
        (Migration("m"), "Not started"),
        (Migration("m", state=State.RUNNING), "Planning"),
        (PLANNED, "Copying collections"),
        (replace(COPIED, indexed_at=None), "Building indexes"),
        (COPIED, "Catching up"),
        (CONSISTENT, "Verifying"),
        (READY, "Ready to commit"),
        (replace(READY, state=State.COMMITTING), "Committing"),
        (replace(READY, state=State.COMMITTED), "Committed"),
        (replace(PLANNED, state=State.PAUSED), "Paused"),
        (replace(PLANNED, state=State.FAILED), "Stopped by an error"),
    ],
)
def test_headline(migration: Migration, words: str) -> None:
    """Each stage has its words."""
    assert headline(reading(migration)) == words


def test_nobody_drives() -> None:
    """A migration that should run and does not is called so."""
    seen = dashboard_body(reading(PLANNED, is_driven=False))

    assert seen["headline"] == "Interrupted"
    assert "run the same command again" in seen["advice"]


@pytest.mark.parametrize(
    ("state", "words"), [(State.RUNNING, "Starting up"), (State.REVERSING, "Reversing")]
)
def test_somebody_is_about_to_drive(state: State, words: str) -> None:
    """While the server starts a process that drives, nobody is asked to."""
    seen = dashboard_body(reading(replace(PLANNED, state=state), is_driven=False, is_kept=True))

    assert seen["headline"] == words
    assert seen["advice"] == "The process that drives it is starting."


@pytest.mark.parametrize(
    ("gave_up", "words"), [(False, "Waiting for the next attempt"), (True, "Stopped by an error")]
)
def test_between_two_attempts(gave_up: bool, words: str) -> None:
    """What a run tries again by itself is no person's business yet."""
    step = StepProgress("message", 2, attempts=1, last_error="oh", gave_up=gave_up, began_at=NOW)
    failure = Failure("hook_failed", "oh", "run the same command again")
    failed = replace(PLANNED, state=State.FAILED, failure=failure)
    seen = dashboard_body(reading(failed, failure=failure, steps=[step], drives=False))

    assert seen["headline"] == words
    assert ("by itself" in seen["advice"]) is not gave_up
    assert seen["failure"]["message"] == "oh"
    assert not seen["controls"]["resume"]["enabled"]


def test_failure_of_the_driving_process() -> None:
    """A failure that no state holds is shown, with its hint as a sentence."""
    failure = Failure("engine_ended", "it ended", "see whether it was killed")
    seen = dashboard_body(reading(PLANNED, state=State.FAILED, failure=failure))

    assert seen["state"] == "FAILED"
    assert seen["failure"]["code"] == "engine_ended"
    assert seen["advice"] == "See whether it was killed."
    assert seen["controls"]["resume"]["enabled"]


@pytest.mark.parametrize(
    ("migration", "enabled"),
    [
        (Migration("m"), {"start"}),
        (PLANNED, {"pause", "throttle"}),
        (CONSISTENT, {"pause", "throttle"}),
        (READY, {"pause", "throttle", "commit"}),
        (replace(READY, state=State.PAUSED), {"resume", "throttle"}),
        (replace(READY, state=State.COMMITTING), {"throttle"}),
        (replace(READY, state=State.COMMITTED), set()),
    ],
)
def test_controls(migration: Migration, enabled: set[str]) -> None:
    """A verb can be pressed exactly when it would be accepted, and else says why not."""
    found = controls(reading(migration))

    assert {verb for verb, how in found.items() if how["enabled"]} == enabled
    assert all(bool(how["reason"]) != how["enabled"] for how in found.values())


def test_commit_is_not_offered_far_behind() -> None:
    """A commit that would be refused for its lag is not offered."""
    behind = replace(READY, applied_to=NOW - timedelta(seconds=31))
    seen = dashboard_body(reading(behind, most_lag=timedelta(seconds=30)))

    assert not seen["canCommit"]
    assert seen["controls"]["commit"]["reason"] == "the target is too far behind"
    assert seen["headline"] == "Catching up"


def test_readers_only_look() -> None:
    """Who may not steer has no verb."""
    found = controls(reading(READY, may_steer=False))

    assert not any(how["enabled"] for how in found.values())


def test_rates_and_time_left() -> None:
    """Rates are those of the last seconds, and the time left follows from them."""
    seen = dashboard_body(reading(PLANNED, recent=samples(0, 100, 200, 300)))["progress"]

    assert seen["copiedDocuments"] == 300
    assert seen["documentsPerSecond"] == 100
    assert seen["remainingSeconds"] == 7
    assert seen["fractionCopied"] == 0.3


def test_rates_of_what_is_paused() -> None:
    """What was copied just before a pause is no rate; changes go on being captured."""
    recent = [replace(s, events_captured=10 * i) for i, s in enumerate(samples(0, 100, 200))]
    paused = replace(PLANNED, state=State.PAUSED)
    seen = dashboard_body(reading(paused, recent=recent))["progress"]

    assert seen["documentsPerSecond"] == 0
    assert seen["bytesPerSecond"] == 0
    assert seen["eventsCapturedPerSecond"] == 10


def test_nothing_moves_without_samples() -> None:
    """Old samples say nothing about now."""
    old = [replace(s, at=s.at - timedelta(minutes=5)) for s in samples(0, 100, 200)]
    seen = dashboard_body(reading(PLANNED, recent=old))["progress"]

    assert seen["documentsPerSecond"] == 0
    assert seen["remainingSeconds"] is None


def test_the_copy_is_complete_when_the_state_says_so() -> None:
    """More documents than estimated are not all of them yet."""
    seen = dashboard_body(reading(PLANNED, totals=Totals(documents=10, documents_copied=99)))

    assert seen["progress"]["fractionCopied"] == 0.999


def test_samples_have_their_columns() -> None:
    """Each sample is a row as long as the columns."""
    body = history_body(samples(1, 2))

    assert [len(row) for row in body["samples"]] == [len(body["columns"])] * 2
    assert body["samples"][1][0] == NOW.timestamp()


def test_keys_are_for_those_who_steer() -> None:
    """The keys of mismatches are left out for others."""
    found = [Mismatch(MismatchKind.EXTRA, Namespace("shop", "people"), key_for("secret"))]

    assert "secret" in str(mismatches_body(found, with_keys=True))
    assert "secret" not in str(mismatches_body(found, with_keys=False))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["migrate", "--listen", "a://x", "b://y"], ["--listen", ANYWHERE, "a://x", "b://y"]),
        (["migrate", "a://x", "b://y", "--listen"], ["a://x", "b://y", "--listen", ANYWHERE]),
        (["migrate", "--listen", "8080", "a://x"], ["--listen", "8080", "a://x"]),
        (["migrate", "--listen", "localhost:8080"], ["--listen", "localhost:8080"]),
        (["migrate", "--listen=8080", "--json"], ["--listen=8080", "--json"]),
    ],
)
def test_listen_alone(typed: list[str], meant: list[str]) -> None:
    """`--listen` needs no address, and takes none of the URIs for one."""
    assert completed(typed) == ["migrate", *meant]


def test_places() -> None:
    """An address is this machine's, with any port but an impossible one."""
    assert place(ANYWHERE).may_move
    assert (place("8080").host, place("8080").port) == ("127.0.0.1", 8080)
    assert place("[::1]:0").host == "::1"
    for refused in ("0.0.0.0:80", "example.com:80", "127.0.0.1:70000", "here", "[::]:80"):
        with pytest.raises(ConfigError):
            place(refused)
