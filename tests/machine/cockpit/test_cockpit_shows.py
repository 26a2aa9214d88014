"""What the page tells, while it happens: how the agent stands, what differs, what happened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pf_agent import names
from tests.checkout import CHECKOUT
from tests.machine.cockpit.axe import violations
from tests.machine.site import EXTRA, INTRUDE, MAIN_CF, Site

if TYPE_CHECKING:
    from tests.machine.cockpit.page import Page

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("at_rest")]

UNIT = f"{names.PROGRAM}.service"
RELAY = "0.0.0.0/0"
PICTURE = CHECKOUT / "docs" / "cockpit.png"
MOST_BYTES = 200_000

# Postfix's programs wait for a main.cf that was written just now.
COOL = f"touch -d '-5 seconds' {MAIN_CF}"

# Each phase that the page was in, since its document is watched.
WATCH_PHASES = """
window.phases = [];
const state = document.querySelector("#state");
new MutationObserver(() => window.phases.push(state.dataset.phase))
    .observe(state, { attributes: true, attributeFilter: ["data-phase"] });
"""


def test_in_sync_it_tells_what_the_command_tells(site: Site, page: Page) -> None:
    page.wait_phase("in-sync")
    told = site.told()
    assert page.texts("#state-phase[role=status]") == ["In sync"], "a screen reader tells of it"
    assert page.texts("#state-sentence") == [
        f"main.cf is as desired: {told['parameters']} parameters are kept."
    ]
    assert page.fact("parameters") == str(told["parameters"])
    assert page.fact("version") == told["version"]
    assert page.texts("#state-problems li") == told["problems"] == []
    assert page.orders() == {"look", "suspend"}
    assert page.texts("#limited:not(:empty)") == []


def test_a_drift_becomes_a_row_with_both_lines_of_its_diff(site: Site, page: Page) -> None:
    row = page.drift(site, "sh", "-c", INTRUDE, outcome="Postfix runs with it")
    good = site.explicit()["mynetworks"]
    assert row.says("parameters") == "mynetworks"
    (*_, told) = json.loads(site.agent("history", "--json").stdout)
    assert row.says("writer") == told["writer"]
    assert row.drift() == {"mynetworks": (good, RELAY)}
    assert row.lines("removed") == [f"-mynetworks = {RELAY}"]
    assert row.lines("added") == [f"+mynetworks = {good}"]
    page.wait_text('[data-fact="last-drift"]', "mynetworks")


def test_what_has_the_focus_keeps_it_while_a_row_comes(site: Site, page: Page) -> None:
    name = f"{page.some_drift(site).body} > tr button.parameter"
    page.chromium.script("document.querySelector(arguments[0]).focus()", name)
    since = site.cursor()
    site.machine.sh(INTRUDE)
    page.wait_row(site.cycle_of(since), "Corrected")
    assert page.has_focus(name)


def test_markup_and_japanese_in_a_value_are_text(site: Site, page: Page) -> None:
    hostile = "<script>top.hit = 1</script><img src=x onerror=top.hit=1> 日本語"
    row = page.drift(site, "postconf", "-e", f"smtpd_banner = {hostile}")
    assert row.drift() == {"smtpd_banner": ("$myhostname ESMTP", hostile)}
    assert row.lines("removed") == [f"-smtpd_banner = {hostile}"]
    assert (
        page.chromium.script("return document.querySelectorAll('main img, main script').length")
        == 0
    )
    assert page.chromium.shell("return typeof top.hit") == "undefined"


def test_a_deleted_main_cf_is_a_diff_that_is_folded(site: Site, page: Page) -> None:
    row = page.drift(site, "rm", MAIN_CF)
    assert len(page.texts(f"{row.body} pre.diff > span")) == 40
    page.chromium.click(f"{row.body} button.unfold")
    added = row.lines("added")
    assert f"+mynetworks = {site.explicit()['mynetworks']}" in added
    assert len(added) > 40


def test_rows_are_found_by_parameter(site: Site, page: Page) -> None:
    other = page.some_drift(site)
    row = page.drift(site, "postconf", "-e", "mailbox_size_limit = 4711")
    page.fill("#history-filter", "MAILBOX")
    assert page.texts(row.cell("parameters")) == ["mailbox_size_limit"]
    assert page.texts(other.cell("parameters")) == []
    page.chromium.script(
        "const f = document.querySelector('#history-filter');"
        "f.value = ''; f.dispatchEvent(new Event('input'))"
    )
    assert page.texts(other.cell("parameters")) == ["mynetworks"]


def test_a_parameter_is_explained_on_a_click_on_its_name(site: Site, page: Page) -> None:
    row = page.some_drift(site)
    page.chromium.click(f"{row.body} button.parameter")
    page.wait_text('#parameter [data-fact="wanted"]', site.explicit()["mynetworks"])
    told = json.loads(site.agent("explain", "mynetworks", "--json").stdout)
    assert told["place"] in page.texts('#parameter [data-fact="place"]')[0]
    assert page.texts('#parameter [data-fact="actual"]') == [
        f"{told['actual']} (line {site.line_of('mynetworks')})"
    ]
    page.chromium.click("#parameter [data-order=close]")
    page.wait_none("#parameter")


def test_it_follows_an_agent_that_is_stopped_and_started(site: Site, page: Page) -> None:
    site.machine.run(["systemctl", "stop", UNIT])
    page.wait_phase("down")
    assert page.texts("#state-sentence") == ["Nobody looks after main.cf."]
    assert page.orders() == {"start-agent"}
    assert page.ask('[data-order="start-agent"]') == f"systemctl start {UNIT}"
    page.confirm()
    page.wait_phase("in-sync")


@pytest.mark.parametrize("deed", ["kill --kill-whom=main --signal=KILL", "restart"])
def test_it_follows_an_agent_that_is_killed_or_restarted(site: Site, page: Page, deed: str) -> None:
    page.chromium.script(WATCH_PHASES)
    site.machine.run(["systemctl", *deed.split(), UNIT])
    page.chromium.wait("window.phases.includes('down')")
    page.wait_phase("in-sync")
    # What came over the bus before still does.
    assert page.drift(site, "sh", "-c", INTRUDE).lines("removed")


@pytest.mark.usefixtures("observing")
def test_observing_shows_what_differs(site: Site, page: Page) -> None:
    site.machine.sh(INTRUDE)
    row = '#differs tr[data-parameter="mynetworks"]'
    assert page.wait_text(f"{row} [data-cell=actual]", "") == RELAY
    assert page.texts(f"{row} [data-cell=expected]") == [
        json.loads(site.agent("diff", "--json").stdout)["drift"][0]["expected"]
    ]
    page.wait_text(f"{row} [data-cell=place]", names.DESIRED_TOML)
    site.put(site.good)
    page.wait_none("#differs")


@pytest.mark.usefixtures("restarting")
def test_a_filter_that_is_away_is_failing(site: Site, page: Page) -> None:
    site.machine.sh(f"echo 'smtpd_milters = inet:127.0.0.1:8891' >> {MAIN_CF} && postfix reload")
    site.machine.sh(INTRUDE)
    page.wait_phase("failing")
    assert page.texts("#state-phase") == ["Failing"]
    assert page.wait_text('[data-fact="found"]', "") == site.told()["detail"]
    assert page.texts("[data-link=postfix]")
    site.put(site.good)
    site.machine.sh(COOL)
    site.machine.run(["systemctl", "reload", names.POSTFIX_UNIT])
    page.wait_phase("in-sync")


def test_a_port_that_another_program_holds_is_failing(site: Site, page: Page) -> None:
    with site.gate() as gate:
        site.machine.run(["systemctl", "kill", "--signal=KILL", site.unit])
        gate.wait_reached()
        with site.port_taken("127.0.0.1"):
            gate.open()
            page.wait_phase("failing")
            assert page.texts("#state-phase") == ["Failing"]
            assert page.wait_text('[data-fact="found"]', "") == site.told()["detail"]
            assert page.texts("[data-link=postfix]")
            assert "master" not in site.machine.run(["ss", "-Hltnp", "sport = :25"]).stdout
    site.machine.run(["systemctl", "restart", names.POSTFIX_UNIT])
    page.wait_phase("in-sync")
    assert site.serves()


def test_what_is_fought_over_is_named(site: Site, page: Page) -> None:
    site.remember_drifts("mynetworks", count=5)
    site.machine.sh(INTRUDE)
    page.wait_phase("contested")
    assert "mynetworks" in page.fact("found")
    assert page.orders() == {"suspend"}
    site.end_contest()


def test_stopped_it_starts_postfix(site: Site, page: Page) -> None:
    site.wait_settled()  # what is stopped on its way up is told of ten seconds later
    site.machine.run(["systemctl", "stop", names.POSTFIX_UNIT])
    page.wait_phase("stopped")
    assert page.orders() == {"start-postfix"}
    assert page.ask("[data-order=start-postfix]") == f"systemctl start {names.POSTFIX_UNIT}"
    page.confirm()
    page.wait_phase("in-sync")
    assert site.serves()


@pytest.mark.parametrize(
    "wish",
    ["[settings]\nrelayhost = 1.5\n", '[settings]\nmessage_size_limit = "many"\n'],
    ids=["faulty", "rejected by Postfix"],
)
def test_a_wish_that_cannot_be_is_told_with_its_place(site: Site, page: Page, wish: str) -> None:
    site.machine.write_text(EXTRA, wish)
    told = page.wait_text("#state-problems li", EXTRA)
    assert f"{EXTRA}:2: " in told
    assert told in site.told()["problems"]
    site.machine.run(["rm", EXTRA])
    page.wait_none("#state-problems li")


@pytest.mark.usefixtures("restarting")
def test_a_wish_that_postfix_does_not_start_with_is_rolled_back(site: Site, page: Page) -> None:
    since = site.cursor()
    # Postfix's tools are content with it, and its master is not.
    site.machine.sh("install -d -o daemon -g daemon -m 700 /srv/data")
    site.machine.write_text(EXTRA, '[settings]\ndata_directory = "/srv/data"\n')
    wished = page.wait_row(site.cycle_of(since), "but Postfix failed")
    assert wished.says("parameters") == "data_directory"
    site.wait_for("rolled-back", since)
    record = site.records("rolled-back", since)[-1]
    back = page.wait_row(int(record[names.FIELD_CYCLE]), "Rolled back")
    assert back.says("parameters") == "data_directory"
    back.open()
    page.wait_text(f"{back.body} .records li", record["MESSAGE"])
    page.wait_text("#state-problems li", "data_directory")
    site.machine.run(["rm", EXTRA])
    page.wait_none("#state-problems li")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(site: Site, page: Page, scheme: str) -> None:
    page.some_drift(site)
    page.chromium.prefer(scheme)
    page.chromium.wait("document.documentElement.dataset.theme === arguments[0]", scheme)
    try:
        assert violations(page.chromium) == []
        page.ask("[data-order=suspend]")
        assert violations(page.chromium, "#order") == []
        page.chromium.click("#order [data-action=cancel]")
    finally:
        page.chromium.prefer("light")


def test_on_a_telephone_nothing_is_cut_off(site: Site, page: Page) -> None:
    from tests.machine.cockpit.chromium import DESKTOP, TELEPHONE

    page.chromium.resize(TELEPHONE)
    try:
        page.some_drift(site)
        assert page.overflows() == []
        assert violations(page.chromium) == []
        page.ask("[data-order=suspend]")
        assert page.overflows() == []
        page.chromium.click("#order [data-action=cancel]")
    finally:
        page.chromium.resize(DESKTOP)


def test_the_readme_shows_it_as_it_is(site: Site, page: Page, release: str) -> None:
    """PF_AGENT_PICTURE names the release on which the picture is taken anew."""
    if os.environ.get("PF_AGENT_PICTURE") == release:
        page.chromium.resize((1200, 1100))
        page.drift(site, "sh", "-c", INTRUDE)
        PICTURE.write_bytes(page.chromium.screenshot())
    picture = PICTURE.read_bytes()
    assert picture.startswith(b"\x89PNG\r\n")
    assert len(picture) < MOST_BYTES


# Tables: their files are named as nobody should name one.

TABLE = "/etc/postfix/<script>top.hit=1;表"
TABLE_ROW = "#history tbody[data-table]"


@pytest.fixture
def _no_table(at_rest: None, site: Site) -> Iterator[None]:
    yield
    site.machine.run(["rm", "-f", EXTRA, TABLE, f"{TABLE}.db"])
    site.put(site.good)


@pytest.mark.usefixtures("_no_table")
def test_a_table_out_of_date_is_told_with_its_line_until_it_is_mended(
    site: Site, page: Page
) -> None:
    site.machine.write_text(TABLE, "void.example discard:one\n")
    site.machine.write_text(EXTRA, f'[settings]\ntransport_maps = "hash:{TABLE}"\n')
    page.wait_text(f'{TABLE_ROW}[data-outcome="rebuilt"] [data-cell=parameters]', TABLE)
    page.wait_phase("in-sync")
    assert page.texts("#state-tables") == []
    site.machine.write_text(TABLE, "void.example\n")
    told = page.wait_text("#state-tables li", f"{TABLE}:1: no value after the key")
    assert page.texts("#state-tables li") == list(site.told()["stale_tables"].values())
    assert page.texts("#state-phase.warning") == ["In sync"]
    assert page.fact("found") == "", "it is told once"
    row = f'{TABLE_ROW}[data-outcome="stale"]'
    page.wait_text(f"{row} [data-cell=outcome]", "Index out of date")
    page.chromium.click(f"{row} button[aria-expanded]")
    page.wait_text(f"{row} .records li", told)
    assert page.chromium.script("return document.querySelectorAll('main script').length") == 0
    assert page.chromium.shell("return typeof top.hit") == "undefined"
    page.chromium.wait_shell("return document.querySelector(\"nav a[href='/pf-agent'] svg\")")
    assert violations(page.chromium) == []
    site.machine.write_text(TABLE, "void.example discard:one\nother.example discard:two\n")
    page.wait_none("#state-tables")
    rebuilt = f'{TABLE_ROW}[data-outcome="rebuilt"]'
    page.chromium.wait("document.querySelectorAll(arguments[0]).length === 2", rebuilt)
    page.fill("#history-filter", "HIT=1")
    page.chromium.click(f"{rebuilt} button[aria-expanded]")
    page.wait_text(f"{TABLE_ROW} .entries", "Entries: 1 before, 2 now")
    page.chromium.script(
        "const f = document.querySelector('#history-filter');"
        "f.value = ''; f.dispatchEvent(new Event('input'))"
    )


@pytest.mark.usefixtures("_no_table")
def test_a_parameter_tells_of_its_tables_also_on_a_telephone(site: Site, page: Page) -> None:
    from tests.machine.cockpit.chromium import DESKTOP, TELEPHONE

    since = site.cursor()
    site.machine.write_text(TABLE, "void.example discard:one\n")
    site.machine.write_text(EXTRA, f'[settings]\ntransport_maps = "hash:{TABLE}"\n')
    site.wait_for("table-rebuilt", since)
    site.wait_settled()
    site.machine.write_text(TABLE, "void.example\n")
    page.wait_text("#state-tables li", TABLE)
    row = page.drift(site, "postconf", "-e", "transport_maps = hash:/etc/postfix/other")
    page.chromium.click(f"{row.body} button.parameter")
    page.wait_text('#parameter [data-fact="tables"]', f"{TABLE}:1: no value after the key")
    page.chromium.resize(TELEPHONE)
    try:
        assert page.overflows() == []
        assert violations(page.chromium) == []
    finally:
        page.chromium.resize(DESKTOP)
        page.chromium.click("#parameter [data-order=close]")
