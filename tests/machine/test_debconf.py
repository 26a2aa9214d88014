"""debconf's answers become lines of the files in /etc/pf-agent, and the files are the truth.

One machine, where the package is installed and purged again and again: the tests build on each
other in the order in which they stand. Most are about what is written, so dpkg starts no service,
as in an image build; it does for those that ask for `starting`.
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


# deb-systemd-invoke(1p) asks this script whether a package's service may be started.
MAY_START = "/run/services-may-start"
POLICY = f"#!/bin/sh\ntest -e {MAY_START} || exit 101\n"


@pytest.fixture(scope="module")
def server(machine: Machine, deb: Path) -> Machine:
    """No main.cf, no pf-agent; its own name is mail.example.test."""
    machine.write_text("/usr/sbin/policy-rc.d", POLICY)
    machine.run(["chmod", "755", "/usr/sbin/policy-rc.d"])
    machine.write_bytes(ARCHIVE, deb.read_bytes())
    machine.write_text("/root/editor", EDITOR)
    machine.run(["chmod", "755", "/root/editor"])
    machine.write_text("/etc/aliases", "postmaster: root\n")
    return machine


@pytest.fixture
def starting(server: Machine) -> Iterator[None]:
    """What dpkg installs and configures is started, and stopped after the test."""
    server.run(["touch", MAY_START])
    yield
    server.run(["rm", MAY_START])
    server.sh("systemctl stop pf-agent postfix; systemctl reset-failed", check=False)


@pytest.fixture
def fresh(server: Machine) -> Machine:
    """For an installation on a host without main.cf: nothing is left of an earlier one."""
    purge(server)
    server.run(["rm", "-rf", FOLDER, MAIN_CF])
    since = server.sh("date +@%s").strip()
    server.write_text("/root/since", since)
    return server


def install(machine: Machine, archive: str = ARCHIVE) -> str:
    """Install unattended; return what dpkg and the maintainer scripts said."""
    done = machine.run(["dpkg", "-i", archive], timeout=120, env=QUIET)
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
    return machine.read_text("/root/seen"), done.stdout + done.stderr


def answer(question: str, value: str) -> str:
    return f's|^pf-agent/{question}=.*|pf-agent/{question}="{value}"|'


def shown(machine: Machine) -> dict[str, str]:
    """debconf's answers."""
    lines = machine.run(["debconf-show", "pf-agent"]).stdout.splitlines()
    pairs = (line.lstrip("* ").partition(":") for line in lines)
    return {name.removeprefix("pf-agent/"): value.strip() for name, _, value in pairs}


def wait_observing(machine: Machine) -> None:
    machine.wait_until('pf-agent status --json | grep \'"phase": "observing"\'')


def has(machine: Machine, path: str) -> bool:
    return machine.run(["test", "-e", path], check=False).returncode == 0


def site_lines(machine: Machine) -> list[str]:
    """What stands in 50-site.toml besides comments."""
    lines = machine.read_text(SITE).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


# In the package


def test_the_questions_are_there_in_japanese(server: Machine) -> None:
    templates = server.run(["dpkg", "--info", ARCHIVE, "templates"]).stdout
    assert templates.count("\nDescription-ja.UTF-8: ") == templates.count("\nTemplate: ") + 1
    assert "\nChoices-ja.UTF-8: enforce (" in templates


# Preseeded


@pytest.mark.usefixtures("starting")
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
    wait_observing(server)
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


@pytest.mark.usefixtures("starting")
def test_an_answer_changes_its_line_alone(server: Machine) -> None:
    seen, _ = reconfigure(server, answer("hostname", "mx3.example.net"), answer("mode", "observe"))
    assert 'pf-agent/hostname="mx2.example.net"' in seen
    assert 'pf-agent/mode="enforce"' in seen
    assert server.read_text(SITE) == EDITED_SITE.replace(
        "=   'mx2.example.net'", '= "mx3.example.net"'
    )
    assert server.read_text(AGENT_TOML) == EDITED_AGENT.replace('"enforce"', '"observe"')
    wait_observing(server)
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
    assert "another file" not in said


def test_a_later_file_is_named_as_the_one_that_counts(server: Machine) -> None:
    server.write_text(SITE, EDITED_SITE)
    later = f"{FOLDER}/{names.DESIRED_DROPINS}/60-fleet.toml"
    server.write_text(later, '[settings]\nmydomain = "fleet.example"\n')
    _, said = reconfigure(server, answer("domain", "b.example.net"))
    assert "another file in /etc/pf-agent sets mydomain, and comes later" in said
    server.run(["rm", later])


@pytest.mark.usefixtures("starting")
def test_faulty_files_are_left(server: Machine) -> None:
    server.write_text(SITE, "[settings\n")
    _, said = reconfigure(server, answer("hostname", "c.example.net"))
    assert server.read_text(SITE) == "[settings\n"
    assert said.count(f"{SITE}:1") == 1
    server.run(["systemctl", "is-active", "pf-agent"])


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


@pytest.mark.usefixtures("starting")
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


# On a Postfix that was set up, the agent corrects what Debian's own questions made, and no more

THEIRS = "\n".join(
    [
        "compatibility_level = 3.6",
        "mynetworks = 127.0.0.0/8 203.0.113.0/24",
        "mydestination = example.org example.net",
        "message_size_limit = 104857600",
        "inet_protocols = ipv4",
        "virtual_alias_maps =",
        "",
    ]
)
# On top of what "Internet Site" made.
EDITS = {
    "networks": "mynetworks = 127.0.0.0/8 203.0.113.0/24",
    "domains": "mydestination = $myhostname, mail.example.test, localhost, shop.example",
    "a limit": "message_size_limit = 104857600",
    "what no question makes": "virtual_alias_domains = shop.example",
}


