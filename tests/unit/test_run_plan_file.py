"""The plan file of a managed run: what it may say, and how faults are told."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from limosa.limits import LimitChange, Window
from limosa.namespaces import NamespaceFilter
from limosa.run.errors import PlanInvalid
from limosa.run.plan_file import Moment, PlanFile, load, schema
from limosa.run.secrecy import Secrets

DOCS = Path(__file__).parents[2] / "docs"

ENDS = "source: mongodb://one\ntarget: mongodb://two\n"


def loaded(folder: Path, text: str, **environment: str) -> PlanFile:
    file = folder / "plan.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, environment)[0]


def refusal(folder: Path, text: str, **environment: str) -> list[str]:
    """Return what is wrong with *text*, line by line, without the name of the file."""
    with pytest.raises(PlanInvalid) as caught:
        loaded(folder, text, **environment)
    return [line.removeprefix(f"{folder / 'plan.yaml'}:") for line in str(caught.value).split("\n")]


def test_defaults(tmp_path: Path) -> None:
    """Two addresses are enough: three attempts, 30 s apart, 30 min in all, then a full check."""
    plan = loaded(tmp_path, ENDS)

    assert (plan.attempts, plan.delay, plan.backoff) == (3, timedelta(seconds=30), 1.0)
    assert plan.timeout == timedelta(minutes=30)
    assert plan.health.every == timedelta(seconds=10)
    assert plan.cutover == "when-ready"
    assert [task.verify for task in plan.after] == ["full"]


def test_settings_and_steps(tmp_path: Path) -> None:
    """Settings and steps of the file are those of the migration."""
    text = ENDS + (
        "settings: {include: [shop], exclude: [shop.log], verify: false, rename: [shop=store]}\n"
        "steps: [{name: user, include: [shop.users]}, {name: rest, include: [shop]}]\n"
    )

    settings = loaded(tmp_path, text).as_settings()

    assert settings.namespaces == NamespaceFilter.parse(["shop"], ["shop.log"])
    assert not settings.verify
    assert settings.renames.texts()
    assert [step.name for step in settings.steps] == ["user", "rest"]
    assert type(settings).restored(json.loads(json.dumps(settings.stored()))) == settings


@pytest.mark.parametrize(
    ("written", "change"),
    [
        ("", LimitChange()),
        ("limits: {}\n", LimitChange()),
        (
            "limits: {load_level: 2, megabytes_per_second: 1.5, max_lag: 1m, max_latency: 500ms}\n",
            LimitChange(
                load_level=2,
                megabytes_per_second=1.5,
                max_lag=timedelta(minutes=1),
                max_latency=timedelta(seconds=0.5),
            ),
        ),
        (
            "limits: {documents_per_second: '${N}', windows: [22:00-06:00, 12:00-13:00]}\n",
            LimitChange(
                documents_per_second=70,
                windows=(Window.parse("22:00-06:00"), Window.parse("12:00-13:00")),
            ),
        ),
        (
            "limits: {documents_per_second: null, max_lag: 0, max_latency: 0, max_queue: null, "
            "windows: []}\n",
            LimitChange(
                documents_per_second=0,
                max_lag=timedelta(),
                max_latency=timedelta(),
                max_queue=0,
                windows=(),
            ),
        ),
    ],
)
def test_limits(tmp_path: Path, written: str, change: LimitChange) -> None:
    """Limits are changed as far as the file names them; zero, null and no window lift them."""
    assert loaded(tmp_path, ENDS + written, N="70").limits.as_change() == change


@pytest.mark.parametrize(
    ("written", "span"),
    [
        ("90", timedelta(seconds=90)),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ('"2m"', timedelta(minutes=2)),
    ],
)
def test_spans(tmp_path: Path, written: str, span: timedelta) -> None:
    """Spans are written as on the command line."""
    assert loaded(tmp_path, f"{ENDS}delay: {written}\n").delay == span


def test_variables(tmp_path: Path) -> None:
    """Variables of the environment are put in, also as numbers, with defaults and escapes."""
    text = (
        "source: ${A}\ntarget: mongodb://${B:-two}/${C:-}\nattempts: ${N}\n"
        'hooks: [{before: "*", run: ["echo", "$${HOME}"]}]\n'
    )

    plan = loaded(tmp_path, text, A="mongodb://one", N="5")

    assert plan.source.get_secret_value() == "mongodb://one"
    assert plan.target.get_secret_value() == "mongodb://two/"
    assert plan.attempts == 5
    assert plan.hooks[0].run == ("echo", "${HOME}")


def test_variable_cannot_change_structure(tmp_path: Path) -> None:
    """What a variable holds is one value, whatever it looks like."""
    value = "x\nattempts: 9\n# ${B}"

    plan = loaded(tmp_path, "source: ${A}\ntarget: b\n", A=value)

    assert plan.source.get_secret_value() == value
    assert plan.attempts == 3


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("source: ${A}\ntarget: b\n", ["1:1: source: the environment variable A is not set"]),
        (
            "source: a\ntarget: ${A B}\n",
            [
                "2:1: target: expected the name of a variable between ${ and }; `$${` stands for "
                "`${`"
            ],
        ),
        ("source: a\n", ["1:1: target: is missing"]),
        (
            ENDS + "attemps: 3\nnonsense: 1\n",
            ["3:1: attemps: is unknown; did you mean 'attempts'?"],
        ),
        (ENDS + "attempts: 0\n", ["3:1: attempts: expected greater than or equal to 1"]),
        (ENDS + "delay: soon\n", ["3:1: delay: expected a span such as 90s, 10m or 1h30m"]),
        (ENDS + f"delay: {10**12}h\n", ["3:1: delay: expected a shorter span"]),
        (
            ENDS + "health: {every: 0s}\n",
            ["3:10: health.every: expected greater than or equal to 1 second"],
        ),
        (ENDS + "health:\n  evry: 1s\n", ["4:3: health.evry: is unknown; did you mean 'every'?"]),
        (
            ENDS + "steps:\n  - name: a\n    include: [x]\n  - name: b\n",
            ["6:5: steps[1].include: is missing"],
        ),
        (
            ENDS + "steps: [{name: cleanup, include: [x]}]\n",
            [
                "3:9: steps[0]: step 'cleanup': expected patterns and a name, not 'cleanup' or "
                "'other'"
            ],
        ),
        (
            ENDS + "steps: [{name: a, include: [x]}, {name: a, include: [y]}]\n",
            ["1:1: steps: expected each name once, got 'a' twice"],
        ),
        (
            ENDS + "hooks:\n  - {before: message, after: message, run: x}\n",
            ["4:5: hooks[0]: expected either `before` or `after`"],
        ),
        (
            ENDS + "hooks:\n  - {after: mesage, run: x}\n",
            [
                "4:6: hooks[0].after: is no step; expected one of 'user', 'channel', 'message', "
                "'conversation', 'cleanup', '*'"
            ],
        ),
        (
            ENDS + "hooks: [{after: message, run: []}]\n",
            [
                "3:26: hooks[0].run: expected a command: a list of words, or a line for the shell",
            ],
        ),
        (
            ENDS + "after:\n  - {run: x, notify: y}\n",
            ["4:5: after[0]: expected exactly one of `verify`, `run`, `http` and `notify`"],
        ),
        (
            ENDS + "after:\n  - http: {url: 'ftp://u:hush@x'}\n",
            ["4:12: after[0].http.url: expected a URL that starts with http:// or https://"],
        ),
        (
            ENDS + "notify:\n  - url: nonsense://hush\n",
            [
                "4:5: notify[0].url: expected an address that Apprise understands, such as "
                "mailto://… or slack://…"
            ],
        ),
        (
            ENDS + "limits:\n  load_level: 5\n",
            ["4:3: limits.load_level: expected less than or equal to 4"],
        ),
        (ENDS + "limits: {load_level: }\n", ["3:10: limits.load_level: expected 1, 2, 3 or 4"]),
        (
            ENDS + "limits: {documents_per_second: -1, max_latency: 500}\n",
            [
                "3:10: limits.documents_per_second: expected greater than or equal to 0",
                "3:36: limits.max_latency: expected a span such as 500ms or 2s",
            ],
        ),
        (
            ENDS + "limits:\n  windows: [22:00-06:00, '25:00-1:00']\n",
            [
                "4:26: limits.windows[1]: read a time window: expected one such as '22:00-06:00', "
                "got '25:00-1:00'"
            ],
        ),
        (ENDS + "limits: {max_lag: 2000h}\n", ["3:1: limits: set max lag: expected up to a day"]),
        (
            ENDS + "limits: {lod_level: 2}\n",
            ["3:10: limits.lod_level: is unknown; did you mean 'load_level'?"],
        ),
        ("- a\n", ["1:1: expected fields such as `source` and `target`"]),
        ("source: [a\n", ["2:1: expected ',' or ']', but got '<stream end>'"]),
        ("source: a\nsource: hush\n", ['2:1: found duplicate key "source"']),
    ],
)
def test_faults(tmp_path: Path, text: str, faults: list[str]) -> None:
    """A fault is told with its line and column, and without the value."""
    told = refusal(tmp_path, text)

    assert len(told) >= len(faults)
    assert all(line.startswith(fault) for line, fault in zip(told, faults, strict=False)), told
    assert "hush" not in "".join(told)


def test_all_faults_at_once(tmp_path: Path) -> None:
    """All faults of a file are told, in its order."""
    told = refusal(tmp_path, "attempts: x\ntarget: b\ndelay: x\nhooks: [{}]\n")

    assert [line.split(":")[0] for line in told] == sorted(line.split(":")[0] for line in told)
    assert len(told) == 4


def test_faults_beside_a_variable_that_is_not_set(tmp_path: Path) -> None:
    """A variable that is not set hides no other fault, and what it stands for has none."""
    text = (
        "source: a\ntarget: ${B}\nattempts: ${N}\ndelay: soon\n"
        "steps: [{name: user, include: []}]\nhooks: [{before: usr, run: x}]\n"
    )
    told = refusal(tmp_path, text)

    assert [line.partition(" ")[2] for line in told] == [
        "target: the environment variable B is not set",
        "attempts: the environment variable N is not set",
        "delay: expected a span such as 90s, 10m or 1h30m",
        "steps[0].include: is empty",
        "hooks[0].before: is no step; expected one of 'user', 'other', 'cleanup', '*'",
    ]


def test_unreadable(tmp_path: Path) -> None:
    """A file that is not there is told as such."""
    with pytest.raises(PlanInvalid, match="No such file"):
        load(tmp_path / "none.yaml", {})


def test_secrets(tmp_path: Path) -> None:
    """Addresses, headers and the variables in them are hidden; other variables are not."""
    file = tmp_path / "plan.yaml"
    file.write_text(
        "source: mongodb://ann:${PW}@one\ntarget: mongodb://ann:p%40ss-word@two\n"
        "attempts: ${N}\n"
        "after: [{http: {url: 'http://x/${KEY}', headers: {a: 'Bearer ${TOKEN}'}}}]\n"
        "notify: [{url: 'json://bob:quiet-now@x'}]\n"
    )
    environment = {"PW": "topsecret", "N": "77", "KEY": "key-value", "TOKEN": "tok-en"}

    plan, secrets = load(file, environment)

    said = "topsecret p%40ss-word p@ss-word key-value tok-en quiet-now mongodb://x:y@z 77"
    assert secrets.hidden(said) == "*** *** *** *** *** *** mongodb://***@z 77"
    for secret in ("topsecret", "ss-word", "key-value", "tok-en", "quiet-now"):
        assert secret not in repr(plan) + repr(secrets) + str(plan)


def test_short_secrets_hide_nothing() -> None:
    """A password of three letters is not looked for in ordinary words."""
    assert Secrets.of(["mongodb://a:the@x"]).hidden("the end") == "the end"


def test_schema_is_published() -> None:
    """The schema in the documentation is that of the program."""
    published = json.loads((DOCS / "run.schema.json").read_text(encoding="utf-8"))

    assert published == schema(), "limosa run --schema > docs/run.schema.json"


def fields_of(model: Any, seen: set[str]) -> set[str]:
    for name, field in model.model_fields.items():
        seen.add(name)
        parts = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for part in parts:
            if isinstance(part, type) and issubclass(part, BaseModel):
                fields_of(part, seen)
    return seen


def test_every_field_is_documented() -> None:
    """Each field of a plan file, and each moment of a notification, is in docs/run.md."""
    page = (DOCS / "run.md").read_text(encoding="utf-8")

    missing = [name for name in fields_of(PlanFile, set()) if name not in page]

    assert missing == []
    assert all(f"`{moment}`" in page for moment in Moment)
