"""Why a judged text is refused, by whom, and where what is wrong in it stands."""

from __future__ import annotations

import pytest

from pf_agent.model import DesiredState, Fault, Judgement, Place, Presence, Reference
from pf_agent.reconcile.refusal import (
    Refusal,
    Stands,
    refusal,
    refusal_sentence,
    runs_already,
    told,
    warnings,
)

TOML = "/etc/pf-agent/desired.toml"
PATH = "/etc/postfix/main.cf"
DESIRED = DesiredState(
    {"mynetworks": "127.0.0.0/8", "myhostname": "vm", "myorigin": "/etc/mailname"},
    frozenset(["biff"]),
    provenance={
        "mynetworks": Place(TOML, 3),
        "myhostname": Place(TOML, 4),
        "myorigin": Place(TOML, 5),
        "biff": Place(TOML, 1),
    },
)
ON_DISK = b"# ours\nmynetworks = 127.0.0.0/8\n  stray\nMyHostname = x\nrelay_domains = a\n"
# A line above is gone in what it would become.
JUDGED = ON_DISK.replace(b"# ours\n", b"")
STANDS = Stands.of(PATH, ON_DISK, JUDGED)
UNKNOWN = "unknown Postfix parameter, it has no effect; did you mean"


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        # What is misspelt in main.cf is not the fault of the line that has the real name.
        (f"MyHostname: {UNKNOWN} myhostname?", f"{PATH}:4: MyHostname: {UNKNOWN} myhostname?"),
        (f"biff: {UNKNOWN} x?", f"{TOML}:1: biff: {UNKNOWN} x?"),
        (f"my_networks: {UNKNOWN} mynetworks?", f"my_networks: {UNKNOWN} mynetworks?"),
        ("mynetworks: no pattern after '!'", f"{TOML}:3: mynetworks: no pattern after '!'"),
        # Of a line it is told where that stands, whatever it quotes.
        (
            'main.cf, line 3: overriding earlier entry: "$mynetworks"',
            f'{PATH}:4: overriding earlier entry: "$mynetworks"',
        ),
        ("main.cf, line 2: a blank", f"{TOML}:3: mynetworks: a blank"),
        ("main.cf, line 9: nowhere", f"{PATH} (as it would become):9: nowhere"),
        (
            'main.cf: support for parameter "relay_domains" ends; instead, use "mynetworks"',
            f'{PATH}:5: relay_domains: support for parameter "relay_domains" ends; instead, use'
            ' "mynetworks"',
        ),
        (
            "master.cf: smtp/inet: mynetworks: there is no file",
            "/etc/postfix/master.cf: smtp/inet: mynetworks: there is no file",
        ),
        # Only the thing is named, which one value names.
        (
            "open /etc/mailname: No such file or directory",
            f"{TOML}:5: myorigin: open /etc/mailname: No such file or directory",
        ),
        ("bad value for myhostname: vm", f"{TOML}:4: myhostname: bad value for myhostname: vm"),
        ("main.cf: undefined parameter: nosuch", f"{PATH}: undefined parameter: nosuch"),
        ("out of luck", "out of luck"),
    ],
)
def test_each_message_has_its_place_and_each_name_once(said: str, sentence: str) -> None:
    assert told(DESIRED, said, STANDS) == sentence


def test_who_refuses_is_told() -> None:
    ours = Refusal("there is no /a; write it", "mynetworks", is_ours=True)
    assert refusal_sentence(DESIRED, ours) == (
        f"{TOML}:3: mynetworks: pf-agent refuses it: there is no /a; write it;"
        " until then main.cf stays as it is"
    )
    assert refusal_sentence(DESIRED, Refusal("bad value for myhostname")) == (
        f"{TOML}:4: myhostname: Postfix refuses it: bad value for myhostname;"
        " fix it, until then main.cf stays as it is"
    )
    # A service's option names what a newly asked for parameter was to say.
    elsewhere = Refusal("master.cf: smtp/inet: x: mynetworks lacks /a", "mynetworks", is_ours=True)
    assert refusal_sentence(DESIRED, elsewhere).startswith(
        f"{TOML}:3: mynetworks: pf-agent refuses it: master.cf: smtp/inet: x: mynetworks lacks /a; "
    )
    # The default of one is too small for the other, which is what was asked for.
    pair = Refusal("mailbox_size_limit is smaller than mynetworks", "mailbox_size_limit")
    assert refusal_sentence(DESIRED, pair).startswith(f"{TOML}:3: mynetworks: Postfix refuses it: ")


def absent(parameter: str, path: str) -> Reference:
    return Reference(parameter, "file", path, Presence.ABSENT, path, f"there is no {path}")


def test_what_a_program_ends_with_is_laid_to_the_value_that_names_it() -> None:
    judgement = Judgement(
        "/etc/mailname: cannot open file: No such file or directory",
        absent=(absent("relay_domains", "/etc/mail"), absent("myorigin", "/etc/mailname")),
    )
    refused = refusal(DESIRED, judgement)
    assert refused == Refusal("there is no /etc/mailname", "myorigin")
    assert refused.said == "myorigin: there is no /etc/mailname"
    for said in ("/etc/mail.cf: cannot open file", "bad parameter value: myorigin"):
        assert refusal(DESIRED, Judgement(said, absent=judgement.absent)) == Refusal(said)
    opened = Judgement("open /etc/mailname: No such file", absent=judgement.absent)
    assert refusal(DESIRED, opened) == refused


FAULT = Fault("mailbox_size_limit", "mailbox_size_limit is smaller than mynetworks")
ABSENT = absent("mynetworks", "/a")
FAULTY = Judgement("", ("said",), (FAULT,), (ABSENT,))


def test_what_is_wrong_already_is_told_and_refuses_nothing() -> None:
    new = ["mynetworks"]
    assert refusal(DESIRED, FAULTY, new) == Refusal(FAULT.reason, FAULT.parameter)
    assert refusal(DESIRED, FAULTY, new, Judgement(faults=(FAULT,))) == Refusal(
        ABSENT.why, "mynetworks", is_ours=True
    )
    assert refusal(DESIRED, FAULTY, new, FAULTY) is None
    assert warnings(DESIRED, FAULTY, new) == ("said",)
    assert warnings(DESIRED, FAULTY, new, FAULTY) == (
        "said",
        FAULT.reason,
        "mynetworks: there is no /a",
    )


def test_what_ends_a_program_already_refuses_only_what_would_be_installed() -> None:
    """`set` and `adopt` write to a drop-in alone."""
    fatal = Judgement("bad value")
    assert refusal(DESIRED, fatal, (), fatal) is None
    assert warnings(DESIRED, fatal, (), fatal) == ("bad value",)
    assert refusal(DESIRED, fatal, (), runs_already(fatal)) == Refusal("bad value")
