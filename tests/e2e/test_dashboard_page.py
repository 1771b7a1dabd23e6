"""The page by itself: what it shows of states that are prepared, and how it bears faults."""

from __future__ import annotations

import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from browsing import Browser, Tab, ask, chromium, expect, free_port, tab
from waiting import until

from limosa.canonical import key_for
from limosa.catalog import Folder, history
from limosa.history import Entry, Sample
from limosa.model import (
    Collection,
    CollectionSpec,
    Mismatch,
    MismatchKind,
    Namespace,
    Partition,
)
from limosa.server.app import create_app
from limosa.server.beside import Beside, Place
from limosa.server.guard import Rules, Tokens
from limosa.server.listening import Address, Server
from limosa.server.service import Service
from limosa.state import CollectionProgress, Failure, Migration, State, Suspect
from limosa.storage.sqlite import SqliteStore

NOW = datetime.now(UTC).replace(microsecond=0)
OPERATOR, READER = "operator-0123456789abcdef", "reader-0123456789abcdef"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def collection(number: int) -> Collection:
    return Collection(Namespace(f"shop{number % 7}", f"orders-{number:05}"), f"id{number}")


def prepared(path: Path, *, collections: int = 12, copied: int = 12) -> Folder:
    """Return the folder of a migration that runs, with *copied* collections on the target."""
    known = [collection(number) for number in range(collections)]
    specs = [CollectionSpec(c, documents=100 + i, size=50_000) for i, c in enumerate(known)]
    with closing(SqliteStore.drive(path, "prepared")) as store:
        store.update(
            lambda m: replace(
                m.moved_to(State.RUNNING),
                source="mongodb://old.example.com:27017",
                target="mongodb://new.example.com:27017",
                started_at=NOW - timedelta(hours=2),
            )
        )
        parts = [Partition(f"{c.id}/0", c, b"", documents=100 + i) for i, c in enumerate(known)]
        store.save_plan(
            [CollectionProgress(s, s.collection.namespace) for s in specs],
            parts,
            NOW - timedelta(hours=2),
        )
        for number, part in enumerate(parts[:copied]):
            store.partition_copied(part.id, documents=100 + number, size=50_000)
    return Folder(path)


def with_history(folder: Folder) -> None:
    """Give the migration a past of two hours."""
    with closing(history(folder)) as kept:
        for minute in range(120):
            is_copying = minute < 80
            kept.sample(
                Sample(
                    at=NOW - timedelta(minutes=120 - minute),
                    phase="collection copy" if is_copying else "change event application",
                    documents_copied=min(minute, 80) * 60_000 + min(minute, 80) % 9 * 14_000,
                    bytes_copied=min(minute, 80) * 50_000_000,
                    events_captured=minute * 900,
                    changes_applied=max(0, minute - 80) * 2000,
                    waiting=minute * 900 if is_copying else max(0, 72_000 - (minute - 80) * 4000),
                    lag_seconds=None if is_copying else max(0.5, 4800.0 - (minute - 80) * 260),
                )
            )
        kept.record(
            Entry(at=NOW, kind="Warned", level=level, message=message)
            for level, message in (
                ("info", "phase: collection copy"),
                ("warning", "the oplog holds two hours only"),
                ("error", "the migration has failed"),
            )
        )


def changed(folder: Folder, **fields: object) -> None:
    """Change the migration in *folder*."""

    def change(migration: Migration) -> Migration:
        return replace(migration, **fields)  # type: ignore[arg-type]

    with closing(SqliteStore.watch(folder.path)) as store:
        store.update(change)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return prepared(tmp_path / "state")


@contextmanager
def served(folder: Folder, *, tokens: Path | None = None, port: int = 0) -> Iterator[str]:
    """Show *folder* by a server in a thread, which is sooner there than one in a process."""
    rules = Rules.of(tokens=None if tokens is None else Tokens.read(tokens))
    with closing(Service(folder)) as service:
        server = Server(create_app(service, rules=rules), Address(port=port))
        service.begin()
        thread = threading.Thread(target=server.run, name="server")
        thread.start()
        try:
            yield server.url
        finally:
            server.stop()
            thread.join()


def test_a_failure(browser: Browser, folder: Folder) -> None:
    """A migration that failed shows why, and what to do."""
    with_history(folder)
    failure = Failure("position_lost", "the changes are gone from the oplog", "enlarge the oplog")
    changed(folder, state=State.FAILED, failure=failure, copied_at=NOW, indexed_at=NOW)
    with served(folder) as url, tab(browser, url) as seen:
        seen.open()

        seen.shows("#headline", "Stopped by an error")
        seen.shows("#failure-message", "the changes are gone from the oplog")
        seen.shows("#failure-code", "position_lost")
        seen.shows("#advice", "Enlarge the oplog.")
        assert seen.page.locator("#resume").is_disabled(), "another process drives it"
        seen.page.click("#levels button[data-level=warning]")
        lines = seen.page.locator("#entries li:visible p")
        expect(lines).to_have_text(
            ["error: the migration has failed", "warning: the oplog holds two hours only"]
        )
        seen.photograph("failed-light", whole=True)


