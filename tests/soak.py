"""
Random load, random faults and random kills, round after round: `make soak`.

    python tests/soak.py [--seed 1] [--rounds 20] [--minutes 5] [--keep DIR]

What happens in a round, and in which order, follows from its seed alone; at which moment it
strikes depends on the machine, too. Each round moves some thousand documents between two real
servers while an application writes, and ends with an independent comparison. What a round that
fails leaves is kept, with its seed and its plan.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "e2e"))

from failing import FailPoint
from faults import FAULTS, HURRIED, Site
from judge import differences
from program import Program, limosa
from pymongo import MongoClient
from soak_field import SECRET, Field, is_blocked, uri_of_application
from soak_plan import COMMANDS, PASSING, STAYS, Plan, Step, change_schema, limits_for, plan_for
from waiting import until

from limosa.catalog import folder_for, watch
from limosa.errors import IllegalTransition, UnknownMigration
from limosa.state import Migration, State
from limosa.workload import Traffic, fill

Client = MongoClient[dict[str, Any]]

#: So slow a target that a round lasts long enough for all that is to happen in it.
SLOWED = ("insert", "createIndexes", "update", "find")
PATIENCE = 90.0  # seconds
FAILED = 3  # exit code


class Round:
    """One migration through all that its plan has in store."""

    def __init__(self, plan: Plan, field: Field, folder: Path) -> None:
        self.plan = plan
        self.kills = 0
        self._field = field
        self._source, self._target = field.sites["source"], field.sites["target"]
        options = ("--workers", str(plan.workers), "--log-format", "json")
        options += ("--reversible",) if plan.returns else ()
        options += ("--block-writes", plan.blocked, *plan.chosen)
        source, target = (
            f"mongodb://mover:{SECRET}@{site.network.address}/?authSource=admin&{HURRIED}"
            for site in (self._source, self._target)
        )
        self._program = Program(source, target, folder / "state", options)

    def play(self) -> list[str]:
        """Return in what the two ends differ after the commit; raise if there was none."""
        self._field.clear()
        fill(self._source.client, documents=self.plan.documents, seed=self.plan.seed)
        self._source.client.ledger[STAYS].insert_many({"_id": number} for number in range(100))
        FailPoint(self._target.client).slow_down(SLOWED, milliseconds=self.plan.slowed_by)
        with self._program, self._traffic("source") as traffic:
            self._program.start()
            for step in self.plan.steps:
                self._take(step)
            self._follow(traffic)
            for step in self.plan.last_steps:
                self._take(step)
            self._end()
            found = self._differences() + self._blocks(self._source, self._target)
            if self.plan.returns and not found:
                found = self._return()
        return found

    def _return(self) -> list[str]:
        """Have all flow back, through a kill, and return in what the ends differ then."""
        asked = limosa("reverse", "--state", self._program.folder)
        assert asked.code == 0, asked.err
        with self._traffic("target") as traffic:
            self._program.start()
            until(self._is_driven, "start")
            self._kill()
            self._follow(traffic)
            self._end()
        return self._differences(back=True) + self._blocks(self._target, self._source)

    def _differences(self, *, back: bool = False) -> list[str]:
        ends, plan = (self._source.client, self._target.client), self.plan
        return differences(*ends, included=plan.includes, renamed=plan.renamed, back=back)

    def _blocks(self, left: Site, entered: Site) -> list[str]:
        """Return where the application may not write after a commit, or may, against the plan."""
        found = []
        for site, is_meant in ((left, self.plan.blocked == "both"), (entered, False)):
            with MongoClient[dict[str, Any]](uri_of_application(site)) as client:
                if is_blocked(client) != is_meant:
                    found.append(f"{site.side}: writes are {'not ' * is_meant}blocked")
        return found

    def _traffic(self, side: str) -> Traffic:
        return Traffic(
            uri_of_application(self._field.sites[side]),
            rate=self.plan.rate,
            seed=self.plan.seed,
            workers=2,
            lasting=timedelta(minutes=3),
        )

    def said(self) -> str:
        """Return what the migration has logged."""
        return self._program.log()

    def _take(self, step: Step) -> None:
        if step.number % 4:  # else perhaps before the process has done anything
            until(lambda: self._is_driven() or self._has_ended(), "start")
        time.sleep(step.after)  # the moment is random; nothing is waited for
        site = self._field.sites[step.side]
        match step.what:
            case "limosa killed":
                self._kill()
            case "stepped down":
                self._field.sets[step.side].step_down()
            case "silent":
                site.network.silence()
                time.sleep(step.number % 3 / 2)
                site.network.heal()
            case "slow":
                site.network.delay(step.number % 10 / 500)
                site.network.throttle(400_000)
            case "commands fail":
                dice = random.Random(step.number)
                commands = dice.sample(COMMANDS[step.side], k=2)
                how: dict[str, Any] = {"errorCode": dice.choice(PASSING)}
                if dice.random() < 0.4:
                    how = {"closeConnection": True}
                FailPoint(site.client).on(commands, times=dice.randint(1, 4), **how)
            case "paused":
                self._pause(step.number % 4 / 10)
            case "taken away":
                self._take_away(step.number)
            case "schema changed":
                change_schema(self._source.client, step.number)
            case "limosa stopped":
                self._stop()
            case "throttled":
                change = limits_for(step.number)
                self._steer(lambda m: replace(m, limits=change.applied_to(m.limits)))
            case "index builds killed":
                _kill_builds(self._target.client)
            case "late" if step.side == "target" and not self._has_copied():
                # An insert has no number by which the server knows it for late: it could bring
                # back what was deleted since.
                FAULTS["muted"](site, "any")
            case fault:
                FAULTS[fault](site, "any")

    def _take_away(self, number: int) -> None:
        """Drop or rename a collection of the target, if that would be noticed already."""
        migration = self._migration()
        if migration is None or migration.verified_at is None or migration.can_write:
            return
        target = self._target.client[self.plan.renamed("shop")]
        name = random.Random(number).choice(sorted(target.list_collection_names()) or [""])
        if name and number % 3:
            target.drop_collection(name)
        elif name:
            target[name].rename(f"theirs{number}")
            target.drop_collection(f"theirs{number}")

    def _kill(self) -> None:
        if self._has_ended():
            return  # committed already
        self._program.kill()
        self.kills += 1
        # Only the process that sent a write makes a late one known for late.
        self._field.deliver()
        self._program.start()

    def _stop(self) -> None:
        if self._has_ended():
            return
        assert self._program.process is not None
        self._program.process.terminate()
        self._program.end(seconds=PATIENCE)
        self._field.deliver()
        self._program.start()

    def _pause(self, seconds: float) -> None:
        self._steer(lambda m: m.moved_to(State.PAUSED) if m.state is State.RUNNING else m)
        time.sleep(seconds)
        self._steer(lambda m: m.moved_to(State.RUNNING) if m.state is State.PAUSED else m)

    def _follow(self, traffic: Traffic) -> None:
        """Ask for a commit when that is possible, and hold the application before."""
        FailPoint(self._target.client).off()
        until(self._can_commit, "commit allowed", seconds=PATIENCE)
        traffic.hold()
        until(self._asks_for_commit, "commit taken", seconds=PATIENCE)

    def _asks_for_commit(self) -> bool:
        try:
            self._steer(Migration.committing)
        except IllegalTransition:
            return False  # what has just joined is compared first
        return True

    def _can_commit(self) -> bool:
        self._begin_again()
        assert not self._has_ended(), f"ended early: {self.said()[-2_000:]}"
        migration = self._migration()
        return migration is not None and migration.can_commit

    def _begin_again(self) -> None:
        """Start a process that gave up before all was planned: that it does within seconds."""
        process, migration = self._program.process, self._migration()
        if process and process.poll() == FAILED and migration and migration.planned_at is None:
            self._program.start()

    def _has_copied(self) -> bool:
        migration = self._migration()
        return migration is not None and migration.copied_at is not None

    def _migration(self) -> Migration | None:
        try:
            with closing(watch(self._folder)) as store:
                return store.migration()
        except UnknownMigration:
            return None  # the process has not come so far

    def _end(self) -> None:
        self._field.calm()
        code = self._program.end(seconds=PATIENCE)
        assert code == 0, f"exit code {code}: {self.said()[-2_000:]}"

    def _is_driven(self) -> bool:
        migration = self._migration()
        process = self._program.process
        return bool(migration and process and migration.holder.endswith(f":{process.pid}"))

    def _steer(self, change: Any) -> None:
        if self._migration() is not None:
            with closing(watch(self._folder)) as store:
                store.update(change)

    def _has_ended(self) -> bool:
        process = self._program.process
        return process is None or process.poll() is not None

    @property
    def _folder(self) -> Any:
        return folder_for("any", self._program.folder)


def _kill_builds(target: Client) -> None:
    pipeline: list[dict[str, Any]] = [
        {"$currentOp": {"allUsers": True}},
        {"$match": {"command.createIndexes": {"$exists": True}, "appName": "limosa"}},
    ]
    for operation in target.admin.aggregate(pipeline):
        target.admin.command("killOp", op=operation["opid"])


def play(seed: int, field: Field, keep: Path) -> bool:
    """Play one round and print what came of it; whether all was well."""
    plan = plan_for(seed)
    folder = Path(tempfile.mkdtemp(prefix="limosa-soak-"))
    began = time.monotonic()
    game = Round(plan, field, folder)
    try:
        found = game.play()
    except Exception as error:
        found = [f"{type(error).__name__}: {error}"]
    what = ", ".join(s.what for s in (*plan.steps, *plan.last_steps))
    what += ", and back" if plan.returns else ""
    what += f"; {' '.join((f'--block-writes {plan.blocked}', *plan.chosen))}"
    took = f"{time.monotonic() - began:.1f} s, {game.kills} kills; {what}"
    if not found:
        tell(f"seed {seed}: equal ({took})")
    else:
        kept = _keep(game, field, folder, keep / f"soak-{seed}", found)
        tell(f"seed {seed}: NOT EQUAL ({took}); see {kept}")
        for line in found[:10]:
            tell(f"    {line}")
    shutil.rmtree(folder, ignore_errors=True)
    return not found


def _keep(game: Round, field: Field, folder: Path, to: Path, found: list[str]) -> Path:
    """Save plan, state, logs, differences and what both servers were told."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to, ignore_dangling_symlinks=True)
    (to / "plan.json").write_text(json.dumps(asdict(game.plan), indent=2))
    (to / "differences").write_text("\n".join(found))
    for side, site in field.sites.items():
        (to / f"{side}.log").write_text(field.sets[side].members[0].log())
        with (to / f"{side}-oplog").open("w") as out:
            out.writelines(f"{entry}\n" for entry in site.client.local["oplog.rs"].find())
    return to


