"""What we call absent, held to what real Postfix does with the value: tests/references/."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest

from pf_agent.maincf import parameters
from pf_agent.maincf.inventory import Inventory
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.maincf.references import absences, references
from tests.references import cases, world
from tests.references.cases import Case

TRUTH = json.loads(cases.TRUTH.read_text())
CASES = cases.load()
TYPES = frozenset(
    [
        *("btree", "cidr", "environ", "fail", "hash", "inline", "internal", "memcache", "nis"),
        *("pipemap", "proxy", "randmap", "regexp", "socketmap", "static", "tcp", "texthash"),
        *("unionmap", "unix"),
    ]
)
# The services of Debian's master.cf.
MASTER = "smtp inet n - y - - smtpd\n" + "".join(
    f"{name} unix - - - - - {program}\n"
    for name, program in [
        *(("smtp", "smtp"), ("relay", "smtp"), ("lmtp", "lmtp"), ("local", "local")),
        *(("cleanup", "cleanup"), ("qmgr", "qmgr"), ("pickup", "pickup"), ("error", "error")),
        *(("retry", "error"), ("discard", "discard"), ("virtual", "virtual"), ("defer", "bounce")),
        *(("bounce", "bounce"), ("trace", "bounce"), ("verify", "verify"), ("flush", "flush")),
        *(("proxymap", "proxymap"), ("proxywrite", "proxymap"), ("showq", "showq")),
        *(("rewrite", "trivial-rewrite"), ("anvil", "anvil"), ("scache", "scache")),
        *(("tlsmgr", "tlsmgr"), ("postlog", "postlogd"), ("uucp", "pipe"), ("maildrop", "pipe")),
    ]
)
NAMES = dict.fromkeys((line.split(" ")[0] for line in parameters.TABLE.split("\n")), "")
# The default of proxy_read_maps names all lists that smtpd and the resolver read.
APPROVED = " ".join(f"${name}" for name in NAMES if name.endswith(("_maps", "_restrictions")))
# Defaults that matter here; the rest may be empty.
DEFAULTS = {
    "config_directory": "/etc/postfix",
    "queue_directory": "/var/spool/postfix",
    "default_database_type": "hash",
    "local_recipient_maps": "proxy:unix:passwd.byname $alias_maps",
    "postlog_service_name": "postlog",
    "smtpd_sasl_type": "cyrus",
}
_NAMED = re.compile(r"\$(?:(\w+)|\{(\w+)\}|\((\w+)\))")
# What is named there is absent, and nobody came to ask for it in the message of the case.
NOT_ASKED = {
    "restriction misspelt in etrn restrictions",
    "undefined name as restriction",
    "smtp_sasl_password_maps absent",
    "smtp_sasl_password_maps absent without login",
    "smtpd_sender_login_maps absent",
    "smtpd_sender_login_maps absent and unused",
    "rbl_reply_maps absent",
    "relay_clientcerts absent",
    "relay_transport of nothing and no relay_domains",
    "fallback_transport of nothing",
    "address_verify_relayhost with an undefined name",
    "error_service_name of nothing",
    "mynetworks with an undefined name besides",
    "smtpd_banner with an undefined name",
    "option over a wrong value of main.cf",
}


def expanded(value: str, settings: Mapping[str, str], depth: int = 9) -> str:
    def named(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        if depth == 0 or name not in settings:
            return found[0]
        return expanded(settings[name], settings, depth - 1)

    return _NAMED.sub(named, value)


def absent(case: Case, version: str) -> list[str]:
    """What is told of the case's main.cf and master.cf."""
    explicit = {**world.BASE, **case.settings}
    raw = {**NAMES, **DEFAULTS, "proxy_read_maps": APPROVED, **explicit}
    settings = {
        name: expanded(value, raw) if "$" in value else value for name, value in raw.items()
    }
    settings["mail_version"] = f"{version}.0"
    services = MasterCf.parse(cases.master_cf(MASTER, case).encode()).services
    found = references(explicit, Inventory(settings, TYPES, services, world.has))
    return [f"{each.parameter}: {each.why}" for each in absences(found)]


@pytest.mark.parametrize("version", ["3.7", "3.10"])
def test_what_postfix_serves_well_with_names_nothing_absent(version: str) -> None:
    alarms = {
        case.name: told
        for case in CASES
        if TRUTH[case.name][version]["verdict"] == "well" and (told := absent(case, version))
    }
    assert {name: told for name, told in alarms.items() if name not in NOT_ASKED} == {}
    assert alarms.keys() == NOT_ASKED, "else it was looked at, and need not be excepted"


@pytest.mark.parametrize("version", ["3.7", "3.10"])
def test_most_of_what_is_refused_or_deferred_for_a_name_is_found(version: str) -> None:
    """The rest is across the network, in a table, or told of by Postfix's own programs."""
    bad = [case for case in CASES if TRUTH[case.name][version]["verdict"] != "well"]
    found = [case.name for case in bad if absent(case, version)]
    assert len(found) > 140
    assert len(bad) > 240
