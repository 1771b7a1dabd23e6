"""What an operator may do, and what the engine is doing, at each point of a migration."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limosa.errors import IllegalTransition, PositionLost
from limosa.model import ResumeToken
from limosa.state import Failure, Migration, Phase, State

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=1)

TIMES = st.one_of(st.none(), st.integers(0, 9).map(lambda s: NOON + timedelta(seconds=s)))
MIGRATIONS = st.builds(
    Migration,
    st.just("m"),
    state=st.sampled_from(State),
    settings=st.sampled_from([{}, {"verify": True}, {"verify": False}]),
    planned_at=TIMES,
    copied_at=TIMES,
    indexed_at=TIMES,
    applied_to=TIMES,
    verified_at=TIMES,
    commit_at=TIMES,
    writable_at=TIMES,
)

ALLOWED = {
    (State.IDLE, State.RUNNING),
    (State.RUNNING, State.PAUSED),
    (State.RUNNING, State.COMMITTING),
    (State.RUNNING, State.FAILED),
    (State.PAUSED, State.RUNNING),
    (State.PAUSED, State.FAILED),
    (State.COMMITTING, State.COMMITTED),
    (State.COMMITTING, State.FAILED),
    (State.COMMITTED, State.REVERSING),
    (State.REVERSING, State.RUNNING),
    (State.REVERSING, State.FAILED),
    (State.FAILED, State.RUNNING),
}

#: Copied, applied up to the end of the copy, and verified.
READY = Migration(
    "m",
    State.RUNNING,
    planned_at=NOON,
    copied_at=NOON,
    indexed_at=NOON,
    applied_to=NOON,
    verified_at=NOON,
)


@pytest.mark.parametrize("before", State)
@pytest.mark.parametrize("after", State)
def test_moves(before: State, after: State) -> None:
    """The table of moves allows these, and no others."""
    migration = Migration("m", before)

    if (before, after) in ALLOWED:
        assert migration.moved_to(after).state is after
    else:
        with pytest.raises(IllegalTransition, match=f"from {before} to {after}"):
            migration.moved_to(after)


def test_failure_is_forgotten() -> None:
    """A failure is kept as long as the migration has failed."""
    failed = READY.moved_to(State.FAILED, failure=Failure.of(PositionLost("gone")))

    assert failed.failure == Failure("position_lost", "gone", PositionLost.hint)
    assert failed.moved_to(State.RUNNING).failure is None


def test_commit() -> None:
    """A migration that is consistent and verified can be committed."""
    committing = READY.committing()

    assert READY.can_commit
    assert committing.state is State.COMMITTING
    assert committing.commit_at is None
    assert not committing.is_drained


@pytest.mark.parametrize(
    ("migration", "reason"),
    [
        (replace(READY, copied_at=None), "the initial sync is not complete"),
        (replace(READY, copied_at=LATER), "the initial sync is not complete"),
        (replace(READY, applied_to=None), "the initial sync is not complete"),
        (replace(READY, verified_at=None), "the verification is not complete"),
        (replace(READY, state=State.IDLE), "from IDLE to COMMITTING"),
        (replace(READY, state=State.PAUSED), "from PAUSED to COMMITTING"),
        (replace(READY, state=State.FAILED), "from FAILED to COMMITTING"),
        (replace(READY, state=State.COMMITTED), "from COMMITTED to COMMITTING"),
    ],
)
def test_commit_too_early(migration: Migration, reason: str) -> None:
    """A commit that would lose something, or has no meaning, is refused with the reason."""
    assert not migration.can_commit
    with pytest.raises(IllegalTransition, match=reason):
        migration.committing()


def test_commit_without_verification() -> None:
    """Who asked for no verification does not wait for one."""
    assert replace(READY, verified_at=None, settings={"verify": False}).can_commit


def test_commit_again() -> None:
    """A commit that failed is asked for anew: what was written meanwhile is drained as well."""
    failed = replace(READY, state=State.COMMITTING, commit_at=NOON).moved_to(State.FAILED)

    again = failed.moved_to(State.RUNNING).committing()

    assert again.commit_at is None


def test_drained() -> None:
    """A commit is drained once all that was written before it is on the target."""
    committing = replace(READY, state=State.COMMITTING, commit_at=LATER)

    assert not committing.is_drained
    assert replace(committing, applied_to=LATER).is_drained


@pytest.mark.parametrize(
    ("migration", "phase"),
    [
        (Migration("m"), Phase.PLANNING),
        (Migration("m", State.RUNNING), Phase.PLANNING),
        (Migration("m", State.RUNNING, planned_at=NOON), Phase.COLLECTION_COPY),
        (Migration("m", State.PAUSED, planned_at=NOON), Phase.COLLECTION_COPY),
        (replace(READY, indexed_at=None), Phase.INDEX_BUILD),
        (READY, Phase.CHANGE_EVENT_APPLICATION),
        (replace(READY, state=State.COMMITTING), Phase.WAITING_FOR_COMMIT),
        (replace(READY, state=State.COMMITTED), Phase.COMMIT_COMPLETED),
    ],
)
def test_phase(migration: Migration, phase: Phase) -> None:
    """The phase follows from what is done."""
    assert migration.phase is phase


@given(MIGRATIONS)
def test_can_commit_says_what_committing_does(migration: Migration) -> None:
    """A commit is accepted exactly when it is shown as possible."""
    try:
        migration.committing()
    except IllegalTransition:
        accepted = False
    else:
        accepted = True

    assert accepted == migration.can_commit
    assert not migration.can_commit or migration.is_consistent


@given(MIGRATIONS)
def test_phase_is_always_known(migration: Migration) -> None:
    """Whatever the state holds, there is a phase."""
    assert migration.phase in Phase


@given(st.lists(st.sampled_from(State)))
def test_is_never_stuck(wishes: list[State]) -> None:
    """However it is moved, a migration that is not committed can be moved on."""
    migration = Migration("m")

    for wish in wishes:
        with suppress(IllegalTransition):
            migration = migration.moved_to(wish)

    assert migration.state is State.COMMITTED or any(b is migration.state for b, _ in ALLOWED)


@given(MIGRATIONS)
def test_can_reverse_says_what_reversing_does(migration: Migration) -> None:
    """A reversal is accepted exactly when it is shown as possible."""
    for each in (migration, replace(migration, return_position=ResumeToken(b"there"))):
        try:
            after = each.reversing()
        except IllegalTransition:
            assert not each.can_reverse
        else:
            assert each.can_reverse
            assert after.is_way_back != each.is_way_back


def test_turned() -> None:
    """A turn swaps the ends and what is blocked there, and nothing of the way there is left."""
    committed = replace(
        READY,
        state=State.REVERSING,
        source="a",
        target="b",
        blocked="source",
        position=ResumeToken(b"old"),
        return_position=ResumeToken(b"new"),
        writable_at=NOON,
        committed_at=NOON,
        changes_applied=7,
    )

    turned = committed.turned(planned_at=LATER, applied_seq=9)

    assert turned == Migration(
        "m",
        State.RUNNING,
        source="b",
        target="a",
        blocked="target",
        position=ResumeToken(b"new"),
        planned_at=LATER,
        applied_seq=9,
        verified_seq=9,
        changes_applied=7,
        reversals=1,
    )


def test_failed_reversal_stays_one() -> None:
    """A reversal that failed is taken up again, and nothing else is."""
    failed = replace(READY, state=State.REVERSING, committed_at=NOON).moved_to(State.FAILED)

    assert failed.begun().state is State.REVERSING
    assert replace(READY, state=State.FAILED).begun().state is State.RUNNING
    with pytest.raises(IllegalTransition):
        failed.moved_to(State.RUNNING)
    with pytest.raises(IllegalTransition):
        replace(READY, state=State.FAILED).moved_to(State.REVERSING)


def test_blocked_ends() -> None:
    """The ends that are blocked are noted one by one."""
    both = READY.with_blocked("target", is_blocked=True).with_blocked("source", is_blocked=True)

    assert both.blocked == "source,target"
    assert both.blocks("source")
    assert both.with_blocked("source", is_blocked=False).blocked == "target"
    assert not READY.blocks("target")
