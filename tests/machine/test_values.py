"""values.py against Postfix itself: libpostfix converts the same values, daemons say the same."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pf_agent.maincf.lists import words
from pf_agent.maincf.parameters import TABLE
from pf_agent.maincf.values import fault, pair_faults, same

INSIDE = Path(__file__).with_name("inside_values.py")
# A mount namespace of its own, which ends with it. The root is read-only there, /tmp a tmpfs.
ENTER = """
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs none "$1/tmp"
mount -t tmpfs none "$1/dev"
mknod -m 666 "$1/dev/null" c 1 3
mknod -m 666 "$1/dev/urandom" c 1 9
mount -t proc none "$1/proc"
cp "$2" "$1/tmp/inside.py"
exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C python3 -IB /tmp/inside.py
"""

TIMES = (
    *("0", "1", "00", "+1", "-1", "-0", "10", "10s", "10m", "10h", "10d", "10w", "10M", "10 m"),
    *("1.5h", "10min", "10mxyz", "s", "h", "hello", "default", "bogus", "", "+", "-", "+s", "1e3"),
    *("2147483647", "2147483648", "-2147483649", "99999999999999999999", "3550w", "3551w", "3552w"),
    *("24855d", "24854d", "596523h", "596522h", "35791394m", "35791393m", "\t7", "7\t", "١", "10٥"),
)
NUMBERS = (
    *("0", "5", "+5", "005", "-5", "", "+", "-", "5 ", " 5", "\v5", "10M", "ten", "1e3", "0x10"),
    *("2147483647", "2147483648", "-2147483648", "-2147483649", "9223372036854775807", "१"),
    *("9223372036854775808", "-9223372036854775808", "-9223372036854775809", "0" * 40 + "7"),
)
BOOLEANS = ("yes", "YES", "No", "nO", "", "y", "true", "1", "on", "yes,", "yes ", "yeſ", "no # x")
STRINGS = ("", "a", "ab", "abc", "é", "éé", "日")
NETWORKS = (
    *("10.0.0.0/8", "10.0.0.1/8", "10.0.0.0/99", "10.0.0.0/33", "10.0.0.0/32", "10.0.0.0/0"),
    *(
        "0.0.0.0/0",
        "10.0.0.0/",
        "10.0.0.0/x",
        "10.0.0/8",
        "10.0.0.256/8",
        "010.0.0.0/8",
        "/dev/null",
    ),
    *("[10.0.0.0]/8", "[10.0.0.0/8]", "[10.0.0.1]/8", "[10.0.0.0/8", "[10.0.0.0]8/9", "[10.0.0.1]"),
    *("[::1]/128", "[::1]/129", "[::1/129]", "[::1]", "[::1]x", "[fe80::]/64", "[fe80::1]/64"),
    *("[FE80::1]/64", "[::ffff:10.0.0.1]/104", "[::10.0.0.1]/104", "[::ffff:0:1]/112", "[::g]"),
    *("[1:2:3:4:5:6:7::]", "[1:2:3:4:5:6:7:8::]", "[1::2::3]", "[::1", "[:]", "[::1]/", "[]/8"),
    *("::1", "fe80::/64", "2001:db8::1", "!10.0.0.0/9 10.0.0.1/8", "!", "!!", "!!10.0.0.1/8"),
    *("10.0.0.999", "host.example", ".example", "dead/beef", "example/8", "10.0.0.1/8 10.0.0.0/99"),
    *("10.0.0.0/8, [::1]/128", "192.0.2.0/24,198.51.100.1/24", "1.2.3.4/5/6", "[1.2.3.4/5]/6"),
)
LISTS = (
    *("", ",", "a", "a,b", "a , b", "a\tb\rc", "a\vb\fc", "{a, b} c", "x{a b}y,z", "{a {b c} d} e"),
    *("a} b", "{a b", "a {", "}{ x", "{}", "{} {}", ",,a,,b,,", "a{b}{c d}e f", "\u00a0a b"),
)
# A value that each of these programs refuses, for bounds and units of many tables.
REFUSED: tuple[tuple[str, str, str], ...] = (
    *(("smtpd", name, value) for name, value in (
        ("smtpd_timeout", "bogus"), ("smtpd_timeout", "h"), ("smtpd_banner", ""),
        ("smtpd_soft_error_limit", "0"), ("smtpd_recipient_limit", "ten"),
        ("unverified_sender_reject_code", "199"), ("unverified_sender_reject_code", "600"),
        ("disable_vrfy_command", "maybe"), ("smtpd_expansion_filter", ""),
        ("queue_minfree", "9223372036854775808"), ("smtpd_per_request_deadline", "x"),
        ("line_length_limit", "511"), ("in_flow_delay", "11"), ("soft_bounce", "yes,"),
        ("message_size_limit", "10M"), ("default_verp_delimiters", "+"), ("myorigin", ""),
        ("delay_logging_resolution_limit", "7"), ("max_idle", "0"),
    )),
    *(("smtp", name, value) for name, value in (
        ("smtp_connect_timeout", "10 m"), ("smtp_line_length_limit", "x"),
        ("smtp_helo_name", ""),
        ("smtp_sasl_auth_cache_time", "x"),
    )),
    *(("qmgr", name, value) for name, value in (
        ("minimal_backoff_time", "0"), ("maximal_queue_lifetime", "x"),
        ("qmgr_message_active_limit", "0"),
    )),
    ("oqmgr", "qmgr_fudge_factor", "9"), ("cleanup", "header_size_limit", "0"),
    ("cleanup", "hopcount_limit", "0"),
    ("local", "mailbox_size_limit", "1x"), ("local", "command_time_limit", "-1"),
    ("qmgr", "local_destination_recipient_limit", "x"), ("pickup", "daemon_timeout", "0"),
    ("trivial-rewrite", "swap_bangpath", "1"), ("trivial-rewrite", "local_transport", ""),
    ("bounce", "bounce_size_limit", "0"), ("bounce", "double_bounce_sender", ""),
    ("flush", "fast_flush_refresh_time", "0"), ("tlsmgr", "smtp_tls_session_cache_timeout", "99w"),
    ("verify", "address_verify_positive_expire_time", "0"),
    ("postscreen", "postscreen_dnsbl_max_ttl", "0h"), ("postscreen", "postscreen_greet_wait", ""),
    ("anvil", "anvil_rate_time_unit", "0"), ("scache", "connection_cache_ttl_limit", "0"),
    ("virtual", "virtual_minimum_uid", "0"), ("proxymap", "ipc_timeout", "0"),
)  # fmt: skip
PAIRS = (
    ("local", {"message_size_limit": "10", "mailbox_size_limit": "5"}),
    ("local", {"message_size_limit": "0", "mailbox_size_limit": "5"}),
    *(
        ("virtual", {"virtual_mailbox_base": "/", "virtual_mailbox_limit": "5", **message})
        for message in ({"message_size_limit": "10"}, {"message_size_limit": "0"})
    ),
)
KINDS = (
    ("time", "smtpd_timeout", TIMES),
    ("time", "maximal_queue_lifetime", TIMES),
    ("time", "in_flow_delay", TIMES),
    ("time", "fast_flush_purge_time", TIMES),
    ("integer", "line_length_limit", NUMBERS),
    ("integer", "smtpd_recipient_limit", NUMBERS),
    ("integer", "unverified_sender_reject_code", NUMBERS),
    ("long", "message_size_limit", NUMBERS),
    ("boolean", "soft_bounce", BOOLEANS),
    ("boolean", "smtpd_tls_auth_only", BOOLEANS),
    ("string", "smtpd_banner", STRINGS),
    ("string", "default_verp_delimiters", STRINGS),
    ("raw", "smtpd_expansion_filter", STRINGS),
)


def typed_questions() -> list[tuple[str, str, str, str, int, int]]:
    questions = []
    for kind, name, values in KINDS:
        found = TABLE[TABLE.index(f"\n{name} ") :].split("\n")[1].split(" ")
        assert found[1] == kind
        default = f"1{found[4]}"
        questions += [(kind, name, v, default, int(found[2]), int(found[3])) for v in values]
    return questions


TYPED = typed_questions()


@pytest.fixture(scope="module")
def truth(base: Path) -> dict[str, list[Any]]:
    """What the release's Postfix says of all of them; one process asks."""
    daemons = [(program, {name: value}) for program, name, value in REFUSED]
    questions = {
        "typed": TYPED,
        "networks": [("mynetworks", value) for value in NETWORKS],
        "words": LISTS,
        "daemon": [*daemons, *PAIRS],
    }
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-euc", ENTER, "sh", base, INSIDE],
        input=json.dumps(questions),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, list[Any]] = json.loads(done.stdout)
    return answers


