"""Steps, their attempts, and the result that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from limosa.attempts import Attempts, Supervision
from limosa.errors import ConfigError, TransientError
from limosa.events import Event, EventBus, StepBegan, StepEnded
from limosa.model import Namespace
from limosa.state import Failure, Migration, State
from limosa.steps import WORDS, Step, StepProgress, current, distinct, in_steps, names_of
from limosa.storage.sqlite import SqliteStore
from limosa.views.result import result

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FAILURE = Failure("connection_lost", "write:\n no answer", "look at the server")
COMMITTED = Migration("m", state=State.COMMITTED)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore.drive(tmp_path, "demo")) as store:
        yield store


class Journey:
    """Attempts at one migration, begun anew as often as a process is."""

    def __init__(self, store: SqliteStore, names: tuple[str, ...] = WORDS, **given: object) -> None:
        self.events: list[Event] = []
        self.hooks: list[str] = []
        self.fails_before = self.fails_after = ""
        self._store = store
        self._names = names
        self._given = given

    def start(self) -> Attempts:
        supervision = Supervision(
            before=self._before,
            after=self._after,
            **{"attempts": 3, **self._given},  # type: ignore[arg-type]
        )
        attempts = Attempts(
            self._store, EventBus(self.events.append), names=self._names, supervision=supervision
        )
        attempts.start()
        return attempts

    def _before(self, step: StepProgress) -> None:
        self.hooks.append(f"before {step.name} {step.attempts}")
        if step.name == self.fails_before:
            raise TransientError("no")

    def _after(self, step: StepProgress) -> None:
        self.hooks.append(f"after {step.name}")
        if step.name == self.fails_after:
            raise TransientError("no")

    def now(self) -> StepProgress:
        step = current(self._store.steps())
        assert step is not None
        return step


def test_way_through(store: SqliteStore) -> None:
    """Each step is begun once, ends when the next begins, and has its times."""
    journey = Journey(store)
    attempts = journey.start()

    for word in WORDS[1:]:
        attempts.phase(word)
    attempts.finish()

    steps = store.steps()
    assert [s.name for s in steps] == list(WORDS)
    assert {s.attempts for s in steps} == {1}
    assert all(s.began_at and s.ended_at and s.began_at <= s.ended_at for s in steps)
    told = [type(e).__name__ for e in journey.events]
    assert told == [StepBegan.__name__, StepEnded.__name__] * 5
    assert journey.hooks[:3] == ["before user 1", "after user", "before channel 1"]


def test_failure(store: SqliteStore) -> None:
    """A failure counts an attempt of its step, shows until the next one, and gives up after all."""
    journey = Journey(store)
    seen = []

    for _ in range(3):
        attempts = journey.start()
        attempts.phase(WORDS[2])
        at_work = journey.now()
        attempts.fail(FAILURE)
        failed = journey.now()
        seen.append((at_work.attempts, at_work.last_error, failed.attempts, failed.gave_up))

    assert seen == [(1, "", 1, False), (2, "", 2, False), (3, "", 3, True)]
    error = "write: no answer [connection_lost]; look at the server"
    assert journey.now().last_error == error


def test_interruption(store: SqliteStore) -> None:
    """A stop or a crash does not count: the attempt goes on."""
    journey = Journey(store)
    journey.start().phase(WORDS[1])

    journey.start().phase(WORDS[2])
    journey.start()

    assert [(s.name, s.attempts) for s in store.steps()] == [(w, 1) for w in WORDS[:3]]


def test_attempts_of_each_step(store: SqliteStore) -> None:
    """The attempts of a step are its own."""
    journey = Journey(store)
    journey.start().fail(FAILURE)

    journey.start().phase(WORDS[1])

    assert [s.attempts for s in store.steps()] == [2, 1]


def test_never_falls_back(store: SqliteStore) -> None:
    """To turn to an earlier step is to stay at the present one."""
    journey = Journey(store)
    attempts = journey.start()
    attempts.phase(WORDS[3])

    attempts.phase(WORDS[2])

    assert journey.now().name == WORDS[3]


def test_failing_hooks(store: SqliteStore) -> None:
    """A hook before a step fails this one; a hook after a step fails that, and runs again."""
    journey = Journey(store)
    journey.fails_before = WORDS[1]
    with pytest.raises(TransientError):
        journey.start().phase(WORDS[1])
    assert journey.now().name == WORDS[1]

    journey.fails_before, journey.fails_after = "", WORDS[1]
    with pytest.raises(TransientError):
        journey.start().phase(WORDS[2])
    assert journey.now().name == WORDS[1]
    assert journey.now().ended_at is None

    journey.fails_after = ""
    journey.start().phase(WORDS[2])
    assert journey.hooks.count(f"after {WORDS[1]}") == 2
    assert journey.hooks.count(f"after {WORDS[0]}") == 1


def test_named_steps(store: SqliteStore) -> None:
    """Named steps know no phases; the last one copied stays until the commit."""
    names = names_of([Step.of("b", ["x.b"]), Step.of("a", ["x.a"])])
    journey = Journey(store, names)
    attempts = journey.start()
    attempts.phase(WORDS[2])
    attempts.end("b")
    attempts.turn_to("a")
    attempts.end("a")
    attempts.phase(WORDS[3])

    assert names == ("b", "a", "other", "cleanup")
    assert journey.now().name == "a"
    assert journey.now().ended_at is not None

    attempts.turn_to("cleanup")
    assert journey.now().name == "cleanup"


def test_failure_after_the_copy(store: SqliteStore) -> None:
    """What fails between the copy and the commit counts for the step copied last."""
    journey = Journey(store, names_of([Step.of("a", ["x.a"])]))
    attempts = journey.start()
    attempts.end("a")
    attempts.fail(FAILURE)

    journey.start()

    assert (journey.now().name, journey.now().attempts) == ("a", 2)
    assert journey.hooks == ["before a 1", "after a"]


def test_anew(store: SqliteStore) -> None:
    """After all attempts were used up, a new run has all of them, at the same step."""
    journey = Journey(store, attempts=1)
    attempts = journey.start()
    attempts.phase(WORDS[1])
    attempts.fail(FAILURE)
    assert journey.now().gave_up

    store.save_step(journey.now().anew())
    journey.start()

    assert (journey.now().name, journey.now().attempts) == (WORDS[1], 1)
    assert journey.now().last_error == ""


def test_anew_without_need() -> None:
    """A step that has not given up keeps its attempts."""
    step = StepProgress("a", 0).begun(NOW).failed(FAILURE, allowed=3)

    assert step.anew() == step


def test_in_steps() -> None:
    """A namespace belongs to the first step that names it; the rest comes last."""
    steps = [Step.of("one", ["a.x", "b"]), Step.of("two", ["a"]), Step.of("none", ["c"])]
    names = [Namespace.parse(t) for t in ("a.y", "d.z", "a.x", "b.x")]

    found = in_steps(steps, [(n, str(n)) for n in names])

    assert found == [("one", ["a.x", "b.x"]), ("two", ["a.y"]), ("none", []), ("other", ["d.z"])]


def test_steps_are_distinct() -> None:
    """Two steps of one name are refused."""
    with pytest.raises(ConfigError, match="'a' twice"):
        distinct([Step.of("a", ["x"]), Step.of("a", ["y"])])


def test_stored_steps(store: SqliteStore, tmp_path: Path) -> None:
    """All that is known of a step survives, and is there for who watches."""
    full = StepProgress(
        name="a",
        position=2,
        attempts=3,
        last_error="no",
        gave_up=True,
        awaits_tasks=True,
        tasks_done=4,
        began_at=NOW,
        ended_at=NOW + timedelta(seconds=1),
    )
    store.save_step(full)
    store.save_step(StepProgress("b", 1))
    store.save_step(replace(full, attempts=4))

    with closing(SqliteStore.watch(tmp_path)) as watching:
        assert watching.steps() == [StepProgress("b", 1), replace(full, attempts=4)]


def at(name: str, **fields: object) -> list[StepProgress]:
    step = StepProgress(name, WORDS.index(name), attempts=1, began_at=NOW)
    return [replace(step, **fields)]  # type: ignore[arg-type]


def test_result_before_the_start() -> None:
    """Before any start it is running at the first step, with no attempt."""
    body = {"status": "running", "step": "user", "last_err": None, "try_count": 0}

    assert result(None, []) == body
    assert list(result(None, [])) == list(body)
    named = Migration("m", settings={"steps": [{"name": "chat", "include": ["x"]}]})
    assert result(named, [])["step"] == "chat"


@pytest.mark.parametrize(
    ("migration", "steps", "was_complete", "status"),
    [
        (Migration("m", state=State.RUNNING), at("message"), False, "running"),
        (Migration("m", state=State.PAUSED), at("message"), False, "running"),
        (Migration("m", state=State.FAILED), at("message", last_error="e"), False, "running"),
        (
            Migration("m", state=State.FAILED),
            at("message", last_error="e", gave_up=True),
            False,
            "failed",
        ),
        (COMMITTED, at("cleanup"), False, "completed"),
        (COMMITTED, at("cleanup"), True, "migrated"),
        (COMMITTED, at("cleanup", awaits_tasks=True), False, "running"),
        (COMMITTED, at("cleanup", awaits_tasks=True, last_error="e"), False, "running"),
        (
            COMMITTED,
            at("cleanup", awaits_tasks=True, last_error="e", gave_up=True),
            False,
            "failed",
        ),
    ],
)
def test_status(
    migration: Migration, steps: list[StepProgress], was_complete: bool, status: str
) -> None:
    """The status follows from the state, the attempts, and what is still to be done."""
    assert result(migration, steps, was_complete=was_complete)["status"] == status


def test_error_of_the_present_attempt() -> None:
    """An error is told until the next attempt begins, with the attempts of that step."""
    failed = at("message", last_error="boom [x]", attempts=2)

    told = result(Migration("m"), [*at("user"), *failed])
    later = result(Migration("m"), [step.begun(NOW) for step in failed])

    assert (told["step"], told["last_err"], told["try_count"]) == ("message", "boom [x]", 2)
    assert (later["last_err"], later["try_count"]) == (None, 3)


def test_failure_that_no_step_recorded() -> None:
    """What keeps a server from driving the migration is a failure, too."""
    told = result(Migration("m"), at("message"), failure=FAILURE)

    assert (told["status"], told["try_count"]) == ("failed", 1)
    assert told["last_err"] == "write: no answer [connection_lost]; look at the server"