def test_mismatches(browser: Browser, folder: Folder) -> None:
    """Mismatches are listed with their keys."""
    one = collection(3)
    found = Mismatch(MismatchKind.DIFFERENT, one.namespace, key_for(42))
    with closing(SqliteStore.drive(folder.path, "prepared")) as store:
        suspect = Suspect(found, one.id, since=NOW, digest=b"d", counts=True)
        store.partition_verified(f"{one.id}/0", compared=103, suspects=[suspect])
    with served(folder) as url, tab(browser, url, color_scheme="dark") as seen:
        seen.open()

        seen.shows("#f-mismatches", "1")
        cells = seen.page.locator("#mismatch-rows td")
        expect(cells).to_have_text(["different", str(one.namespace), '{"$numberInt":"42"}'])


def test_thousands_of_collections(browser: Browser, tmp_path: Path) -> None:
    """Of thousands of collections a few rows exist; they can be scrolled, sorted and filtered."""
    folder = prepared(tmp_path / "many", collections=5_000, copied=2_000)
    with served(folder) as url, tab(browser, url) as seen:
        page = seen.open()
        rows = page.locator("#rows tbody tr:not(.gap)")
        first = rows.first.locator("td").first
        seen.shows("#collections-count", "5,000")

        assert rows.count() < 50
        expect(first).to_have_text("shop1.orders-04999")
        assert page.locator("#table").get_attribute("aria-rowcount") == "5001"
        page.click("th button[data-column=namespace]")
        expect(first).to_have_text("shop0.orders-00000")
        assert page.locator("th[aria-sort=ascending]").inner_text().startswith("Name")
        page.locator("#rows").focus()
        page.keyboard.press("End")
        expect(rows.last.locator("td").first).to_have_text("shop6.orders-04997")
        assert rows.count() < 50
        page.fill("#filter", "orders-0123")
        expect(page.locator("#collections-count")).to_have_text("10 of 5,000")
        expect(rows).to_have_count(10)
        page.fill("#filter", "nothing like it")
        expect(page.locator("#rows-empty")).to_be_visible()


def test_a_lost_connection_heals(browser: Browser, folder: Folder) -> None:
    """A server that was killed is shown as lost, and when it is back the page goes on by itself."""
    place = Place(port=free_port())
    first = Beside(folder, place).__enter__()
    with tab(browser, first.url) as seen:
        seen.open()
        first.kill()
        seen.is_linked("lost")
        assert "is-stale" in (seen.page.locator("body").get_attribute("class") or "")
        seen.photograph("lost")

        changed(folder, state=State.PAUSED)
        with served(folder, port=place.port):
            seen.is_linked("live")
            seen.shows("#headline", "Paused")


def test_polling(browser: Browser, folder: Folder) -> None:
    """Where server-sent events do not come through, the page polls and is as true."""
    with served(folder) as url, tab(browser, url) as seen:
        seen.page.route("**/events?*", lambda route: route.abort())
        seen.open("polling")

        changed(folder, state=State.PAUSED)
        seen.shows("#headline", "Paused")


