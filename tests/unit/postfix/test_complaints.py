"""What Postfix's programs say, made fit for people."""

from __future__ import annotations

import pytest

from pf_agent.postfix.complaints import (
    FATAL,
    Folders,
    bounded,
    doubts,
    has_unknown,
    reason,
    unquoted,
    warnings,
)

FOLDERS = Folders("/run/pf-agent/judge-x1", "/etc/postfix")
KNOWN = (
    *("mynetworks", "mynetworks_style", "mydestination", "myorigin", "message_size_limit"),
    *("smtp_tls_CAfile", "smtpd_tls_CAfile", "smtpd_recipient_restrictions", "biff"),
    *("default_destination_recipient_limit", "smtp_destination_recipient_limit"),
)


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("", "it gave no reason"),
        (
            "postmap: fatal: bad numerical configuration: a = b\n",
            "bad numerical configuration: a = b",
        ),
        (
            "postconf: warning: x\npostconf: fatal: /run/pf-agent/judge-x1/main.cf, line 3: no\n",
            "main.cf, line 3: no",
        ),
        ("postfix/smtpd: fatal: open /run/pf-agent/judge-x1/a: no", "open /etc/postfix/a: no"),
        (
            'postconf: warning: empty macro name: "$"\npostconf: fatal: macro processing error\n',
            'macro processing error: empty macro name: "$"',
        ),
        ("postconf: fatal: macro processing error\n", "macro processing error"),
        ("sh: not found\n", "sh: not found"),
    ],
)
def test_the_reason_is_one_line_in_postfix_words(complaint: str, said: str) -> None:
    assert reason(complaint, FOLDERS) == said


@pytest.mark.parametrize(
    "line", [b"postmap: fatal: x", b"postfix/smtpd: fatal: x", b"postfix-out/smtpd: panic: x"]
)
def test_what_ends_a_program(line: bytes) -> None:
    assert FATAL.match(line)


def test_a_value_that_reads_like_an_end_is_none() -> None:
    assert not FATAL.search(b"postconf: warning: main.cf: unused parameter: x=a fatal: b")


def test_warnings_come_in_the_order_of_main_cf_and_once() -> None:
    lines = [
        "main.cf: undefined parameter: nosuch",
        "main.cf: unused parameter: mynetwork=10.0.0.0/8",
        "main.cf, line 5: overriding earlier entry: relayhost=",
        "main.cf: unused parameter: foo=a = b",
        "main.cf: undefined parameter: nosuch",
    ]
    assert warnings(lines, {"mynetwork": 9, "foo": 2}, KNOWN) == [
        "foo: unknown Postfix parameter, it has no effect",
        "main.cf, line 5: overriding earlier entry: relayhost=",
        "mynetwork: unknown Postfix parameter, it has no effect; did you mean mynetworks?",
        "main.cf: undefined parameter: nosuch",
    ]


def test_of_very_many_the_first_are_told_and_the_rest_is_counted() -> None:
    names = [f"mynetwork{number}" for number in range(100_000)]
    lines = [f"main.cf: unused parameter: {name}=1" for name in names]
    found = warnings(lines, {name: line for line, name in enumerate(names)}, KNOWN)
    assert [line.partition(":")[0] for line in found[:-1]] == names[:100]
    assert found[-1] == "and 99900 more"
    assert [line for line in found if "did you mean mynetworks?" in line] == found[:20]


@pytest.mark.parametrize("name", ["x" * 5_000_000, "mynetworks" * 100_000])
def test_no_name_is_slow_to_look_up(name: str) -> None:
    (told,) = warnings([f"main.cf: unused parameter: {name}=1. b"], {}, KNOWN)
    assert told == f"{name}: unknown Postfix parameter, it has no effect"


def test_what_stood_in_the_hosts_own_main_cf_is_not_quoted() -> None:
    said = "/etc/postfix/main.cf, line 3: missing '=' after attribute name"
    assert unquoted(f'{said}: "root:$y$j9T$secret"') == said
    assert unquoted('unsupported dictionary type: "x"') == 'unsupported dictionary type: "x"'


def test_words_that_quote_a_value_of_megabytes_are_cut() -> None:
    assert bounded("x" * 1000) == "x" * 1000
    assert bounded("x" * 5_000_000) == "x" * 1000 + "... (5000000 characters)"


def test_an_unknown_name_of_master_cf_says_where() -> None:
    (told,) = warnings(["master.cf: unused parameter: biffs=no"], {}, KNOWN)
    assert told.startswith("master.cf: biffs: unknown Postfix parameter")


def test_of_two_that_say_the_same_the_longer_is_told() -> None:
    lines = ["unsupported dictionary type: pcre"]
    lines.append(f"{lines[0]}. Is the postfix-pcre package installed?")
    assert warnings(lines, {}, ()) == [lines[1]]


def test_names_are_asked_for_only_where_one_is_unknown() -> None:
    assert has_unknown(["main.cf: unused parameter: a=b"])
    assert not has_unknown(["main.cf: undefined parameter: a", "x: unused parameter: a=b"])


# --- what newaliases leaves out -------------------------------------------------------------------


def test_what_is_wrong_in_an_alias_file_is_told_as_newaliases_says_it() -> None:
    said = [
        "postalias: warning: inet_protocols: disabling IPv6 name/address support",
        "postalias: warning: /etc/postfix/main.cf, line 3: overriding earlier entry: a=b",
        "postalias: warning: /etc/aliases, line 2: need name:value pair",
        "postalias: warning: /etc/aliases, line 2: need name:value pair",
        'postalias: warning: /etc/aliases.db: duplicate entry: "list"',
    ]
    assert doubts("\n".join(said)) == (
        "/etc/aliases, line 2: need name:value pair",
        '/etc/aliases.db: duplicate entry: "list"',
    )
    assert doubts("") == ()


def test_of_very_much_that_is_wrong_the_first_is_told_and_the_rest_counted() -> None:
    lines = [f"postalias: warning: /a, line {n}: need name:value pair" for n in range(1000)]
    found = doubts("\n".join(lines))
    assert found[0] == "/a, line 0: need name:value pair"
    assert (len(found), found[-1]) == (6, "and 995 more")
    (long,) = doubts(f"postalias: warning: /a, line 1: {'x' * 10_000}")
    assert len(long) < 1100
