"""Which migrations are known here, and where each has its state."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path

from .errors import ConfigError, UnknownMigration
from .storage import History, StateStore
from .storage.buffer import BUFFER_FILE
from .storage.errors import translated
from .storage.history import ASIDE, HISTORY_FILE, SqliteHistory
from .storage.lease import Lease, is_held
from .storage.sqlite import LOCK_FILE, STATE_FILE, SqliteStore

#: Characters of each end's first host in a name that is made.
_HOST_WIDTH = 28


@dataclass(frozen=True, slots=True, order=True)
class Folder:
    """Where one migration has its files."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def state_file(self) -> Path:
        return self.path / STATE_FILE

    @property
    def buffer_file(self) -> Path:
        return self.path / BUFFER_FILE

    @property
    def history_file(self) -> Path:
        return self.path / HISTORY_FILE

    @property
    def lock_file(self) -> Path:
        return self.path / LOCK_FILE


def home() -> Path:
    """Return the folder of all migrations: ``$LIMOSA_HOME``, or the system's place for state."""
    chosen = os.environ.get("LIMOSA_HOME")
    return Path(chosen).expanduser() if chosen else user_state_path("limosa")


def keep_free() -> int | None:
    """
    Return how many bytes of the state's disk are to stay free; None leaves it to the buffer.

    Raises:
        ConfigError: ``$LIMOSA_KEEP_FREE_MB`` is no number.
    """
    chosen = os.environ.get("LIMOSA_KEEP_FREE_MB")
    if not chosen:
        return None
    if not re.fullmatch(r"[0-9]{1,12}", chosen):
        msg = f"LIMOSA_KEEP_FREE_MB: expected a whole number of megabytes, got {chosen!r}"
        raise ConfigError(msg)
    return int(chosen) * 1_000_000


def name_for(source_identity: str, target_identity: str) -> str:
    """
    Return a name for the migration between two deployments, always the same one.

    It shows the first host of each and is a valid file name; others get another name.
    """
    both = f"{source_identity}\n{target_identity}".encode()
    digest = hashlib.sha256(both).hexdigest()[:8]
    return f"{_shown(source_identity)}-to-{_shown(target_identity)}-{digest}"


def folder_for(name: str, state: Path | None = None) -> Folder:
    """
    Return where the migration *name* lives or will live: *state* itself, if given.

    Raises:
        ConfigError: the name cannot be one.
    """
    checked = _checked(name)
    return Folder(state.expanduser().absolute() if state else home() / checked)


def known() -> list[Folder]:
    """Return the migrations in `home`, usable or not, in order of their names."""
    with translated(home(), "list the migrations"):
        if not home().is_dir():
            return []
        folders = [Folder(path) for path in home().iterdir()]
        return sorted(folder for folder in folders if folder.state_file.is_file())


def find(name: str | None = None, state: Path | None = None) -> Folder:
    """
    Return the migration in *state*, else the one called *name*, else the only one there is.

    Raises:
        UnknownMigration: there is none, or there are several and none was named.
        ConfigError: the name cannot be one.
    """
    if state is not None:
        folder = Folder(state.expanduser().absolute())
        if not _exists(folder):
            msg = f"no migration has its state in {str(state)!r}"
            raise UnknownMigration(msg)
        return folder
    if name is not None:
        folder = Folder(home() / _checked(name))
        if not _exists(folder):
            msg = f"no migration is called {name!r}; {_names(known())}"
            raise UnknownMigration(msg)
        return folder
    return _only_one(known())


def watch(folder: Folder) -> StateStore:
    """
    Return the state of a migration, to look at and steer it, whoever drives it.

    Raises:
        UnknownMigration: nothing was stored yet.
        StateError: it cannot be used.
    """
    if not _exists(folder):
        msg = f"no migration has its state in {str(folder.path)!r}"
        raise UnknownMigration(msg)
    return SqliteStore.watch(folder.path)


def history(folder: Folder) -> History:
    """
    Return the history of a migration, to read and to add to, whoever drives it.

    Raises:
        StateUnwritable: there is no such folder, or no right to write in it.
    """
    return SqliteHistory(folder.history_file)


def is_driven(folder: Folder) -> bool:
    """Whether a process drives the migration at this moment."""
    return is_held(folder.lock_file)


def remove(folder: Folder) -> None:
    """
    Delete the state of a migration, also a damaged one; other files in its folder stay.

    Raises:
        LeaseHeld: a process drives it.
        UnknownMigration: there is none.
        StateUnwritable: no right to.
    """
    with translated(folder.path, "remove"):
        if not folder.path.is_dir():
            msg = f"no migration has its state in {str(folder.path)!r}"
            raise UnknownMigration(msg)
        lease = Lease.take(folder.lock_file)
        try:
            # The state goes last: until then `list` shows what is left to be removed.
            folder.history_file.with_name(HISTORY_FILE + ASIDE).unlink(missing_ok=True)
            for file in (folder.history_file, folder.buffer_file, folder.state_file):
                for suffix in ("-wal", "-shm", "-journal", ""):
                    file.with_name(file.name + suffix).unlink(missing_ok=True)
            folder.lock_file.unlink()
        finally:
            lease.release()
        if not any(folder.path.iterdir()):
            folder.path.rmdir()


def _exists(folder: Folder) -> bool:
    with translated(folder.path, "look for a migration"):
        return folder.state_file.is_file()


def _only_one(folders: list[Folder]) -> Folder:
    match folders:
        case [folder]:
            return folder
        case []:
            msg = f"no migration is known in {str(home())!r}"
            raise UnknownMigration(msg)
        case _:
            msg = f"several migrations are known, so one must be named; {_names(folders)}"
            raise UnknownMigration(msg)


def _names(folders: list[Folder]) -> str:
    names = ", ".join(folder.name for folder in folders)
    return f"known: {names}" if names else f"none is known in {str(home())!r}"


def _checked(name: str) -> str:
    # Anything that is a plain file name everywhere and no command line option.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", name):
        msg = (
            f"the name of a migration: expected up to 128 letters, digits, '.', '_' and '-', "
            f"the first a letter or digit, got {name!r}"
        )
        raise ConfigError(msg)
    return name


def _shown(identity: str) -> str:
    hosts = identity.partition("://")[2] or identity
    first = re.split(r"[,/?]", hosts)[0]
    # An identity has no credentials; should one slip in, it must not become a file name.
    plain = re.sub(r"[^A-Za-z0-9.]+", "-", first.rpartition("@")[2]).strip("-.")
    return plain[:_HOST_WIDTH].rstrip("-.") or "end"
