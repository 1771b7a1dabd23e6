"""What can go wrong in a managed run, beside the migration itself."""

from __future__ import annotations

from ..errors import ConfigError, LimosaError, PermanentError, TransientError, VerificationFailed


class PlanInvalid(ConfigError):
    """The plan file cannot be used; the message names line and column."""

    code = "plan_invalid"
    hint = "correct the file; `limosa run --schema` prints what it may say"


class HookFailed(TransientError):
    """A hook did not end well; the attempt has failed."""

    code = "hook_failed"
    hint = "see what the command wrote; correct it, then run the same command again"


class TaskFailed(TransientError):
    """A task that follows the commit did not end well; the migration itself is committed."""

    code = "task_failed"
    hint = "correct the cause; the same command again goes on with this task"


class OutOfTime(PermanentError):
    """The time set for the whole run is over."""

    code = "out_of_time"
    hint = "raise `timeout` in the plan file; the same command again goes on where it was"


class IntegrityFailed(VerificationFailed):
    """Source and target differ when everything is compared after the commit."""

    code = "integrity_failed"
    hint = (
        "compare the keys that the message names; the target must not be written to before this "
        "task is done; the same command again compares anew"
    )


def codes_of(error: type[LimosaError]) -> set[str]:
    """Return the codes of *error* and of all that are of its kind."""
    return {error.code}.union(*(codes_of(kind) for kind in error.__subclasses__()))
