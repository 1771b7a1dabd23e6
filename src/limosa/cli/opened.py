"""The state of one migration, opened to be looked at or steered from another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import catalog
from ..state import State
from ..storage import StateStore
from ..views.status import Status

#: Seconds between two looks at the state: below what a person notices.
_LOOK_EVERY = 0.05


@dataclass(frozen=True, slots=True)
class Opened:
    """A migration's folder and its store."""

    folder: catalog.Folder
    store: StateStore

    def status(self) -> Status:
        """Return everything there is to show, as it is now."""
        return Status(
            self.store.migration(),
            self.store.totals(),
            datetime.now(UTC),
            is_driven=catalog.is_driven(self.folder),
            steps=self.store.steps(),
        )

    def wait(self, done: Callable[[], bool]) -> bool:
        """
        Wait until *done*, and return whether it is.

        False when the migration has failed, or no process drives it any more.
        """
        while not done():
            state = self.store.migration().state
            driven = catalog.is_driven(self.folder)
            if state is State.FAILED or not driven:
                # What was asked for may have come true between the two looks.
                return done()
            time.sleep(_LOOK_EVERY)
        return True


@contextmanager
def opened(name: str | None, state: Path | None) -> Iterator[Opened]:
    """
    Open the migration of that name, or the only one there is.

    Raises:
        UnknownMigration: there is none, or the name is needed.
        StateError: its state cannot be used.
    """
    with opened_folder(catalog.find(name, state)) as migration:
        yield migration


@contextmanager
def opened_folder(folder: catalog.Folder) -> Iterator[Opened]:
    """
    Open the migration in *folder*.

    Raises:
        StateError: its state cannot be used.
    """
    store = catalog.watch(folder)
    try:
        yield Opened(folder, store)
    finally:
        store.close()
