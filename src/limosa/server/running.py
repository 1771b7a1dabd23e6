"""A server from its configuration to its end."""

from __future__ import annotations

import ipaddress
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import Any

from .. import catalog
from ..ends import Ends
from ..errors import ConfigError
from ..history import Histogram
from ..pings import Pings
from ..views.readings import Readings
from .app import create_app, create_result_app
from .configuration import Configuration
from .guard import Rules, Tokens, is_private
from .listening import Address, Server, ready_process
from .logbook import Logbook, Narrator
from .metadata import Mirror
from .mongosync import figures_of
from .presence import teller
from .pushing import Pushing
from .service import End, Service


def serve(
    configuration: Configuration, *, stop: threading.Event, say: Callable[[str], None]
) -> None:
    """
    Answer until *stop* is set; then the engine is stopped cleanly.

    Raises:
        ConfigError: the configuration is wrong, or the port cannot be had.
        StateError: the state cannot be used.
    """
    rules = _rules(configuration, say)
    ends = Ends.of(configuration.cluster0, configuration.cluster1)
    name = configuration.migrationName or catalog.name_for(ends.source_id, ends.target_id)
    folder = catalog.folder_for(name, configuration.state)
    for line in configuration.without_effect():
        say(line)
    with ExitStack() as stack:
        pings = Pings(
            {
                "cluster0": lambda: ends.source_kind.open_source(ends.source),
                "cluster1": lambda: ends.target_kind.open_source(ends.target),
            }
        )
        stack.enter_context(closing(pings))
        service = Service(
            folder,
            ends=(
                End("cluster0", ends.source, ends.source_id),
                End("cluster1", ends.target, ends.target_id),
            ),
            pings=pings.latencies,
            verifies=not configuration.disableVerification,
            options=_options(configuration),
        )
        stack.enter_context(closing(service))
        log = _log(stack, configuration, service)
        pings.begin(teller(service, log, say))
        server = Server(create_app(service, rules=rules, log=log), _address(configuration))
        if configuration.resultPort is not None:
            own = Server(
                create_result_app(service, rules=rules),
                replace(_address(configuration), port=configuration.resultPort),
            )
            stack.enter_context(_answering(own))
            say(f"the result is at {own.url}/migrate/result")
        _tell_others(stack, configuration, service, ends, say)
        service.begin()
        _stop_when(stop, server)
        ready_process()
        say(f"listening on {server.url} for {folder.name}; its state is in {folder.path}")
        server.run()


def _tell_others(
    stack: ExitStack,
    configuration: Configuration,
    service: Service,
    ends: Ends,
    say: Callable[[str], None],
) -> None:
    """Have what is seen sent to those that do not ask for it."""
    if configuration.otlpEndpoint is not None:

        def readings() -> Readings | None:
            return service.snapshot().readings

        stack.enter_context(closing(Pushing(readings, configuration.otlpEndpoint, say)))
    if configuration.mongosyncMetadata:
        opened = {
            "cluster0": partial(ends.source_kind.open_target, ends.source),
            "cluster1": partial(ends.target_kind.open_target, ends.target),
        }
        stack.enter_context(closing(Mirror(service, opened, say)))


def _options(configuration: Configuration) -> dict[str, Any]:
    """Return what holds for every start; limits that were set later stay, unless given anew."""
    options: dict[str, Any] = {"nice": configuration.engineNice}
    if "loadLevel" in configuration.model_fields_set:
        options["limits"] = {"loadLevel": configuration.loadLevel}
    return options


def _log(stack: ExitStack, configuration: Configuration, service: Service) -> Logbook | None:
    """Return mongosync's log, if there is to be one; SIGUSR1 begins a new file."""
    if configuration.logPath is None:
        return None
    log = Logbook(configuration.logPath, verbosity=configuration.verbosity)
    stack.enter_context(closing(log))
    signal.signal(signal.SIGUSR1, lambda _number, _frame: log.rotate())
    log.tell("Version info", version=version("limosa"))
    shown = configuration.model_dump(mode="json", exclude={"cluster0", "cluster1", "tokenFile"})
    log.tell("Mongosync Options", options=shown)
    log.tell("Mongosync HiddenFlags", options={})

    def durations() -> Mapping[str, Histogram]:
        readings = service.snapshot().readings
        return readings.durations if readings else {}

    stack.enter_context(closing(Narrator(log, lambda: figures_of(service), durations)))
    return log


@contextmanager
def _answering(server: Server) -> Iterator[None]:
    """Have *server* answer in a thread of its own while entered."""
    thread = threading.Thread(target=server.run, name="result", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.stop()
        thread.join()


def _stop_when(stop: threading.Event, server: Server) -> None:
    def wait() -> None:
        stop.wait()
        server.stop()

    threading.Thread(target=wait, name="stop", daemon=True).start()


def _address(configuration: Configuration) -> Address:
    return Address(
        host=configuration.bind,
        port=configuration.port,
        certificate=configuration.tlsCert,
        key=configuration.tlsKey,
    )


def _rules(configuration: Configuration, say: Callable[[str], None]) -> Rules:
    """
    Return who is let in.

    Raises:
        ConfigError: others could reach the port, and nothing says who may.
    """
    if (configuration.tlsCert is None) != (configuration.tlsKey is None):
        msg = "expected --tls-cert and --tls-key together"
        raise ConfigError(msg)
    tokens = None
    if configuration.tokenFile is not None:
        tokens = Tokens.read(configuration.tokenFile)
        if not is_private(configuration.tokenFile):
            say(f"everybody on this machine may read the token file {configuration.tokenFile}")
    if tokens is None and not configuration.insecure and not _is_loopback(configuration.bind):
        msg = f"others can reach {configuration.bind}, so it must be said who may do what"
        raise ConfigError(msg, hint="give --token-file, or --insecure to let in everybody")
    return Rules.of(tokens=tokens, hosts=configuration.allowHost)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
