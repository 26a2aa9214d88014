"""From whom the page takes orders, and what it shows to others; in another language."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.machine.site import INTRUDE, Site
from tests.machine.test_instances import DROPIN as INSTANCE_DROPIN
from tests.machine.test_instances import FOLDER, INSTANCE, MAKE

if TYPE_CHECKING:
    from tests.machine.cockpit.chromium import Chromium
    from tests.machine.cockpit.page import Page

pytestmark = pytest.mark.long

RULE = """
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.pfagent.") == 0 && subject.isInGroup("adm")) {
        return polkit.Result.YES;
    }
    return polkit.Result.NOT_HANDLED;
});
"""
RULE_FILE = "/etc/polkit-1/rules.d/50-pf-agent.rules"


@pytest.fixture(scope="package")
def instance(site: Site, release: str) -> str:
    """The name of another Postfix instance, which is kept, too; from then on there is one."""
    name = INSTANCE if release == "bookworm" else INSTANCE.removeprefix("postfix-")
    site.machine.write_text(
        INSTANCE_DROPIN.replace("60-out", "55-address"),
        '[settings]\ninet_interfaces = "127.0.0.1"\n',
    )
    site.machine.sh(MAKE)
    site.machine.run(["systemctl", "start", f"postfix@{name}.service"])
    site.machine.write_text(
        INSTANCE_DROPIN, f'[instances.{name}.settings]\nmynetworks = ["127.0.0.0/8"]\n'
    )
    return name


@pytest.mark.usefixtures("at_rest")
def test_who_gives_up_being_root_is_offered_no_orders(page: Page) -> None:
    page.chromium.give_up_root()
    page.wait_text("#limited", "no orders")
    assert page.orders() == set()


@pytest.mark.usefixtures("at_rest")
def test_dora_reads_all_and_orders_what_a_rule_lets_her(site: Site, chromium: Chromium) -> None:
    from tests.machine.cockpit.page import Page

    chromium.login("dora", administrative=False)
    page = Page(chromium)
    assert page.texts("#limited") == ["Limited access: no orders."]
    assert page.orders() == set()
    assert page.drift(site, "sh", "-c", INTRUDE).lines("added")
    assert page.texts("[data-order=keep], [data-order=restore]") == []
    site.machine.write_text("/root/rule", RULE)
    site.machine.run(["cp", "/root/rule", RULE_FILE])
    try:
        site.machine.wait_until("runuser -u dora -- sh -c 'pkcheck -a org.pfagent.suspend -p $$'")
        chromium.open()
        page.wait_text("#limited", "only the orders")
        assert page.orders() == {"look", "suspend"}
        since = site.cursor()
        page.ask("[data-order=suspend]")
        page.fill("[name=reason]", "the night shift")
        page.confirm()
        page.wait_phase("suspended")
        assert "dora" in page.fact("who")
        assert "(dora)" in site.records("suspended", since)[0]["MESSAGE"]
    finally:
        site.machine.run(["rm", RULE_FILE])


@pytest.mark.usefixtures("at_rest")
def test_bob_reads_how_it_stands_and_why_he_sees_no_history(site: Site, chromium: Chromium) -> None:
    from tests.machine.cockpit.page import Page

    chromium.login("bob", administrative=False)
    page = Page(chromium)
    page.wait_phase("in-sync")
    assert page.fact("parameters") == str(site.told()["parameters"])
    page.wait_text("#history-none", "administrators and the group adm")
    assert page.cycles() == []
    assert page.orders() == set()


def test_where_the_session_is_gone_nothing_looks_as_if_it_were_known(chromium: Chromium) -> None:
    """Cockpit itself says so, in front of the page."""
    chromium.be("bob", administrative=False)
    chromium.lose_session()
    chromium.wait_shell("return document.body.innerText.includes('Reconnect')")
    covering = "document.elementFromPoint(innerWidth / 2, innerHeight / 2)"
    assert chromium.shell(f"return {covering}.localName") != "iframe"
    chromium.complaints()  # that the connection is lost may be one


def test_over_https_in_japanese_it_tells_of_each_instance(
    site: Site, chromium: Chromium, instance: str
) -> None:
    from tests.machine.cockpit.page import Page

    chromium.login("anna", administrative=True, origin="https://127.0.0.1:9090", language="ja")
    page = Page(chromium)
    row = f'#state-instances tr[data-instance="{instance}"]'
    assert page.chromium.wait("document.documentElement.lang") == "ja"
    page.wait_text(row, instance)
    assert page.texts("#history-title") == ["履歴"]
    since = site.cursor()
    site.machine.run(["postconf", "-c", FOLDER, "-e", "mynetworks = 10.0.0.0/8"])
    drifted = page.wait_row(site.cycle_of(since), "修正")
    assert drifted.says("parameters") == f"{instance}: mynetworks"
    drifted.open()
    command = page.ask(f"{drifted.body} [data-order=keep]")
    assert command == f"pf-agent adopt --instance {instance} --cycle {drifted.cycle} -- mynetworks"
    page.chromium.click("#order [data-action=cancel]")
    page.ask("[data-order=suspend]")
    page.chromium.choose("select[name=instance]", instance)
    page.fill("[name=reason]", "夜間作業")
    command = page.wait_text("#order-command", "夜間作業")
    assert command == f"pf-agent suspend --instance {instance} --for 1h --reason='夜間作業'"
    page.confirm()
    page.wait_text(f"{row}[data-phase=suspended]", instance)
    assert page.ask(f"{row} [data-order=resume]") == f"pf-agent resume --instance {instance}"
    page.confirm()
    page.wait_none(f"{row}[data-phase=suspended]")
