"""debconf's answers become lines of the files in /etc/pf-agent, and the files are the truth.

One machine, where the package is installed and purged again and again: the tests build on each
other in the order in which they stand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pf_agent import names
from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, MAIN_CF, QUIET

pytestmark = pytest.mark.long

FOLDER = names.CONFIG_DIRECTORY
SITE = f"{FOLDER}/{names.DESIRED_DROPINS}/50-site.toml"
SHIPPED = CHECKOUT / "etc" / names.AGENT_TOML
ARCHIVE = "/var/cache/pf-agent.deb"
ANSWERS = """\
pf-agent pf-agent/hostname string mx.example.net
pf-agent pf-agent/domain string example.net
pf-agent pf-agent/mode select observe
"""
EDITED_SITE = """\
# Ours, since 2019.
use_default = ["mailq_path"]

[settings]   # what is ours
  myhostname   =   'mx2.example.net'   # after the move
message_size_limit = 20971520
#mydomain = "old.example"
mydomain = "example.net"
# The end.
"""
EDITED_AGENT = """\
# Ours.
mode = "enforce" # since May
[watch]
settle_seconds = 0.5
"""
# Writes into /root/seen what the editor frontend shows, and answers by a sed script.
EDITOR = '#!/bin/sh\ncat "$1" >> /root/seen\nsed -i -f /root/answers.sed "$1"\n'
# The same package under a higher version: dpkg then runs every maintainer script of an upgrade.
BUMP = f"""
set -e
rm -rf /root/bumped && dpkg-deb -R {ARCHIVE} /root/bumped
sed -i 's/^Version: .*/&+next1/' /root/bumped/DEBIAN/control
dpkg-deb -Znone -b /root/bumped /root/next.deb
"""
# As apt does it with apt-utils: the questions come before anything is unpacked.
PRECONFIGURE = f"""
set -e
rm -rf /root/control && dpkg-deb -e {ARCHIVE} /root/control
perl -MDebconf::Db -MDebconf::Template -e 'Debconf::Db->load;
    Debconf::Template->load("/root/control/templates", "pf-agent"); Debconf::Db->save'
debconf -opf-agent /root/control/config configure ''
"""


@pytest.fixture(scope="module")
def server(machine: Machine, deb: Path) -> Machine:
    """No main.cf, no pf-agent; its own name is mail.example.test."""
    machine.write_bytes(ARCHIVE, deb.read_bytes())
    machine.write_text("/root/editor", EDITOR)
    machine.run(["chmod", "755", "/root/editor"])
    machine.write_text("/etc/aliases", "postmaster: root\n")
    return machine


@pytest.fixture
def fresh(server: Machine) -> Iterator[Machine]:
    """For an installation on a host without main.cf; purged again afterwards."""
    server.run(["rm", "-f", MAIN_CF])
    since = server.sh("date +@%s").strip()
    server.write_text("/root/since", since)
    yield server
    purge(server)
    server.run(["rm", "-rf", FOLDER])


def install(machine: Machine, archive: str = ARCHIVE) -> str:
    """Install unattended; return what dpkg and the maintainer scripts said."""
    done = machine.run(["dpkg", "-i", archive], timeout=120, env=QUIET)
    machine.wait_until("systemctl is-active pf-agent")
    return done.stdout + done.stderr


def purge(machine: Machine) -> None:
    machine.run(["dpkg", "--purge", "pf-agent"], timeout=120, env=QUIET)


def reconfigure(machine: Machine, *answers: str) -> tuple[str, str]:
    """Answer by sed commands in an editor; return what was shown there and what was said."""
    machine.run(["rm", "-f", "/root/seen"])
    machine.write_text("/root/answers.sed", "".join(f"{answer}\n" for answer in answers))
    done = machine.run(
        ["dpkg-reconfigure", "-f", "editor", "-p", "low", "pf-agent"],
        timeout=120,
        env={"EDITOR": "/root/editor", "VISUAL": "/root/editor"},
    )
    machine.wait_until("systemctl is-active pf-agent")
    return machine.read_text("/root/seen"), done.stdout + done.stderr


def answer(question: str, value: str) -> str:
    return f's|^pf-agent/{question}=.*|pf-agent/{question}="{value}"|'


def shown(machine: Machine) -> dict[str, str]:
    """debconf's answers."""
    lines = machine.run(["debconf-show", "pf-agent"]).stdout.splitlines()
    pairs = (line.lstrip("* ").partition(":") for line in lines)
    return {name.removeprefix("pf-agent/"): value.strip() for name, _, value in pairs}


