"""What a judgement says of a candidate on a machine whose Postfix serves, and what it leaves alone.

postfix/judge.py runs inside, with the sandbox of pf-agent-errands.service around it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.checkout import CHECKOUT
from tests.machine.nspawn import Machine

FOLDER = "/root/judge"
INSTANCE = "/etc/postfix-out"
# Reads lines to add to main.cf, answers each with a judgement.
ASK = f"""
import dataclasses, json, sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.postfix.installed import Postfix
directory, *lines = json.load(sys.stdin)
postfix = Postfix(directory, "/run/judge")
with open(directory + "/main.cf", "rb") as file:
    text = file.read()
judged = [postfix.judge(text + line.encode() + b"\\n") for line in lines]
print(json.dumps([dataclasses.asdict(judgement) for judgement in judged]))
"""
NEWALIASES = f"""
import sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.postfix.postalias import AliasBuilder
print(AliasBuilder("{INSTANCE}").newaliases())
"""
GREETING = f"""
import sys
sys.path.insert(0, "{FOLDER}/agent")
from pf_agent.postfix.installed import Postfix
print(Postfix(sys.argv[1], "/run/judge").greeting())
"""
# What a unit may be given that bears on a program that it starts.
SANDBOX = re.compile(
    "(?:Protect|Private|Restrict|SystemCall|Lock|Memory|NoNew|Capability|ReadWrite)"
)

FATAL = {
    "oops": "missing '=' after attribute name: \"oops\"",
    "relayhost = ${": "macro processing error: truncated macro reference",
    "inet_protocols = ipv5": 'unknown inet_protocols value "ipv5"',
    "myhostname = ${{$myhostname} == {x}?y:z}": "postconf was ended by SIGSEGV; does a value",
    "message_size_limit = ten": "bad numerical configuration: message_size_limit = ten",
    "myhostname = -x": "parameter myhostname: bad parameter value: -x",
    "inet_interfaces = 192.0.2.1\nmynetworks_style = host\nmynetworks = $x": "inet_interfaces",
    "maillog_file = /nowhere/log": "does not match any prefix in maillog_file_prefixes",
    # What smtpd alone reads, before it greets.
    "smtpd_timeout = bogus": "parameter smtpd_timeout: bad time value or unit: bogus",
    "disable_vrfy_command = maybe": "bad boolean configuration: disable_vrfy_command = maybe",
    "smtpd_relay_restrictions =\nsmtpd_recipient_restrictions =": "specify at least one working",
    "smtpd_sasl_auth_enable = yes\nsmtpd_sasl_type = no": "SASL server implementation: no",
    "alias_maps = /etc/aliases": 'expecting "type:name" form instead of "/etc/aliases"',
}
FAULTS = {
    "mynetworks = 10.0.0.0/99": ("mynetworks", "10.0.0.0/99"),
    "queue_run_delay = 10 m": ("queue_run_delay", "bad time value or unit: 10 m"),
    "mailbox_size_limit = 5000": ("mailbox_size_limit", "smaller than message_size_limit"),
    "alias_database = hash:/no": ("alias_database", "open /no: No such file or directory"),
    "alias_maps = hash:/no": ("alias_maps", "open database /no.db: No such file or directory"),
    "alias_maps = regexp:/no": ("alias_maps", "open /no: No such file or directory"),
    "daemon_directory = /no": ("daemon_directory", "chdir(/no): No such file or directory"),
}
NOTHING: dict[str, Any] = {"fatal": "", "warnings": [], "faults": [], "absent": []}
WARNINGS = {
    "mynetwork = 10.0.0.0/8": "mynetwork: unknown Postfix parameter, it has no effect; "
    "did you mean mynetworks?",
    "virtual_alias_maps = nosuch:/x": "unsupported dictionary type: nosuch",
}
# What programs of Postfix warn of as well, each in its words; it is told once.
ABSENT = {
    "relayhost = $nosuch": "there is no parameter nosuch",
    "mydestination = hash:$config_directory/no": "there is neither /etc/postfix/no.db nor",
    "virtual_alias_maps = proxy:hash:/no": "there is neither /no.db nor /no; create it",
    "virtual_alias_maps = nosuch:/x": 'Postfix has no table type "nosuch"',
    "smtpd_sender_restrictions = reject_nosuch": 'smtpd knows no restriction "reject_nosuch"',
}
# Tables and services that Postfix asks over the network; nobody is there to answer.
REMOTE = "\n".join(
    [
        "smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:9998,",
        " check_client_access tcp:127.0.0.1:9998, check_helo_access memcache:/etc/postfix/cache.cf",
        "virtual_alias_maps = socketmap:inet:127.0.0.1:9998:name",
        "smtpd_milters = inet:127.0.0.1:9998",
        "smtpd_sasl_auth_enable = yes",
        "smtpd_sasl_type = dovecot",
        "smtpd_sasl_path = inet:127.0.0.1:9998",
    ]
)

Judge = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def serving(internet_site: Machine) -> Machine:
    internet_site.copy_in([CHECKOUT / "agent"], FOLDER)
    internet_site.run(["mkdir", "-p", "/run/judge"])
    return internet_site


@pytest.fixture(scope="module")
def judge(serving: Machine) -> Judge:
    """Judges main.cf with these lines added, one judgement for each."""
    unit = (CHECKOUT / "units" / "pf-agent-errands.service").read_text()
    sandbox = [f"-p{line}" for line in unit.splitlines() if SANDBOX.match(line)]
    assert any(property.startswith("-pSystemCallFilter=") for property in sandbox)
    command = ["systemd-run", "--quiet", "--wait", "--pipe", "-pRuntimeDirectory=judge"]
    command += ["-pRuntimeDirectoryPreserve=yes", *sandbox, "python3", "-B", "-c", ASK]

    def judge(*lines: str, directory: str = "/etc/postfix") -> list[dict[str, Any]]:
        done = serving.run(command, input=json.dumps([directory, *lines]))
        judged: list[dict[str, Any]] = json.loads(done.stdout)
        assert "judge-" not in done.stdout  # the private folder's name
        return judged

    return judge


def test_what_serves_is_judged_good(judge: Judge) -> None:
    assert judge("") == [NOTHING]


@pytest.mark.parametrize("line", FATAL)
def test_what_postfix_would_die_of(judge: Judge, line: str) -> None:
    (judgement,) = judge(line)
    assert FATAL[line] in judgement["fatal"]


@pytest.mark.parametrize("line", FAULTS)
def test_what_only_a_daemon_would_refuse(judge: Judge, line: str) -> None:
    parameter, words = FAULTS[line]
    (judgement,) = judge(line)
    assert judgement["fatal"] == ""
    (fault,) = judgement["faults"]
    assert fault["parameter"] == parameter
    assert words in fault["reason"]
    assert words not in "\n".join(judgement["warnings"])


@pytest.mark.parametrize("line", WARNINGS)
def test_what_only_warns(judge: Judge, line: str) -> None:
    (judgement,) = judge(line)
    assert judgement["fatal"] == ""
    assert judgement["faults"] == []
    assert [w for w in judgement["warnings"] if w.startswith(WARNINGS[line])]


@pytest.mark.parametrize("line", ABSENT)
def test_what_a_value_names_and_is_not_there(judge: Judge, line: str) -> None:
    (judgement,) = judge(line)
    assert (judgement["fatal"], judgement["faults"]) == ("", [])
    (absent,) = judgement["absent"]
    assert ABSENT[line] in absent["why"]
    assert not [w for w in judgement["warnings"] if "nosuch" in w and "unsupported" not in w]
    assert not [w for w in judgement["warnings"] if "No such file" in w]


def test_a_level_that_is_lost_is_told_by_smtpd(judge: Judge, serving: Machine) -> None:
    """Without compatibility_level there is no default for smtpd_relay_restrictions."""
    text = serving.read_text("/etc/postfix/main.cf")
    bare = re.sub("(?m)^(compatibility_level|smtpd_relay_restrictions).*\n", "", text)
    serving.run(["mkdir", "-p", "/etc/postfix-bare"])
    serving.write_text("/etc/postfix-bare/main.cf", bare)
    serving.run(["cp", "/etc/postfix/master.cf", "/etc/postfix-bare"])
    (judgement,) = judge("", directory="/etc/postfix-bare")
    assert "specify at least one working instance of" in judgement["fatal"]


def test_nothing_of_it_is_in_the_log_or_in_postfixs_folders(judge: Judge, serving: Machine) -> None:
    # A Postfix that runs writes to its folders as it pleases. Debian 12's umbrella stops before
    # the unit below it does.
    serving.run(["systemctl", "stop", "postfix", "postfix@-"])
    stopped = serving.followed.cursor()
    files = (
        "find /etc/postfix /var/spool/postfix /var/lib/postfix -printf '%p %T@ %C@ %s\\n' | sort"
    )
    there = serving.sh(files)
    judge("", *FATAL, *FAULTS, *WARNINGS, REMOTE)
    assert serving.sh(files) == there
    records = serving.followed.entries(stopped)
    noise = [r for r in records if "postfix" in r.get("SYSLOG_IDENTIFIER", "")]
    assert noise == []
    serving.run(["systemctl", "start", "postfix"])


def test_it_asks_nobody(serving: Machine) -> None:
    """No program of a judgement connects to anything but a name service cache."""
    serving.write_text("/etc/postfix/cache.cf", "memcache = inet:127.0.0.1:9998\n")
    serving.run(["systemctl", "stop", "postfix", "postfix@-"])
    traced = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,bind,mkdir,unlink,rename,chown"]
    traced += ["-o", "/root/trace", "python3", "-B", "-c", ASK]
    done = serving.run(traced, input=json.dumps(["/etc/postfix", REMOTE]))
    (judgement,) = json.loads(done.stdout)
    assert judgement["fatal"] == ""
    calls = serving.read_text("/root/trace").splitlines()
    assert any("/nonexistent/log" in call for call in calls)
    # postmap opens the log once main.cf is read; what it would say there is a `sendto`.
    allowed = ["/nonexistent/log", "/public/no", "/dev/log", "nscd/socket", "AF_NETLINK"]
    allowed += ["/run/judge/", "+++ exited", "+++ killed", "--- SIG"]
    allowed += [" resumed>"]  # the end of a call that is shown from its beginning, too
    assert [call for call in calls if not any(word in call for word in allowed)] == []
    serving.run(["systemctl", "start", "postfix"])


def test_a_table_that_waits_for_a_postfix_that_is_down_has_no_verdict(
    judge: Judge, serving: Machine
) -> None:
    serving.run(["systemctl", "stop", "postfix", "postfix@-"])
    waits = "way = proxy\nlocal_recipient_maps = $way:unix:passwd.byname\nqueue_run_delay = no"
    (judgement,) = judge(waits)
    assert judgement["fatal"] == ""
    assert [fault["parameter"] for fault in judgement["faults"]] == ["queue_run_delay"]
    serving.run(["systemctl", "start", "postfix"])


def test_an_instance_is_asked_about_its_own_files(judge: Judge, serving: Machine) -> None:
    serving.run(["postmulti", "-e", "init"])
    serving.run(["postmulti", "-I", "postfix-out", "-e", "create"])
    (judgement,) = judge("", directory=INSTANCE)
    assert judgement == NOTHING
    greeting = ["python3", "-B", "-c", GREETING]
    # As it is made, `master_service_disable = inet` keeps it from port 25.
    assert serving.run([*greeting, INSTANCE]).stdout == "None\n"
    assert "address='127.0.0.1'" in serving.run([*greeting, "/etc/postfix"]).stdout
    serving.sh(
        f"postconf -c {INSTANCE} -e master_service_disable= alias_database=hash:/etc/out/aliases"
        f" && sed -i 's/^smtp  *inet/[127.0.0.1]:smtp inet/' {INSTANCE}/master.cf"
        f" && touch -d '-5 seconds' {INSTANCE}/main.cf"
    )
    (judgement,) = judge("", directory=INSTANCE)
    words = {fault["parameter"]: fault["reason"] for fault in judgement["faults"]}
    assert words["alias_database"] == "open /etc/out/aliases: No such file or directory"
    serving.write_text("/etc/out/aliases", "somebody: root\n")
    serving.run(["python3", "-B", "-c", NEWALIASES])
    assert serving.sh("ls /etc/out").split() == ["aliases", "aliases.db"]
    assert "address='127.0.0.1', port=25" in serving.run([*greeting, INSTANCE]).stdout
