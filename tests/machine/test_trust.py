"""Who may change the configuration, and what is shown of secrets: on a machine, end to end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pf_agent import names
from tests.machine.site import DROPIN, INTRUDE, Site, eventually

FOLDER = names.CONFIG_DIRECTORY
DROPINS = f"{FOLDER}/{names.DESIRED_DROPINS}"
EXTRA = f"{DROPINS}/60-extra.toml"
WANTED, DRIFTED = "wanted-hunter2", "drifted-hunter3"


@pytest.fixture(autouse=True)
def _as_before(site: Site) -> Iterator[None]:
    yield
    site.machine.run(["rm", "-f", EXTRA])
    site.put(site.good)
    site.wait_right()
    site.wait_settled()
    site.forget_restarts()


@pytest.mark.parametrize(
    ("spoil", "mend", "told"),
    [
        (f"chmod 666 {DROPIN}", f"chmod 644 {DROPIN}", f"chmod go-w {DROPIN}"),
        (f"chmod 775 {DROPINS}", f"chmod 755 {DROPINS}", f"chmod go-w {DROPINS}"),
        (f"chmod 777 {FOLDER}", f"chmod 755 {FOLDER}", f"chmod go-w {FOLDER}"),
        (f"chown nobody {DROPIN}", f"chown root {DROPIN}", f"chown root {DROPIN}"),
    ],
    ids=["a file", "its folder", "the folder above", "the owner"],
)
def test_what_others_may_change_is_not_obeyed(site: Site, spoil: str, mend: str, told: str) -> None:
    since = site.cursor()
    site.machine.sh(spoil)
    # Somebody uses it.
    site.machine.sh(f"echo '[settings]' > {EXTRA}; echo 'mynetworks = \"0.0.0.0/0\"' >> {EXTRA}")
    eventually(lambda: bool(site.records("config-rejected", since)), "a record")
    assert any(told in each["MESSAGE"] for each in site.records("config-rejected", since))
    assert site.read() == site.good
    site.machine.sh(INTRUDE)
    site.wait_right()
    assert told in site.agent("status").stdout
    check = site.machine.run(["pf-agent", "check"], check=False)
    assert check.returncode == 2
    assert told in check.stdout
    site.machine.sh(f"rm {EXTRA}; {mend}")
    eventually(lambda: "error" not in site.agent("status").stdout, "the file in force again")


def test_nobody_is_told_to_change_somebodys_home(site: Site) -> None:
    since = site.cursor()
    site.machine.sh("useradd --create-home eve; runuser -u eve -- touch /home/eve/mine.toml")
    site.machine.run(["ln", "-s", "/home/eve/mine.toml", EXTRA])
    eventually(lambda: bool(site.records("config-rejected", since)), "a record")
    told = site.records("config-rejected", since)[0]["MESSAGE"]
    assert "/home/eve" in told
    assert "keep the file where only root can write" in told
    assert "chown" not in told
    site.machine.run(["rm", EXTRA])
    eventually(lambda: "error" not in site.agent("status").stdout, "the file in force again")


def test_a_fifo_in_a_files_place_holds_nobody_up(site: Site) -> None:
    since = site.cursor()
    site.machine.run(["mkfifo", EXTRA])
    eventually(lambda: bool(site.records("config-rejected", since)), "a record")
    site.machine.sh(INTRUDE)
    site.wait_right()


def test_a_secret_is_shown_nowhere(site: Site) -> None:
    """Postfix itself is not to be silenced: it logs a parameter that it does not know."""
    text = f'[settings]\nmy_password = "{WANTED}"\nmy_url = "ldap://me:{WANTED}@h/"\n'
    site.machine.write_text(EXTRA, text)
    eventually(lambda: WANTED.encode() in site.read(), "the secret in main.cf")
    site.wait_settled()
    right, since = site.read(), site.cursor()
    site.put(right.replace(WANTED.encode(), DRIFTED.encode()))
    site.wait_right(right)
    (cycle,) = {r[names.FIELD_CYCLE] for r in site.drift_of(since)}
    site.wait_settled()
    drifted = {r[names.FIELD_PARAMETER]: r[names.FIELD_ACTUAL] for r in site.drift_of(since)}
    assert drifted == {"my_password": "(hidden)", "my_url": "ldap://me:(hidden)@h/"}
    site.machine.run(["pf-agent", "suspend"])
    site.put(right.replace(WANTED.encode(), DRIFTED.encode()))
    shown = site.machine.sh(
        f"pf-agent diff 2>&1; pf-agent diff --json; pf-agent history; pf-agent history {cycle};"
        " pf-agent explain my_password; pf-agent explain --json my_url; pf-agent status;"
        " cat /run/pf-agent/status.json; journalctl --sync; journalctl -o export -a -t pf-agent",
        check=False,
    )
    site.machine.run(["pf-agent", "resume"])
    assert {"-my_password = (hidden)", "+my_password = (hidden)"} <= set(shown.split("\n"))
    assert WANTED not in shown
    assert WANTED not in shown
    assert DRIFTED not in shown
    # What was displaced is kept as it was.
    kept = f"{names.STATE_DIRECTORY}/displaced/{int(cycle):08d}.main.cf"
    assert DRIFTED in site.machine.read_text(kept)
    assert site.machine.run(["stat", "-c", "%a %u", kept]).stdout == "600 0\n"
