"""A state that another process is just making."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

from limosa.errors import LimosaError, StateUnwritable, UnknownMigration
from limosa.storage.sqlite import SqliteStore

ROUNDS = 30


def test_looked_at_while_it_is_made(tmp_path: Path) -> None:
    """Whoever looks at a state in the making finds nothing or a migration, never damage."""
    seen: list[LimosaError] = []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        made = threading.Event()
        lookers = [threading.Thread(target=_look, args=(folder, made, seen)) for _ in range(2)]
        for looker in lookers:
            looker.start()
        SqliteStore.drive(folder, "demo").close()
        made.set()
        for looker in lookers:
            looker.join()

    assert seen == []


def _look(folder: Path, made: threading.Event, seen: list[LimosaError]) -> None:
    while not made.is_set():
        try:
            with closing(SqliteStore.watch(folder)) as store:
                store.migration()
        except (UnknownMigration, StateUnwritable):
            continue  # not there yet
        except LimosaError as error:
            seen.append(error)