def shown(text: str) -> str:
    """As libpostfix logs it before a program has told it that UTF-8 may be shown."""
    return re.sub(rb"[^ -~]", b"?", text.encode("utf-8", "surrogateescape")).decode()


def test_faults_of_type_in_the_words_of_libpostfix(truth: dict[str, list[Any]]) -> None:
    for (_, name, value, *_), said in zip(TYPED, truth["typed"], strict=True):
        expected = said[0] if isinstance(said, list) else ""
        assert shown(fault(name, value)) == expected, (name, value)


def test_what_is_the_same_comes_to_the_same(truth: dict[str, list[Any]]) -> None:
    """Of every two values; strings are left out, since their text decides."""
    for kind, name, _ in KINDS:
        if kind in ("string", "raw"):
            continue
        answers = [
            (value, said)
            for (_, asked, value, *_), said in zip(TYPED, truth["typed"], strict=True)
            if asked == name
        ]
        for ours, mine in answers:
            for theirs, other in answers:
                equal = ours == theirs or (mine == other and not isinstance(mine, list))
                assert same(name, ours, theirs) == equal, (name, ours, theirs)


def test_networks_in_the_words_of_libpostfix(truth: dict[str, list[Any]]) -> None:
    for value, said in zip(NETWORKS, truth["networks"], strict=True):
        # Without the right family nothing is parsed: the first word of all that is said counts.
        found = fault("mynetworks", value)
        assert found == (said[0] if said else ""), (value, said)


def test_lists_part_as_in_libpostfix(truth: dict[str, list[Any]]) -> None:
    for value, said in zip(LISTS, truth["words"], strict=True):
        assert list(words(value)) == said


def test_daemons_refuse_in_these_words(truth: dict[str, list[Any]]) -> None:
    for (program, name, value), said in zip(REFUSED, truth["daemon"], strict=False):
        assert f"fatal: {fault(name, value)}" in said, (program, name, value)


def test_delivery_agents_refuse_pairs_in_these_words(truth: dict[str, list[Any]]) -> None:
    for (program, values), said in zip(PAIRS, truth["daemon"][len(REFUSED) :], strict=True):
        (found,) = pair_faults(values).values()
        assert f"fatal: {found}" in said, (program, values)
