"""The orders that the page takes from an administrator, and whose name stands in the record."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.machine.site import DISPLACED, DROPIN, INTRUDE, LOCAL, MAIN_CF, Site

if TYPE_CHECKING:
    from tests.machine.cockpit.page import Page

pytestmark = pytest.mark.long

TABLE = "/etc/postfix/transport"

# The page's entry in Cockpit's menu, and the mark beside it.
MARK = """return [...document.querySelectorAll("nav a[href='/pf-agent'] svg")].length > 0"""


@pytest.mark.usefixtures("at_rest")
def test_by_keyboard_alone_it_is_suspended_and_resumed_in_ones_name(site: Site, page: Page) -> None:
    from selenium.webdriver.common.keys import Keys

    since = site.cursor()
    page.tab_to("[data-order=suspend]")
    page.chromium.type(Keys.ENTER)
    page.wait_text("#order-command", "")
    page.chromium.type(Keys.ESCAPE)
    page.wait_none("#order")
    assert page.has_focus("[data-order=suspend]")
    page.chromium.type(Keys.ENTER)
    page.wait_text("#order-command", "")
    page.tab_to("[name=duration]")
    page.chromium.type(Keys.ARROW_UP)
    page.tab_to("[name=reason]")
    page.chromium.type("the queue moves")
    command = "pf-agent suspend --for 10min --reason='the queue moves'"
    assert page.wait_text("#order-command", "moves") == command
    page.chromium.type(Keys.ENTER)
    page.wait_phase("suspended")
    assert "anna" in page.fact("who")
    assert page.fact("reason") == "the queue moves"
    (record,) = site.records("suspended", since)
    assert "anna" in record["MESSAGE"]
    assert "root" not in record["MESSAGE"]
    site.machine.sh(INTRUDE)
    page.wait_text('#differs tr[data-parameter="mynetworks"]', "0.0.0.0/0")
    assert page.orders() == {"resume"}
    page.tab_to("[data-order=resume]")
    page.chromium.type(Keys.ENTER)
    assert page.wait_text("#order-command", "") == "pf-agent resume"
    page.tab_to("[data-action=confirm]")
    page.chromium.type(Keys.ENTER)
    page.wait_phase("in-sync")
    site.wait_for("resumed", since)
    assert "anna" in site.records("resumed", since)[0]["MESSAGE"]


@pytest.mark.usefixtures("at_rest")
def test_a_dialog_keeps_nothing_of_the_last_one(page: Page) -> None:
    for _ in range(2):
        page.ask("[data-order=suspend]")
        assert page.chromium.script("return document.querySelector('[name=reason]').value") == ""
        page.fill("[name=reason]", "never mind")
        page.chromium.click("#order [data-action=cancel]")
        page.wait_none("#order")
    page.wait_phase("in-sync")


@pytest.mark.usefixtures("observing")
def test_what_differs_is_adopted(site: Site, page: Page) -> None:
    site.machine.run(["postconf", "-e", "message_size_limit = 4711000"])
    button = '#differs tr[data-parameter="message_size_limit"] [data-order=adopt]'
    assert page.ask(button) == "pf-agent adopt -- message_size_limit"
    page.confirm()
    page.wait_none("#differs")
    assert "message_size_limit = 4711000" in site.machine.read_text(LOCAL)
    site.machine.run(["rm", LOCAL])
    site.put(site.good)


@pytest.mark.usefixtures("observing")
def test_an_entry_that_differs_is_adopted_as_one_of_its_table(site: Site, page: Page) -> None:
    wish = DROPIN.replace("50-", "40-")
    site.machine.write_text(TABLE, "example.org smtp:[b.example.org]\n")
    site.machine.write_text(wish, f'[tables."hash:{TABLE}"]\n"example.org" = "smtp:"\n')
    row = '#differs tr[data-parameter="example.org"]'
    page.wait_text(f"{row} [data-cell=actual]", "smtp:[b.example.org]")
    assert page.texts(f"{row} [data-cell=parameter]") == ["transport: example.org"]
    command = page.ask(f"{row} [data-order=adopt]")
    assert command == f"pf-agent adopt -- hash:{TABLE} example.org"
    page.confirm()
    page.wait_none("#differs")
    assert '"example.org" = "smtp:[b.example.org]"' in site.machine.read_text(LOCAL)
    site.machine.run(["rm", LOCAL, wish, TABLE])


@pytest.mark.usefixtures("at_rest")
def test_a_value_that_postfix_refuses_is_not_kept(site: Site, page: Page) -> None:
    row = page.drift(site, "postconf", "-e", "message_size_limit = many")
    page.ask(f'{row.body} tr[data-parameter="message_size_limit"] [data-order=keep]')
    assert "message_size_limit = many" in page.refusal()
    assert not site.machine.at(LOCAL).exists()


@pytest.mark.usefixtures("at_rest")
def test_what_was_undone_is_kept(site: Site, page: Page) -> None:
    row = page.drift(site, "postconf", "-e", "smtpd_banner = mine")
    since = site.cursor()
    button = f'{row.body} tr[data-parameter="smtpd_banner"] [data-order=keep]'
    page.ask(button)
    page.chromium.click("#order [data-action=cancel]")
    page.wait_none("#order")
    assert page.ask(button) == f"pf-agent adopt --cycle {row.cycle} -- smtpd_banner"
    page.confirm()
    site.machine.wait_until(f"grep -qx 'smtpd_banner = mine' {MAIN_CF}")
    assert 'smtpd_banner = "mine"' in site.machine.read_text(LOCAL)
    site.wait_for("adopted", since)
    (record,) = site.records("adopted", since)
    assert "anna" in record["MESSAGE"]
    site.machine.run(["rm", LOCAL])


@pytest.mark.usefixtures("at_rest")
def test_a_text_is_restored_while_there_is_one(site: Site, page: Page) -> None:
    row = page.some_drift(site)
    button = f"{row.body} [data-order=restore]"
    assert page.ask(button) == f"pf-agent restore {row.cycle}"
    page.confirm()
    page.wait_phase("suspended")
    assert b"mynetworks = 0.0.0.0/0" in site.read()
    site.agent("resume", check=True)
    page.wait_phase("in-sync")
    site.machine.sh(f"rm {DISPLACED}/*")
    page.ask(button)
    assert str(row.cycle) in page.refusal()
    page.wait_phase("in-sync")


@pytest.mark.usefixtures("at_rest")
def test_the_menu_has_a_mark_while_something_is_wrong(site: Site, page: Page) -> None:
    chromium = page.chromium
    chromium.open("/users")
    chromium.wait_shell("return document.querySelector(\"nav a[href='/pf-agent']\")")
    assert not chromium.shell(MARK)
    site.agent("suspend", check=True)
    chromium.wait_shell(MARK)
    site.agent("resume", check=True)
    chromium.wait_shell(MARK.replace("> 0", "=== 0"))
    chromium.open()
