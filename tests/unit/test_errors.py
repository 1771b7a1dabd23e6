"""Errors cross process boundaries and are shown to people; both need care."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

import pytest

from limosa import errors


def all_errors(parent: type[errors.LimosaError]) -> Iterator[type[errors.LimosaError]]:
    yield parent
    for child in parent.__subclasses__():
        yield from all_errors(child)


EVERY = sorted(
    {e for e in all_errors(errors.LimosaError) if e.__module__ == errors.__name__},
    key=lambda e: e.__name__,
)


@pytest.mark.parametrize("kind", EVERY)
def test_survives_pickling(kind: type[errors.LimosaError]) -> None:
    """An error raised on an executor reaches the engine whole."""
    before = kind("why it failed", hint="what to do")
    if isinstance(before, errors.Throttled):
        before.retry_after = 7.5

    after = pickle.loads(pickle.dumps(before))

    assert type(after) is kind
    assert str(after) == "why it failed"
    assert after.hint == "what to do"
    assert vars(after) == vars(before)


@pytest.mark.parametrize("kind", EVERY)
def test_hint_of_its_kind(kind: type[errors.LimosaError]) -> None:
    """Without a hint of its own, an error has the hint of its kind, also when pickled."""
    error = kind("why")

    assert error.hint == kind.hint == pickle.loads(pickle.dumps(error)).hint


def test_codes_are_unique() -> None:
    """A code names exactly one kind of error, in snake case."""
    codes = [kind.code for kind in EVERY]

    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("kind", EVERY)
def test_is_drawn(kind: type[errors.LimosaError]) -> None:
    """The tree at the top of the module shows every error below its parent."""
    lines = (errors.__doc__ or "").splitlines()
    drawn = {
        m[2]: (number, len(m[1]))
        for number, line in enumerate(lines)
        if (m := re.match(r"( *)[*x+] (\w+)", line))
    }

    number, indent = drawn[kind.__name__]

    if kind is not errors.LimosaError:
        above = [name for name, (n, i) in drawn.items() if n < number and i < indent]
        assert above[-1] == kind.__mro__[1].__name__


@pytest.mark.parametrize("kind", EVERY)
def test_advice(kind: type[errors.LimosaError]) -> None:
    """What a person must act on says how, without a full stop, and every kind is explained."""
    needs_a_person = issubclass(kind, errors.PermanentError | errors.StateError)
    is_leaf = not kind.__subclasses__()

    assert kind.__doc__
    assert not kind.hint.endswith(".")
    # Whether a lost collection matters depends on what was to be done with it.
    assert kind.hint or not (needs_a_person and is_leaf) or kind is errors.CollectionGone


@pytest.mark.parametrize("kind", EVERY)
def test_transient_or_permanent(kind: type[errors.LimosaError]) -> None:
    """No error is both tried again and fatal."""
    assert not (issubclass(kind, errors.TransientError) and issubclass(kind, errors.PermanentError))
