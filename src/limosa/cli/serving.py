"""`limosa serve`: a migration that is watched and steered over HTTP."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .exits import Exit, redacted

if TYPE_CHECKING:
    from ..server.configuration import Configuration


def _show_version(is_wanted: bool | None) -> None:
    if is_wanted:
        from importlib.metadata import version

        typer.echo(f"limosa {version('limosa')}")
        raise typer.Exit


_Cluster0 = Annotated[
    str | None,
    typer.Option(
        "--cluster0",
        metavar="URI",
        envvar="LIMOSA_CLUSTER0",
        help="URI of one end; from the environment it stays out of process lists.",
    ),
]
_Cluster1 = Annotated[
    str | None,
    typer.Option(
        "--cluster1", metavar="URI", envvar="LIMOSA_CLUSTER1", help="URI of the other end."
    ),
]
_Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="YAML with the same names as keys."),
]
_Port = Annotated[int | None, typer.Option("--port", help="Port to listen on; 27182.")]
_Bind = Annotated[
    str | None, typer.Option("--bind", metavar="ADDRESS", help="Address to listen on.")
]
_AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host", metavar="NAME", help="A name under which it is reached; repeatable."
    ),
]
_State = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="Folder of the migration's state."),
]
_MigrationName = Annotated[
    str | None,
    typer.Option("--migrationName", "--name", metavar="NAME", help="Name of the migration."),
]
_TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", metavar="FILE", help="Lines of `operator TOKEN` and `reader TOKEN`."
    ),
]
_Insecure = Annotated[
    bool | None, typer.Option("--insecure", help="Let in whoever reaches the port.")
]
_TlsCert = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", help="Certificate chain, PEM.")
]
_TlsKey = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", help="Its private key, PEM.")
]
_ResultPort = Annotated[
    int | None,
    typer.Option("--result-port", help="Answer /migrate/result on this port, too."),
]
_OtlpEndpoint = Annotated[
    str | None,
    typer.Option(
        "--otlp-endpoint", metavar="URL", help="Send the metrics to this collector, by OTLP."
    ),
]
_EngineNice = Annotated[
    int | None,
    typer.Option("--engine-nice", help="How far the engine stands back: 0 to 19."),
]
_LoadLevel = Annotated[
    int | None, typer.Option("--loadLevel", "--load-level", help="How hard to work: 1 to 4.")
]
_LogPath = Annotated[
    Path | None,
    typer.Option("--logPath", metavar="DIR", help="Write mongosync's log lines there."),
]
_Verbosity = Annotated[
    str | None, typer.Option("--verbosity", metavar="LEVEL", help="Of the log: INFO, DEBUG …")
]
_DisableVerification = Annotated[
    bool | None,
    typer.Option("--disableVerification", help="Do not compare source and target."),
]
_MongosyncMetadata = Annotated[
    bool | None,
    typer.Option(
        "--mongosync-metadata", help="Show mongosync's metadata collections on the target."
    ),
]
_AcceptDisclaimer = Annotated[
    bool | None, typer.Option("--acceptDisclaimer", help="Has no effect.")
]
_DisableTelemetry = Annotated[
    bool | None, typer.Option("--disableTelemetry", help="Has no effect.")
]
_DisableMetricsLogging = Annotated[
    bool | None, typer.Option("--disableMetricsLogging", help="Has no effect.")
]
_MetricsLoggingFilepath = Annotated[
    str | None,
    typer.Option("--metricsLoggingFilepath", metavar="DIR", help="Has no effect."),
]
_HotDocIds = Annotated[
    list[str] | None, typer.Option("--hotDocIDs", metavar="JSON", help="Has no effect.")
]
_ShardId = Annotated[str | None, typer.Option("--id", metavar="SHARD", help="Has no effect.")]
_Capped = Annotated[
    bool | None, typer.Option("--enableCappedCollectionHandling", help="Has no effect.")
]
_StartDelay = Annotated[
    str | None, typer.Option("--syncStartDelay", metavar="SPAN", help="Has no effect.")
]
_Version = Annotated[
    bool | None,
    typer.Option(
        "--version",
        "-v",
        callback=_show_version,
        is_eager=True,
        help="Show the version and exit.",
    ),
]


def serve(
    cluster0: _Cluster0 = None,
    cluster1: _Cluster1 = None,
    config: _Config = None,
    port: _Port = None,
    bind: _Bind = None,
    allow_host: _AllowHost = None,
    state: _State = None,
    migration_name: _MigrationName = None,
    token_file: _TokenFile = None,
    insecure: _Insecure = None,
    tls_cert: _TlsCert = None,
    tls_key: _TlsKey = None,
    result_port: _ResultPort = None,
    otlp_endpoint: _OtlpEndpoint = None,
    engine_nice: _EngineNice = None,
    load_level: _LoadLevel = None,
    log_path: _LogPath = None,
    verbosity: _Verbosity = None,
    disable_verification: _DisableVerification = None,
    mongosync_metadata: _MongosyncMetadata = None,
    accept_disclaimer: _AcceptDisclaimer = None,
    disable_telemetry: _DisableTelemetry = None,
    disable_metrics_logging: _DisableMetricsLogging = None,
    metrics_logging_filepath: _MetricsLoggingFilepath = None,
    hot_doc_ids: _HotDocIds = None,
    shard_id: _ShardId = None,
    capped: _Capped = None,
    start_delay: _StartDelay = None,
    _version: _Version = None,
) -> None:
    """
    Watch and steer a migration over HTTP, as mongosync does.

    It answers at /api/v1 and shows a page at /. The migration begins with the start call and
    comes back by itself when the same command is run again.
    """
    given = locals()
    from ..server.configuration import Configuration

    flags = {
        _KEYS.get(name, _camel(name)): value for name, value in given.items() if name != "_version"
    }
    file = flags.pop("config")
    raise typer.Exit(_served(Configuration.of(flags, file=file)))


def _served(configuration: Configuration) -> Exit:
    from ..server import running
    from .interrupts import Interrupts

    stop = threading.Event()
    with Interrupts(stop, _say) as interrupts:
        running.serve(configuration, stop=stop, say=_say)
    return interrupts.exit or Exit.DONE


def _say(line: str) -> None:
    typer.echo(redacted(line), err=True)


#: Keys that are not the parameter's name in mongosync's spelling.
_KEYS = {
    "hot_doc_ids": "hotDocIDs",
    "shard_id": "id",
    "capped": "enableCappedCollectionHandling",
    "start_delay": "syncStartDelay",
}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)
