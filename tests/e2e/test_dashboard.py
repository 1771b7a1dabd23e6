"""The dashboard of a real migration, in a real browser."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browsing import Browser, Tab, ask, await_server, chromium, expect, free_port, tab
from failing import FailPoint
from program import COMMAND, Program
from waiting import PATIENCE, until

from limosa.views.figures import count, size
from limosa.workload import Traffic, fill

if TYPE_CHECKING:
    from conftest import Ends

API = "/api/limosa/v1"
DOCUMENTS = 6_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def program(ends: Ends, tmp_path: Path) -> Iterator[Program]:
    """A migration with a dashboard, not started yet."""
    fill(ends.source.uri, documents=DOCUMENTS)
    folder = tmp_path / "shown"
    options = ("--listen", str(free_port()), "--workers", "1")
    with Program(ends.source.uri, ends.target.uri, folder, options) as program:
        yield program


def address(program: Program) -> str:
    return f"http://127.0.0.1:{program.options[1]}"


def number(text: str) -> int:
    found = re.search(r"[\d,]+", text)
    assert found is not None, text
    return int(found[0].replace(",", ""))


def test_a_migration_from_the_browser(browser: Browser, program: Program, ends: Ends) -> None:
    """A migration is watched, paused, resumed and committed on the page, whose figures are true."""
    url = address(program)
    slow = FailPoint(ends.target.client)
    slow.slow_down(("insert",), milliseconds=1000)
    with Traffic(ends.source.uri, rate=50) as traffic:
        program.start()
        await_server(url)
        with tab(browser, url) as seen:
            copying(seen, url)
            slow.off()
            paused(seen, url)
            resumed(seen)
            traffic.hold()
            committed(seen, url)
            assert program.end() == 0, program.log()
            seen.is_linked("ended")
            elsewhere = [u for u in seen.requested if not u.startswith((url, "blob:"))]
            assert elsewhere == []


def copying(seen: Tab, url: str) -> None:
    page = seen.open()
    seen.shows("#headline", "Copying collections")
    before = ask(url, f"{API}/status")["progress"]["copiedDocuments"]
    until(lambda: number(seen.text("#copied-detail")) > before, "progress on the page")
    on_page = number(seen.text("#copied-detail"))
    after = ask(url, f"{API}/status")["progress"]["copiedDocuments"]
    assert before < on_page <= after
    until(lambda: page.locator("#rows tbody tr:not(.gap)").count() > 5, "collections on the page")
    assert page.locator("#commit").is_disabled()
    seen.photograph("copy-light", whole=True)


def paused(seen: Tab, url: str) -> None:
    """Pause, and compare what stands still on the page with what the server answers."""
    page = seen.page
    page.click("#pause")
    seen.shows("#headline", "Paused")
    expected = settled(url)

    page.reload()
    seen.is_linked("live")

    for selector, text in on_page(expected).items():
        seen.shows(selector, text)
    totals = {row[0]: row for row in ask(url, f"{API}/collections")["collections"]}
    first = page.locator("#rows tbody tr:not(.gap)").first.locator("td")
    name, planned, copied, _, held = (text.strip() for text in first.all_inner_texts())
    row = totals[name]
    assert row[1] == max(each[1] for each in totals.values()), "largest first"
    assert [planned, copied, held] == [count(row[1]), count(row[2]), size(row[4])]
    log = [entry["message"] for entry in ask(url, f"{API}/entries")["entries"]]
    shown = page.locator("#entries li p").all_inner_texts()
    assert shown[-1] == log[0]
    assert any(re.fullmatch(r"pause from 127\.0\.0\.1:\d+: done", line) for line in shown)
    assert page.locator("#chart-rate path.green").first.get_attribute("d") is not None
    page.emulate_media(color_scheme="dark")
    seen.photograph("paused-dark", whole=True)
    page.emulate_media(color_scheme="light")


def settled(url: str) -> dict[str, Any]:
    """Return the status once the batches under way have ended."""
    seen: list[Any] = []

    def look() -> bool:
        now = ask(url, f"{API}/status")
        seen.append((now["progress"]["copiedDocuments"], now["changes"]["changesApplied"], now))
        # Captured changes go on; samples come every second.
        return len(seen) > 60 and seen[-1][:2] == seen[-60][:2]

    until(look, "standstill")
    status: dict[str, Any] = seen[-1][2]
    return status


def on_page(status: dict[str, Any]) -> dict[str, str]:
    """Return what each element has to show for *status*; only what stands still in a pause."""
    copy, now = status["collectionCopy"], status["progress"]
    copied = (
        f"{count(now['copiedDocuments'])} of about {count(copy['estimatedDocuments'])} documents"
    )
    return {
        "#name": status["name"],
        "#state": status["state"],
        "#phase": status["phase"],
        "#source": status["source"],
        "#target": status["target"],
        "#copied-detail": f"{copied}, {size(now['copiedBytes'])}",
        "#f-applied": count(status["changes"]["changesApplied"]),
        "#f-mismatches": count(status["verification"]["mismatches"]),
        "#collections-count": count(copy["collections"]),
    }


def resumed(seen: Tab) -> None:
    page = seen.page
    page.click("#resume")
    page.wait_for_selector("#commit:not([disabled])")
    seen.shows("#headline", "Ready to commit")
    seen.photograph("application-light", whole=True)


def committed(seen: Tab, url: str) -> None:
    """Commit, after having thought better of it once."""
    page = seen.page
    page.click("#commit")
    page.wait_for_selector("#commit-dialog[open]")
    assert page.evaluate("document.activeElement.value") == "cancel", "nothing is done by Enter"
    seen.photograph("commit")
    page.keyboard.press("Escape")
    assert ask(url, f"{API}/status")["state"] == "RUNNING"
    page.click("#commit")
    page.click("#commit-confirm")
    seen.shows("#headline", "Committed")
    assert page.locator("#commit").is_hidden()
    seen.shows("#state", "COMMITTED")
    seen.photograph("committed-light", whole=True)


def test_nothing_but_the_browser(browser: Browser, ends: Ends, tmp_path: Path) -> None:
    """A migration is chosen, started, committed and reversed on the page of `limosa serve`."""
    fill(ends.source.uri, documents=500)
    url = f"http://127.0.0.1:{(port := free_port())}"
    clusters = ("--cluster0", ends.target.uri, "--cluster1", ends.source.uri)
    options = ("--port", str(port), "--state", str(tmp_path / "state"))
    with subprocess.Popen([*COMMAND, "serve", *clusters, *options]) as server:
        try:
            await_server(url)
            with tab(browser, url) as seen:
                started(seen, database="shop")
                seen.page.click("#commit")
                seen.page.click("#commit-confirm")
                seen.shows("#headline", "Committed")
                before = seen.text("#source"), seen.text("#target")
                seen.page.click("#reverse")
                seen.page.click("#reverse-confirm")
                seen.shows("#source", before[1])
                seen.shows("#target", before[0])
                seen.page.wait_for_selector("#commit:not([disabled])")
        finally:
            server.terminate()
    found = set(ends.target.client.list_database_names())
    assert "shop" in found
    assert not found & {"chat", "iot", "logs"}


def started(seen: Tab, *, database: str) -> None:
    """Start a migration from the second cluster to the first, and await its end."""
    page = seen.open()
    seen.shows("#headline", "Not started")
    assert page.locator("#commit").is_hidden()
    page.click("#start")
    page.click("#way-1")
    page.fill("#start-form input[name=include]", f"{database}, {database}")
    page.check("#start-form input[name=reversible]")
    seen.photograph("start")
    page.click("#start-confirm")
    page.wait_for_selector("#commit:not([disabled])")


def test_the_monitor_of_others(browser: Browser, program: Program) -> None:
    """The monitor, dashboard and manager that know `/migrate/result` see the migration end."""
    program.options = (*program.options, "--commit", "when-ready")
    url = address(program)
    program.start()
    await_server(url)
    with tab(browser, url) as seen:
        seen.page.route(f"{url}/monitored", lambda route: route.fulfill(body=MONITORED))
        seen.page.route(f"{url}/monitor.js", lambda route: route.fulfill(path=MONITOR))
        seen.page.goto(f"{url}/monitored")

        seen.shows("#monitor", "completed cleanup null 1")
        seen.shows("#manager", "true")
        bars = seen.text("#bars").split()
        assert bars == sorted(bars, key=float)
        assert bars[-1] == "100"
        assert "Final Step: cleanup" in seen.text("#migration-dashboard")
        seen.photograph("monitor-of-others")
    assert program.end() == 0


def test_the_demo_waits_for_who_looks(browser: Browser, mongod_options: object) -> None:
    """At a terminal the demo's dashboard stays after the summary until Enter; nothing steers it."""
    ours, theirs = pty.openpty()
    command = [*COMMAND, "demo", "--documents=500", "--rate=50", "--follow=0"]
    said = ""
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as demo:
        os.close(theirs)

        def look() -> bool:
            nonlocal said
            said += os.read(ours, 65536).decode(errors="replace")
            return "until you press Enter" in said

        try:
            until(look, "end of the demo")
            found = re.search(r"stays at (http://\S+)", said)
            assert found is not None
            with tab(browser, found[1]) as seen:
                seen.open()
                seen.shows("#headline", "Committed")
                expect(seen.page.locator("#reverse")).to_be_disabled()
            os.write(ours, b"\n")
            assert demo.wait(PATIENCE) == 0
        finally:
            demo.terminate()
            os.close(ours)


#: The code of the page as it is; only its intervals are shorter.
MONITOR = Path(__file__).with_name("migrate_result_page.js")
MONITORED = """<!doctype html><title>monitored</title>
<p id="monitor"></p><p id="manager"></p><p id="bars"></p><div id="migration-dashboard"></div>
<script src="/monitor.js"></script>
<script>
  const at = (id) => document.getElementById(id);
  const monitor = new MigrationMonitor(100);
  monitor.onComplete((s) => {
    at("monitor").textContent = [s.status, s.step, s.last_err ?? "null", s.try_count].join(" ");
  });
  monitor.startMonitoring();
  const dashboard = new MigrationDashboard();
  dashboard.monitor.checkInterval = 100;
  const update = dashboard.updateCurrentMigration.bind(dashboard);
  dashboard.updateCurrentMigration = (status) => {
    update(status);
    at("bars").textContent += ` ${dashboard.currentMigration.progress}`;
  };
  dashboard.startDashboard();
  const manager = new MigrationManager();
  manager.healthCheckInterval = 100;
  manager.manageMigration().then((r) => { at("manager").textContent = r.success; });
</script>
"""