class Seeds:
    """Hands out one seed after the other, to several threads, until the time is up."""

    def __init__(self, seeds: Iterable[int], deadline: float) -> None:
        self._seeds = iter(seeds)
        self._deadline = deadline
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        while time.monotonic() < self._deadline:
            with self._lock:
                seed = next(self._seeds, None)
            if seed is None:
                return
            yield seed


def play_all(seeds: Iterable[int], keep: Path) -> dict[int, bool]:
    """Play a round with each of *seeds* on one field; return how each went."""
    with Field.opened() as field:
        return {seed: play(seed, field, keep) for seed in seeds}


def tell(line: str) -> None:
    """Print a line now, whoever reads it."""
    print(line, flush=True)  # noqa: T201 - a program for people


def main() -> int:
    """Play as many rounds as are asked for; 1 if any went wrong."""
    parser = argparse.ArgumentParser(description="Random load, random faults and random kills.")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, help="begin no round after so many")
    parser.add_argument("--keep", type=Path, default=Path(), help="where failures are kept")
    parser.add_argument("--jobs", type=int, default=1, help="rounds at once")
    chosen = parser.parse_args()
    deadline = time.monotonic() + 60 * (chosen.minutes or 60 * 24)
    seeds = Seeds(range(chosen.seed, chosen.seed + chosen.rounds), deadline)
    with ThreadPoolExecutor(chosen.jobs) as pool:
        jobs = [pool.submit(play_all, seeds, chosen.keep) for _ in range(chosen.jobs)]
        ended = {seed: well for job in jobs for seed, well in job.result().items()}
    failed = sorted(seed for seed, well in ended.items() if not well)
    tell(f"{len(ended) - len(failed)} of {len(ended)} rounds ended equal; not: {failed or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