def has(machine: Machine, path: str) -> bool:
    return machine.run(["test", "-e", path], check=False).returncode == 0


def site_lines(machine: Machine) -> list[str]:
    """What stands in 50-site.toml besides comments."""
    lines = machine.read_text(SITE).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# Preseeded


def test_preseeded_answers_are_in_the_files_before_the_agent_starts(server: Machine) -> None:
    """By default it would have made main.cf at its first look."""
    server.run(["debconf-set-selections"], input=ANSWERS)
    install(server)
    assert site_lines(server) == [
        "[settings]",
        'mydomain = "example.net"',
        'myhostname = "mx.example.net"',
    ]
    expected = SHIPPED.read_text().replace(
        '#mode = "enforce"\n', '#mode = "enforce"\nmode = "observe"\n'
    )
    assert server.read_text(AGENT_TOML) == expected
    server.wait_until('pf-agent status --json | grep \'"phase": "observing"\'')
    assert not has(server, MAIN_CF)
    assert server.sh(f"stat -c '%a %U:%G' {SITE} {AGENT_TOML}") == "644 root:root\n" * 2


# Reconfigured


def test_reconfigure_starts_from_the_files(server: Machine) -> None:
    server.write_text(SITE, EDITED_SITE)
    server.write_text(AGENT_TOML, EDITED_AGENT)
    server.run(["dpkg-reconfigure", "-f", "noninteractive", "pf-agent"], timeout=120)
    assert server.read_text(SITE) == EDITED_SITE
    assert server.read_text(AGENT_TOML) == EDITED_AGENT
    answers = {"hostname": "mx2.example.net", "domain": "example.net", "mode": "enforce"}
    assert answers.items() <= shown(server).items()


def test_an_answer_changes_its_line_alone(server: Machine) -> None:
    seen, _ = reconfigure(server, answer("hostname", "mx3.example.net"), answer("mode", "observe"))
    assert 'pf-agent/hostname="mx2.example.net"' in seen
    assert 'pf-agent/mode="enforce"' in seen
    assert server.read_text(SITE) == EDITED_SITE.replace(
        "=   'mx2.example.net'", '= "mx3.example.net"'
    )
    assert server.read_text(AGENT_TOML) == EDITED_AGENT.replace('"enforce"', '"observe"')
    assert server.run(["find", FOLDER, "-name", "*.dpkg-*"]).stdout == ""


def test_an_answer_that_is_no_name_is_asked_again(server: Machine) -> None:
    before = server.read_text(SITE)
    wrong = 's|="mx3.example.net"|="mx_3.example.net"|;t'
    seen, _ = reconfigure(server, wrong, 's|="mx_3.example.net"|="mx4.example.net"|')
    assert seen.count('pf-agent/hostname="') == 2
    assert '# "mx_3.example.net" cannot be used.' in seen
    assert server.read_text(SITE) == before.replace("mx3", "mx4")


@pytest.mark.parametrize(
    "text",
    ['settings = { myhostname = "a.example.net" }\n', 'settings.myhostname = "a.example.net"\n'],
)
def test_a_form_that_cannot_be_edited_is_left(server: Machine, text: str) -> None:
    server.write_text(SITE, text)
    _, said = reconfigure(server, answer("hostname", "b.example.net"))
    assert server.read_text(SITE) == text
    assert f'{SITE}: left as it is; write myhostname = "b.example.net"' in said


def test_a_later_file_is_named_as_the_one_that_counts(server: Machine) -> None:
    server.write_text(SITE, EDITED_SITE)
    later = f"{FOLDER}/{names.DESIRED_DROPINS}/60-fleet.toml"
    server.write_text(later, '[settings]\nmydomain = "fleet.example"\n')
    _, said = reconfigure(server, answer("domain", "b.example.net"))
    assert "another file in /etc/pf-agent sets mydomain, and comes later" in said
    server.run(["rm", later])


def test_faulty_files_are_left(server: Machine) -> None:
    server.write_text(SITE, "[settings\n")
    _, said = reconfigure(server, answer("hostname", "c.example.net"))
    assert server.read_text(SITE) == "[settings\n"
    assert f"{SITE}:1" in said


