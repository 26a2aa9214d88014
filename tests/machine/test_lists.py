"""Alias databases outside the sandbox: each is built by itself, and a person's own build counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pf_agent import names
from tests.machine.calm import Calm, wait_in_status
from tests.machine.nspawn import Machine
from tests.machine.site import SETTLE_SECONDS, Site, eventually

MAILDIR = "/home/alice/Maildir/new"
LISTS, ALIASES = "/usr/local/lists/aliases", "/etc/aliases"
MORE = f"{names.CONFIG_DIRECTORY}/{names.DESIRED_DROPINS}/60-lists.toml"
WISH = (
    f'[settings]\nalias_maps = "hash:{ALIASES}, hash:{LISTS}"\n'
    f'alias_database = "hash:{LISTS}, hash:{ALIASES}"\n'
)
OLD = "the aliases are out of date"


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    machine = agent_machine
    machine.sh("useradd --create-home alice; useradd --create-home bob")
    machine.write_text(LISTS, "staff: alice\n")
    machine.sh(f"chmod 755 /usr/local/lists; chmod 644 {LISTS}")
    site = Site.prepared(machine)
    wish(site, WISH)
    return site


@pytest.fixture(autouse=True)
def _in_sync(site: Site) -> Iterator[None]:
    yield
    wait_in_status(site, OLD, is_there=False)


def wish(site: Site, text: str) -> None:
    """Have a desired state that names these databases, and Postfix run with it."""
    before = site.cursor()
    site.forget_restarts()
    site.machine.write_text(MORE, text)
    eventually(lambda: bool(site.records("activated", before)), "it runs", SETTLE_SECONDS)
    site.wait_settled()


def knows(site: Site, path: str, name: str, value: str) -> None:
    """Wait until the database of `path` says this."""
    site.machine.wait_until(f'test "$(postalias -q {name} hash:{path})" = "{value}"')


def mail(site: Site, recipient: str, subject: str) -> None:
    """Have bob hand a mail to sendmail, and wait until it is in alice's Maildir."""
    text = f"Subject: {subject}\n\nA line.\n"
    site.machine.run(["runuser", "-u", "bob", "--", "sendmail", recipient], input=text)
    site.machine.wait_until(f"grep -lx 'Subject: {subject}' {MAILDIR}/*", 60)


def test_a_database_below_usr_is_built_and_mail_to_a_list_arrives(site: Site) -> None:
    knows(site, LISTS, "staff", "alice")
    knows(site, ALIASES, "postmaster", "root")
    mail(site, "staff@example.test", "first")
    wait_in_status(site, "in sync")
    assert OLD not in site.machine.run(["pf-agent", "status"], check=False).stdout


@pytest.mark.parametrize("path", [LISTS, ALIASES])
def test_each_file_that_changes_is_built(site: Site, path: str) -> None:
    since = site.cursor()
    site.machine.sh(f"echo 'news: alice' >> {path}")
    knows(site, path, "news", "alice")
    eventually(lambda: bool(site.records("activated", since)), "a record")
    (record,) = site.records("activated", since)
    assert record["MESSAGE"] == f"{path} changed; newaliases was run"


def test_no_unit_is_left_behind(site: Site) -> None:
    site.machine.sh(f"echo 'last: alice' >> {LISTS}")
    knows(site, LISTS, "last", "alice")
    left = "systemctl list-units --all --plain --no-legend 'run-*.service'"
    site.machine.wait_until(f'test -z "$({left})"')


def test_a_database_that_is_removed_is_made_again(site: Site) -> None:
    site.machine.run(["rm", f"{LISTS}.db"])
    knows(site, LISTS, "staff", "alice")


def immutable(path: str) -> tuple[str, str]:
    return f"chattr +i {path}.db", f"chattr -i {path}.db"


def a_folder(path: str) -> tuple[str, str]:
    return f"rm {path}.db; mkdir {path}.db", f"rmdir {path}.db"


@pytest.mark.parametrize("broken", [LISTS, ALIASES])
@pytest.mark.parametrize("way", [immutable, a_folder])
def test_a_broken_one_does_not_keep_the_other_from_being_built(
    site: Site, broken: str, way: Callable[[str], tuple[str, str]]
) -> None:
    other = ({LISTS, ALIASES} - {broken}).pop()
    begin, end = way(broken)
    calm = Calm.before(site)
    site.machine.sh(
        f"{begin}; echo 'more: alice' >> {broken}; echo 'other{way.__name__}: alice' >> {other}"
    )
    knows(site, other, f"other{way.__name__}", "alice")
    assert f"{broken}.db" in calm.told("activation-failed", "; fix it")["MESSAGE"]
    wait_in_status(site, f"{OLD}: newaliases: ")
    calm.is_kept()
    failures = site.records("activation-failed", calm.since)
    assert len(failures) == 1
    assert other not in failures[0]["MESSAGE"].replace(f"{broken}.db", "")
    # By hand, and the agent sees it at once.
    site.machine.sh(f"{end}; newaliases")
    wait_in_status(site, OLD, is_there=False)
    knows(site, broken, "more", "alice")


def test_a_source_of_another_owner(site: Site) -> None:
    """postalias(1) makes the database as the owner of its source."""
    site.machine.sh("install -d -o alice -g alice /home/alice/lists")
    site.machine.sh("echo 'hers: alice' > /home/alice/lists/aliases")
    site.machine.sh("chown alice:alice /home/alice/lists/aliases; chmod 755 /home/alice")
    path = "/home/alice/lists/aliases"
    wish(site, WISH.replace(LISTS, path))
    knows(site, path, "hers", "alice")
    owner = site.machine.run(["stat", "-c", "%U %a", f"{path}.db"]).stdout
    assert owner == "alice 644\n"
    mail(site, "hers@example.test", "hers")
    site.machine.sh(f"echo 'also: alice' >> {path}")
    knows(site, path, "also", "alice")
    wish(site, WISH)


def test_by_hand_too(site: Site) -> None:
    """`pf-agent apply` without the daemon."""
    site.machine.run(["systemctl", "stop", "pf-agent"])
    site.machine.sh(f"rm {LISTS}.db; postconf -e mynetworks=0.0.0.0/0")
    site.forget_restarts()
    site.machine.run(["pf-agent", "apply"], timeout=120)
    knows(site, LISTS, "staff", "alice")
    site.machine.run(["systemctl", "start", "pf-agent"])
    site.wait_settled()
