"""One migration in a process of its own, telling events, CPU and memory as JSON lines."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time
from pathlib import Path

from limosa.events import BatchCopied, Event, KeysVerified
from limosa.limits import LimitChange
from limosa.migrations import migrate
from limosa.settings import Settings


def main() -> int:
    """Run the migration; exit with 0 if it is committed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("state", type=Path)
    parser.add_argument("--no-verify", action="store_true")
    parser.add_argument("--commit", default="manual", choices=["manual", "when-ready"])
    parser.add_argument("--load-level", type=int)
    chosen = parser.parse_args()
    result = migrate(
        chosen.source,
        chosen.target,
        state=chosen.state,
        settings=Settings(verify=not chosen.no_verify),
        commit=chosen.commit,
        limits=LimitChange(load_level=chosen.load_level),
        on_event=tell,
    )
    return 0 if result.can_write else 1


def tell(event: Event) -> None:
    """Print what a benchmark needs of *event*."""
    if isinstance(event, BatchCopied | KeysVerified):
        return
    usage = resource.getrusage(resource.RUSAGE_SELF)
    fields = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    line = {
        "event": type(event).__name__,
        "at": time.time(),
        "cpu": usage.ru_utime + usage.ru_stime,
        "rss_mb": usage.ru_maxrss / 1024,
        **{k: v for k, v in fields.items() if isinstance(v, int | str)},
    }
    sys.stdout.write(json.dumps(line) + "\n")  # as one: several threads tell
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