# Upgraded, purged


def test_an_upgrade_asks_nothing_and_writes_nothing(server: Machine) -> None:
    """Also where somebody took a line away since he answered."""
    edited = EDITED_SITE.replace('\nmydomain = "example.net"', "")
    server.write_text(SITE, edited)
    server.run(["rm", AGENT_TOML])
    server.sh(BUMP)
    install(server, "/root/next.deb")
    assert server.read_text(SITE) == edited
    assert not has(server, AGENT_TOML)
    assert shown(server)["domain"] == ""


def test_purge_takes_all_but_what_others_wrote(server: Machine) -> None:
    purge(server)
    assert server.run(["find", FOLDER, "-type", "f"]).stdout == f"{SITE}\n"
    assert server.run(["debconf-show", "pf-agent"]).stdout == ""
    server.run(["rm", "-r", FOLDER])


# Installed unattended


def test_unattended_the_machines_own_names_are_written(fresh: Machine) -> None:
    install(fresh)
    assert site_lines(fresh)[1:] == [
        'mydomain = "example.test"',
        'myhostname = "mail.example.test"',
    ]
    assert fresh.read_text(AGENT_TOML) == SHIPPED.read_text()
    fresh.wait_until("pf-agent diff")
    since = f"--since={fresh.read_text('/root/since')}"
    assert len(fresh.journal("PF_AGENT_EVENT=drift-corrected", since)) == 1
    purge(fresh)
    assert not has(fresh, FOLDER)


def test_a_name_that_is_not_fully_qualified_is_not_written(fresh: Machine) -> None:
    hosts = fresh.read_text("/etc/hosts")
    fresh.write_text("/etc/hosts", "127.0.0.1 localhost\n127.0.1.1 mail\n")
    install(fresh)
    fresh.write_text("/etc/hosts", hosts)
    assert not has(fresh, SITE)
    assert shown(fresh)["hostname"] == ""


def test_a_mail_server_that_runs_keeps_its_name(fresh: Machine) -> None:
    fresh.write_text(MAIN_CF, "compatibility_level = 3.6\nmyhostname = mx.$mydomain\n")
    fresh.run(["postconf", "-e", "mydomain = mail.example.com"])
    install(fresh)
    assert site_lines(fresh)[1:] == [
        'mydomain = "mail.example.com"',
        'myhostname = "mx.mail.example.com"',
    ]


def test_what_an_administrator_laid_down_is_not_asked_for(fresh: Machine) -> None:
    laid = '[settings]\nmyhostname = "first.example.org"\nmyorigin = "$mydomain"\n'
    fresh.write_text(SITE, laid)
    fresh.write_text(AGENT_TOML, EDITED_AGENT)
    fresh.run(["debconf-set-selections"], input=ANSWERS)
    fresh.sh(PRECONFIGURE)
    install(fresh)
    assert fresh.read_text(SITE) == laid.replace(
        "[settings]\n", '[settings]\nmydomain = "example.net"\n'
    )
    assert fresh.read_text(AGENT_TOML) == EDITED_AGENT


def test_asked_before_unpacking_the_machines_own_names_are_written(fresh: Machine) -> None:
    fresh.run(["sh", "-c", PRECONFIGURE], env=QUIET)
    assert shown(fresh)["hostname"] == "mail.example.test"
    install(fresh)
    assert 'myhostname = "mail.example.test"' in site_lines(fresh)


# Installed by somebody who answers


def test_somebody_is_asked(fresh: Machine) -> None:
    done = fresh.run(
        # A terminal of its own: Debian 13's debconf does without the question where there is none.
        ["script", "-qec", f"dpkg -i {ARCHIVE}", "/dev/null"],
        input="mx_example.org\nmx.example.org\nexample.org\n",
        timeout=120,
        env={"DEBIAN_FRONTEND": "teletype", "TERM": "dumb"},
    )
    assert "Mail name of this host: " in done.stdout
    assert '"mx_example.org" cannot be used' in done.stdout
    assert "departs from the desired state" not in done.stdout, "medium, so not asked by default"
    assert site_lines(fresh)[1:] == ['mydomain = "example.org"', 'myhostname = "mx.example.org"']
