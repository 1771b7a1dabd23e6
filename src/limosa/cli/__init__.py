"""The `limosa` command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from .exits import Exit, as_json_wanted, report, report_internal, report_usage
from .exits import UsageFault as _UsageFault


def main() -> None:
    """Run the command that the arguments name, and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """
    Run a command and return its exit code.

    Whatever goes wrong is one clear message on standard error: an object with ``--json`` or
    ``--log-format json``, never a traceback unless ``--verbose`` asks for it.
    """
    import typer

    from ..errors import LimosaError
    from .app import app
    from .listening import completed

    as_json = as_json_wanted(arguments)
    try:
        code = app(args=completed(arguments), prog_name="limosa", standalone_mode=False)
    except LimosaError as error:
        return report(error, as_json=as_json)
    except (typer.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last one who can tell a person
        if isinstance(error, _UsageFault):
            return report_usage(error, as_json=as_json)
        return report_internal(error, as_json=as_json, verbose=_is_verbose(arguments))
    return code if isinstance(code, int) else Exit.DONE


def _is_verbose(arguments: Sequence[str]) -> bool:
    return "--verbose" in arguments or "-v" in arguments
