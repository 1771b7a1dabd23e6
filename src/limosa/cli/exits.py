"""How a command ends: exit codes, and what is said about an error."""

from __future__ import annotations

import json
import re
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

from ..errors import (
    ConfigError,
    IllegalTransition,
    LimosaError,
    PermanentError,
    StateError,
    Stopped,
    TransientError,
    VerificationFailed,
)


class Exit(IntEnum):
    """The exit codes of `limosa`; scripts rely on them."""

    DONE = 0
    INTERNAL = 1  # a defect of limosa
    USAGE = 2  # the command line or a setting is wrong; nothing was started
    FAILED = 3  # the migration failed, or a server could not be used
    MISMATCHES = 4  # source and target differ
    STATE = 5  # the local state cannot be used, or another process drives the migration
    ILLEGAL = 6  # not possible in the present state
    UNFIT = 7  # `doctor` found something that stands in the way
    INTERRUPTED = 130  # stopped by Ctrl-C
    TERMINATED = 143  # stopped by SIGTERM


@runtime_checkable
class UsageFault(Protocol):
    """What the parser raises about a command line."""

    exit_code: int

    def format_message(self) -> str:
        """Return what is wrong."""
        ...


def exit_for(error: LimosaError) -> Exit:
    """Return the exit code of a command that ends with *error*."""
    match error:
        case ConfigError():
            return Exit.USAGE
        case VerificationFailed():
            return Exit.MISMATCHES
        case StateError():
            return Exit.STATE
        case IllegalTransition():
            return Exit.ILLEGAL
        case TransientError() | PermanentError():
            return Exit.FAILED
        case Stopped():
            return Exit.INTERRUPTED
        case _:
            return Exit.INTERNAL


def exit_for_code(code: str) -> Exit:
    """Return the exit code of a migration that failed with the error code *code*."""
    return Exit.MISMATCHES if code == VerificationFailed.code else Exit.FAILED


def report(error: LimosaError, *, as_json: bool) -> Exit:
    """Say what *error* is and what to do; return the exit code."""
    code = exit_for(error)
    say(str(error) or error.code, hint=error.hint, code=error.code, exit_code=code, as_json=as_json)
    return code


def report_usage(fault: UsageFault, *, as_json: bool) -> Exit:
    """Say what is wrong with the command line; return the exit code."""
    context = getattr(fault, "ctx", None)
    command = getattr(context, "command_path", "limosa")
    say(
        fault.format_message().rstrip("."),
        hint=f"see `{command} --help`",
        code="usage",
        exit_code=Exit.USAGE,
        as_json=as_json,
    )
    return Exit.USAGE


def report_internal(error: Exception, *, as_json: bool, verbose: bool) -> Exit:
    """Say that limosa is at fault, in one line; with *verbose* also where."""
    message = f"internal error: {type(error).__name__}: {error}".replace("\n", " ")
    hint = "" if verbose else "run it again with --verbose and report what it says"
    if verbose:
        sys.stderr.write(redacted("".join(traceback.format_exception(error))))
    code = LimosaError.code
    say(message, hint=hint, code=code, exit_code=Exit.INTERNAL, as_json=as_json)
    return Exit.INTERNAL


def say(message: str, *, hint: str, code: str, exit_code: int, as_json: bool) -> None:
    """Write an error to standard error, for people or as one JSON object."""
    message, hint = redacted(message), redacted(hint)
    if as_json:
        body: dict[str, Any] = {
            "error": {"code": code, "message": message, "hint": hint, "exitCode": int(exit_code)}
        }
        text = json.dumps(body, ensure_ascii=False)
    else:
        head = message if message.startswith("internal error: ") else f"error: {message}"
        text = f"{head}\nhint: {hint}" if hint else head
    sys.stderr.write(text + "\n")


def redacted(text: str) -> str:
    """Return *text* without the user and password of any URI in it."""
    # Greedy up to the last @, because people forget to escape those in passwords.
    return re.sub(r"://[^\s'\"]*@", "://***@", text)


def as_json_wanted(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for JSON, however wrong the rest of it is."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return any(
        one in ("--json", "--log-format=json") or (one, two) == ("--log-format", "json")
        for one, two in pairs
    )