def mode_of(machine: Machine) -> str:
    script = "from pf_agent.files.configuration import load_options as f"
    return machine.run(["python3", "-Ic", f"{script}; print(f('{FOLDER}').mode.value)"]).stdout


def proposed(machine: Machine) -> str:
    """The mode that is proposed before the package is unpacked."""
    machine.run(["sh", "-c", PRECONFIGURE], env=QUIET)
    return shown(machine)["mode"]


@pytest.mark.usefixtures("starting")
@pytest.mark.parametrize("answer", ["No configuration", "Internet Site"])
def test_what_the_guides_answers_made_is_corrected(fresh: Machine, answer: str) -> None:
    fresh.install_postfix(answer)
    assert has(fresh, MAIN_CF) is (answer != "No configuration")
    assert "ONLY OBSERVING" not in install(fresh)
    assert mode_of(fresh) == "enforce\n"
    fresh.wait_until("pf-agent diff")


@pytest.mark.parametrize("answer", ["Internet with smarthost", "Satellite system", "Local only"])
def test_what_another_answer_of_postfix_made_is_to_be_corrected(
    fresh: Machine, answer: str
) -> None:
    fresh.install_postfix(answer)
    assert proposed(fresh) == "enforce"


def test_debians_templates_are_to_be_corrected(fresh: Machine) -> None:
    """The postinst of Postfix proposes to copy the one; the guide begins with the other."""
    for template in ("main.cf.debian", "main.cf.dist"):
        fresh.run(["cp", f"/usr/share/postfix/{template}", MAIN_CF])
        assert proposed(fresh) == "enforce", template


def observes(machine: Machine, said: str) -> bool:
    """Whether nothing is to be corrected, and the installation has said how to turn it on."""
    way_out = "`dpkg-reconfigure pf-agent` turns it on"
    return "ONLY OBSERVING" in said and way_out in said and mode_of(machine) == "observe\n"


@pytest.mark.usefixtures("starting")
def test_a_hand_written_main_cf_is_only_observed(fresh: Machine) -> None:
    fresh.write_text(MAIN_CF, THEIRS)
    assert observes(fresh, install(fresh))
    wait_observing(fresh)
    assert fresh.read_text(MAIN_CF) == THEIRS


def test_one_value_of_somebodys_own_is_enough(fresh: Machine) -> None:
    fresh.install_postfix("Internet Site")
    made = fresh.read_bytes(MAIN_CF)
    for what, edit in EDITS.items():
        fresh.write_bytes(MAIN_CF, made)
        fresh.run(["postconf", "-e", edit])
        assert proposed(fresh) == "observe", what
    assert observes(fresh, install(fresh))


def test_asked_before_unpacking_a_main_cf_of_then_counts(fresh: Machine) -> None:
    """The question is settled anew where Postfix has got a main.cf since it was first asked."""
    assert proposed(fresh) == "enforce"
    fresh.write_text(MAIN_CF, THEIRS)
    assert observes(fresh, install(fresh))


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_a_preseeded_mode_wins(fresh: Machine, options: list[str]) -> None:
    """Also one that is to be asked all the same."""
    fresh.write_text(MAIN_CF, THEIRS)
    preseeded = "pf-agent pf-agent/mode select enforce\n"
    fresh.run(["debconf-set-selections", *options], input=preseeded)
    assert "ONLY OBSERVING" not in install(fresh)
    assert mode_of(fresh) == "enforce\n"


def test_an_upgrade_leaves_the_mode(fresh: Machine) -> None:
    """Also where agent.toml does not name it, and somebody has made main.cf since."""
    install(fresh)
    fresh.sh(f"cp /etc/postfix/main.cf.proto {MAIN_CF}; pf-agent apply --no-activate")
    fresh.run(["postconf", "-e", "virtual_alias_domains = shop.example"])
    fresh.sh(BUMP)
    assert "ONLY OBSERVING" not in install(fresh, "/root/next.deb")
    assert fresh.read_text(AGENT_TOML) == SHIPPED.read_text()


# Installed by somebody who answers


def test_somebody_is_asked(fresh: Machine) -> None:
    done = fresh.run(
        # A terminal of its own: Debian 13's debconf does without the question where there is none.
        ["script", "-qec", f"dpkg -i {ARCHIVE}", "/dev/null"],
        input="mx_example.org\nmx.example.org\nexample.org\nenforce\n",
        timeout=120,
        env={"DEBIAN_FRONTEND": "teletype", "TERM": "dumb"},
    )
    assert "Mail name of this host: " in done.stdout
    assert '"mx_example.org" cannot be used' in done.stdout
    assert "differs from the desired state" in done.stdout, "high, so asked by default"
    assert fresh.read_text(AGENT_TOML) == SHIPPED.read_text(), "enforce, which it says already"
    assert site_lines(fresh)[1:] == ['mydomain = "example.org"', 'myhostname = "mx.example.org"']


def test_somebody_is_proposed_to_observe_what_he_made(fresh: Machine) -> None:
    fresh.write_text(MAIN_CF, THEIRS)
    fresh.run(["rm", "-f", "/root/seen"])
    fresh.write_text("/root/answers.sed", answer("domain", "example.org") + "\n")
    editor = {"EDITOR": "/root/editor", "VISUAL": "/root/editor", "DEBIAN_FRONTEND": "editor"}
    done = fresh.run(["dpkg", "-i", ARCHIVE], timeout=120, env=editor)
    assert 'pf-agent/mode="observe"' in fresh.read_text("/root/seen")
    assert observes(fresh, done.stdout + done.stderr)
    assert 'mydomain = "example.org"' in site_lines(fresh)
