"""What follows the commit, task by task."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from .commands import Commands
from .errors import TaskFailed
from .plan_file import HttpCall, Task

_COMMAND_TIMEOUT = timedelta(minutes=5)
_REQUEST_TIMEOUT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """How each kind of task is done."""

    commands: Commands
    verify: Callable[[], None]
    notify: Callable[[str], None]

    def perform(self, task: Task, *, body: Mapping[str, Any], variables: Mapping[str, str]) -> None:
        """
        Return once *task* is done; *body* is the result that it is told.

        Raises:
            TaskFailed: it did not end well.
            IntegrityFailed: source and target differ.
            Stopped: the run was asked to stop.
        """
        if task.verify is not None:
            self.verify()
        if task.run is not None:
            failure = self.commands.run(
                task.run,
                variables=variables,
                timeout=task.timeout or _COMMAND_TIMEOUT,
                text=json.dumps(body, ensure_ascii=False) + "\n",
            )
            if failure:
                msg = f"{named(task)}: {failure}"
                raise TaskFailed(msg)
        if task.http is not None:
            _request(task.http, body, task.timeout or _REQUEST_TIMEOUT, named(task))
        if task.notify is not None:
            self.notify(task.notify)


def named(task: Task) -> str:
    """Return what *task* is called: nothing that may hold a secret."""
    if task.verify is not None:
        return "verify everything again"
    if task.run is not None:
        return f"run {task.run[0] if task.run[0] != '/bin/sh' else 'a shell command'}"
    if task.http is not None:
        return f"{task.http.method} to {urlsplit(task.http.url.get_secret_value()).hostname}"
    return "notify"


def _request(call: HttpCall, body: Mapping[str, Any], timeout: timedelta, name: str) -> None:
    import httpx

    try:
        answer = httpx.request(
            call.method,
            call.url.get_secret_value(),
            json=body,
            headers={n: value.get_secret_value() for n, value in call.headers.items()},
            timeout=timeout.total_seconds(),
        )
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        # Its message may quote the address.
        msg = f"{name}: no answer: {type(exc).__name__}"
        raise TaskFailed(msg) from None
    if not answer.is_success:
        # A redirect is no success: what is sent must arrive where it was meant to.
        msg = f"{name}: expected an answer of 200 to 299, got {answer.status_code}"
        raise TaskFailed(msg)