def test_a_token_is_asked_for_once(browser: Browser, folder: Folder, tmp_path: Path) -> None:
    """The page asks for the token, keeps it over a reload, and lets a reader only look."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"operator {OPERATOR}\nreader {READER}\n")
    with served(folder, tokens=tokens) as url, tab(browser, url) as seen:
        page = seen.page
        page.goto(url)
        page.wait_for_selector("#token-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("#token-dialog", state="hidden")
        seen.shows("#headline", "Locked")
        page.click("#unlock")
        page.fill("#token", "not the one, but as long as one")
        page.keyboard.press("Enter")
        expect(page.locator("#token-refused")).to_contain_text("token")
        page.fill("#token", READER)
        page.keyboard.press("Enter")
        seen.is_linked("live")
        expect(page.locator("#unlock")).to_be_hidden()
        expect(page.locator("#pause")).to_be_disabled()
        assert page.locator("#pause").get_attribute("title") == "only who may steer it can do this"
        seen.shows("#why", "Commit: only who may steer it can do this.")
        with page.expect_download() as kept:
            page.click("#export")
        assert json.loads(Path(kept.value.path()).read_text())["status"]["name"] == "prepared"

        page.reload()
        seen.is_linked("live")
        page.evaluate("token => sessionStorage.setItem('limosa.token', token)", OPERATOR)
        page.reload()
        page.click("#pause")
        seen.shows("#headline", "Paused")


def test_a_refused_verb(browser: Browser, folder: Folder) -> None:
    """A verb that is refused by the server says why on the page, and nothing else changes."""
    with served(folder) as url, tab(browser, url) as seen:
        page = seen.open()
        page.wait_for_selector("#pause:not([disabled])")
        page.route("**/events?*", lambda route: route.abort())
        page.route("**/status", lambda route: route.abort())
        changed(folder, state=State.PAUSED)
        page.click("#pause")

        expect(page.locator("#toast-text")).to_contain_text("cannot pause")


def test_limits(browser: Browser, folder: Folder) -> None:
    """Limits are shown as they are, changed in a dialog, and refused where they mean nothing."""
    with served(folder) as url, tab(browser, url) as seen:
        page = seen.open()
        page.click("#throttle")
        expect(page.get_by_label("3", exact=True)).to_be_checked()
        page.keyboard.press("ArrowLeft")
        page.fill("input[name=documentsPerSecond]", "-5")
        page.click("#throttle-confirm")
        expect(page.locator("#t-refused")).to_contain_text("expected a number from 0 on")
        seen.photograph("throttle")
        page.fill("input[name=documentsPerSecond]", "1500")
        page.keyboard.press("Enter")
        expect(page.locator("#throttle-dialog")).to_be_hidden()

        limits = ask(url, "/api/limosa/v1/status")["limits"]
        assert (limits["loadLevel"], limits["documentsPerSecond"]) == (2, 1500)
        assert limits["maxLagSeconds"] == 10, "what was not asked for stays"


def test_nobody_steers_what_is_only_shown(browser: Browser, folder: Folder) -> None:
    """A page that only shows has no verb, whoever asks for one."""
    place = Place(port=0, looks_only=True)
    with Beside(folder, place) as beside, tab(browser, url := beside.url) as seen:
        seen.open()

        expect(seen.page.locator("#pause")).to_be_disabled()
        for path in ("/api/limosa/v1/actions/pause", "/api/v1/pause"):
            with pytest.raises(OSError, match="403"):
                ask(url, path, method="POST")
        assert ask(url, "/api/limosa/v1/status")["state"] == "RUNNING"


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_phone(browser: Browser, folder: Folder, colours: str) -> None:
    """On a phone nothing is wider than the screen, and the whole past is in the curves."""
    with_history(folder)
    changed(folder, copied_at=NOW, indexed_at=NOW, verified_at=NOW, applied_to=NOW)
    size = {"width": 390, "height": 844}
    with (
        served(folder) as url,
        tab(browser, url, viewport=size, color_scheme=colours) as seen,
    ):
        page = seen.open()
        seen.shows("#collections-count", "12")

        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        name = page.locator("#rows tbody tr:not(.gap) td").first.bounding_box()
        assert name is not None
        assert name["width"] > 120, "names can be told apart"
        for cut in ("#copied-detail", "#rows tbody tr:not(.gap) td >> nth=0"):
            fits = "e => e.scrollWidth <= e.clientWidth || getComputedStyle(e).display == 'inline'"
            assert page.locator(cut).evaluate(fits), f"{cut} is read whole"
        curve = page.locator("#chart-rate path.green:not(.area)").get_attribute("d") or ""
        assert curve.count("L") > 30
        page.click("#spans button[data-span='600']")
        until(lambda: drawn(seen) < 30, "shorter curve")
        seen.photograph(f"phone-{colours}", whole=True)


def drawn(seen: Tab) -> int:
    path = seen.page.locator("#chart-lag path.rust:not(.area)").get_attribute("d")
    return (path or "").count("L")


def test_what_a_screen_reader_finds(browser: Browser, folder: Folder) -> None:
    """There are landmarks and names, the keyboard reaches all, and little moves while it loads."""
    with_history(folder)
    with served(folder) as url, tab(browser, url) as seen:
        page = seen.open()
        seen.shows("#collections-count", "12")
        expect(page.get_by_role("main")).to_be_visible()
        expect(page.get_by_role("banner")).to_be_visible()
        expect(page.get_by_role("contentinfo")).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("Interrupted")
        expect(page.get_by_role("progressbar", name="Copied")).to_have_attribute(
            "aria-valuenow", "99"
        )
        for role in ("button", "searchbox", "region", "img"):
            for found in page.get_by_role(role).all():
                assert re.match(r"- '?\w+ [\"/]", found.aria_snapshot()), "it has a name"
        page.locator("#chart-lag svg").focus()
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#chart-lag p[role=status]")).to_contain_text("lag")
        assert page.evaluate(SHIFTS) < 0.1


#: The sum of all shifts of the layout since the page was opened.
SHIFTS = """() => new Promise(done => new PerformanceObserver(list => done(
  list.getEntries().reduce((sum, each) => sum + each.value, 0)
)).observe({type: 'layout-shift', buffered: true}) || setTimeout(() => done(0), 500))"""


def test_nothing_foreign_runs(folder: Folder) -> None:
    """The page may load scripts, styles and data from its own server only, and none inline."""
    with served(folder) as url, urllib.request.urlopen(url, timeout=10) as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "style=" not in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
