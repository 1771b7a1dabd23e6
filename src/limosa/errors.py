"""
Every error that Limosa raises on purpose.

* LimosaError
  x ConfigError                 - the command line or a setting is wrong
    + SettingsChanged           - the same state, another command line
    + SameEnds                  - source and target are one deployment
    + NamespaceNotFound         - a filter names what the source does not have
    + BadFilter                 - the source does not understand a document filter
    + RenameConflict            - two namespaces would become one on the target
    + TargetNotEmpty            - a namespace to be migrated exists on the target
    + UnsupportedSource         - the source cannot be migrated live
    + UnknownMigration          - no state under this name
  x IllegalTransition           - not allowed in the present state
  x StateError                  - the local state cannot be used
    + StateCorrupt
    + StateTooNew               - written by a newer version
    + StateUnwritable           - no right to write, or no space left
    + StateGone                 - removed while a process used it
    + LeaseHeld                 - another process drives this migration
    + LeaseLost                 - another process took this migration over
  x TransientError              - tried again with backoff
    + ConnectionLost
    + Throttled
  x PermanentError              - fails the migration, never tried again
    + AccessDenied
    + CollectionGone            - dropped, or moved to another database
    + DiskNearlyFull            - no room for more changes that wait
    + PositionLost
    + VerificationFailed
    + WriteRefused              - the target refused a document or an index
  x Stopped                     - the migration was asked to stop here

Connectors translate their driver's exceptions into these, in one place.
"""

from __future__ import annotations


class LimosaError(Exception):
    """Base of all errors; *code* is stable and part of every answer."""

    code = "internal_error"
    hint = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        # Only positional arguments are pickled; ``__dict__`` carries the rest.
        super().__init__(message)
        if hint:
            self.hint = hint


class ConfigError(LimosaError):
    """The command line or a setting is wrong; nothing was started."""

    code = "config_error"
    hint = "correct the command line; `--help` after a command explains it"


class SettingsChanged(ConfigError):
    """This state was made by a command line that differs from the present one."""

    code = "settings_changed"
    hint = "use the settings it was started with, or another --name for another migration"


class SameEnds(ConfigError):
    """Source and target are the same deployment."""

    code = "same_ends"
    hint = "give two different deployments"


class NamespaceNotFound(ConfigError):
    """A filter names a namespace that the source does not have."""

    code = "namespace_not_found"
    hint = "see `limosa plan` for the namespaces there are"


class BadFilter(ConfigError):
    """The source does not understand a document filter, or cannot apply it."""

    code = "bad_filter"
    hint = "correct --filter; the source must be able to find documents by it"


class RenameConflict(ConfigError):
    """Two namespaces of the source would become one on the target."""

    code = "rename_conflict"
    hint = "correct --rename, or leave one of the two out with --exclude"


class TargetNotEmpty(ConfigError):
    """The target already has a namespace that is to be migrated, or anything if it may not."""

    code = "target_not_empty"
    hint = (
        "drop these namespaces on the target, give the source's other names with --rename, or "
        "leave them out with --exclude"
    )


class UnsupportedSource(ConfigError):
    """The source has no change stream that a live migration could follow."""

    code = "unsupported_source"
    hint = "a MongoDB source must be a replica set of version 6.0 or later"


class UnknownMigration(ConfigError):
    """No migration is known under this name."""

    code = "unknown_migration"
    hint = "see `limosa list`"


class IllegalTransition(LimosaError):
    """The operation is not allowed in the present state."""

    code = "illegal_transition"


class StateError(LimosaError):
    """The local state of a migration cannot be used."""

    code = "state_error"


class StateCorrupt(StateError):
    """The state file is damaged."""

    code = "state_corrupt"
    hint = "restore the state folder from a backup, or start anew with another --name"


class StateTooNew(StateError):
    """The state was written by a newer version."""

    code = "state_too_new"
    hint = "install the version that wrote it, or a later one"


class StateUnwritable(StateError):
    """The state cannot be written: no right to, or no space left."""

    code = "state_unwritable"
    hint = "free some space or choose another folder with --state; then run the same command again"


class StateGone(StateError):
    """The state was removed while this process drove the migration."""

    code = "state_gone"
    hint = (
        "restore the state folder from a backup; or drop what was migrated on the target and run "
        "the same command, which starts anew"
    )


class LeaseHeld(StateError):
    """Another process drives this migration."""

    code = "lease_held"
    hint = "watch it with `limosa status`, or stop that process first"


class LeaseLost(StateError):
    """Another process took this migration over; this one must not write any more."""

    code = "lease_lost"
    hint = "leave it to the other process"


class TransientError(LimosaError):
    """Trying again may help."""

    code = "transient_error"
    hint = "see what ails the server; then run the same command again"


class ConnectionLost(TransientError):
    """A server could not be reached, or stopped answering."""

    code = "connection_lost"
    hint = "check address, network and server; then run the same command again"


class Throttled(TransientError):
    """The server asks for fewer requests; *retry_after* is in seconds."""

    code = "throttled"

    def __init__(self, message: str = "", *, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class PermanentError(LimosaError):
    """Trying again cannot help; a person has to act."""

    code = "permanent_error"
    hint = "correct the cause that the message names; then run the same command again"


class AccessDenied(PermanentError):
    """The server refused the credentials, or the user lacks a privilege."""

    code = "access_denied"
    hint = (
        "check user, password and authSource; `limosa doctor` names the privileges that are missing"
    )


class CollectionGone(PermanentError):
    """The collection was dropped, or moved to another database."""

    code = "collection_gone"


class DiskNearlyFull(PermanentError):
    """The buffer may not grow any more: its disk would have less free than is to stay free."""

    code = "disk_nearly_full"
    hint = (
        "free some space on that disk, or move the state folder to a larger one; then run the same "
        "command again soon: it goes on where it stopped, as long as the source's oplog holds that"
    )


class PositionLost(PermanentError):
    """The source no longer holds the changes after the stored position."""

    code = "position_lost"
    hint = (
        "the changes needed to go on are gone from the source's oplog: enlarge it "
        "(replSetResizeOplog), clean up this migration and its target, and start anew"
    )


class VerificationFailed(PermanentError):
    """Source and target differ."""

    code = "verification_failed"
    hint = (
        "see `limosa verify` for the keys; if the application still wrote to the source after "
        "the commit, stop it; then run the same command and commit again"
    )


class WriteRefused(PermanentError):
    """The target refused a document, an index or a collection."""

    code = "write_refused"
    hint = "correct what the message names; then run the same command again"


class Stopped(LimosaError):
    """The migration was asked to stop here; what was recorded stays."""

    code = "stopped"
