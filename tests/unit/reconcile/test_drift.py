"""Drift: what differs, what counts as destroyed, and the text that would not differ."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pf_agent.config import desired as desired_state
from pf_agent.config.table import Source
from pf_agent.maincf.document import MainCf
from pf_agent.maincf.entries import TableSource
from pf_agent.model import (
    ActualState,
    DesiredState,
    DocumentKind,
    Drift,
    DriftKind,
    FileKind,
    Unmanaged,
)
from pf_agent.reconcile.drift import (
    MOST_LINES,
    corrected,
    damage,
    find_drift,
    needs_activation,
    unmanaged_drift,
)
from tests.checkout import CHECKOUT, CORPUS

SHIPPED = desired_state.load(
    [Source("desired.toml", (CHECKOUT / "etc" / "desired.toml").read_bytes())],
)
INTERNET_SITE = (CORPUS / "hand-deb-bookworm.cf").read_bytes()

# Debian 12's main.cf.proto in small: each way that a setting of the guide stands in it.
TEMPLATE = b"""\
# Global Postfix configuration file.
compatibility_level = 3.7
command_directory = /usr/sbin
data_directory = /var/lib/postfix
\x20\x20
#myhostname = host.domain.tld
#myhostname = virtual.domain.tld

#myorigin = /etc/mailname
#myorigin = $mydomain

#inet_interfaces = all
#inet_interfaces = $myhostname, localhost

#mydestination = $myhostname, localhost.$mydomain, localhost
#mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain,
#\tmail.$mydomain, www.$mydomain, ftp.$mydomain
# The mydestination parameter lists the domains of this host.
unknown_local_recipient_reject_code = 550

#mynetworks = 168.100.3.0/28, 127.0.0.0/8
#mynetworks = hash:/etc/postfix/network_table
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
#home_mailbox = Mailbox
#home_mailbox = Maildir/

#smtpd_banner = $myhostname ESMTP $mail_name ($mail_version)
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
debugger_command =
\t PATH=/bin:/usr/bin:/usr/local/bin
# A debugger is for the brave.
\t ddd $daemon_directory/$process_name $process_id & sleep 5
sendmail_path =
newaliases_path =
mailq_path =
setgid_group =
html_directory =
manpage_directory =
sample_directory =
readme_directory =
inet_protocols = ipv4
"""
TEMPLATE_CORRECTED = b"""\
# Global Postfix configuration file.
compatibility_level = 3.7
command_directory = /usr/sbin
data_directory = /var/lib/postfix
\x20\x20
#myhostname = host.domain.tld
#myhostname = virtual.domain.tld

#myorigin = /etc/mailname
#myorigin = $mydomain
myorigin = $myhostname

#inet_interfaces = all
#inet_interfaces = $myhostname, localhost
inet_interfaces = all

#mydestination = $myhostname, localhost.$mydomain, localhost
#mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain,
#\tmail.$mydomain, www.$mydomain, ftp.$mydomain
mydestination = $myhostname, localhost.$mydomain, localhost, $mydomain
# The mydestination parameter lists the domains of this host.
unknown_local_recipient_reject_code = 550

#mynetworks = 168.100.3.0/28, 127.0.0.0/8
#mynetworks = hash:/etc/postfix/network_table
mynetworks = 127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64
#home_mailbox = Mailbox
#home_mailbox = Maildir/
home_mailbox = Maildir/

#smtpd_banner = $myhostname ESMTP $mail_name ($mail_version)
smtpd_banner = $myhostname ESMTP
debugger_command =
\t PATH=/bin:/usr/bin:/usr/local/bin
# A debugger is for the brave.
\t ddd $daemon_directory/$process_name $process_id & sleep 5
#sendmail_path =
#newaliases_path =
#mailq_path =
#setgid_group =
#html_directory =
#manpage_directory =
#sample_directory =
#readme_directory =
inet_protocols = all
disable_vrfy_command = yes
message_size_limit = 10485760
mailbox_size_limit = 1073741824
syslog_facility = mail
"""


def state(text: bytes | None, kind: FileKind = FileKind.REGULAR) -> ActualState:
    return ActualState(text, kind)


def wanting(*use_default: str, **settings: str) -> DesiredState:
    return DesiredState(settings, frozenset(use_default))


def drift_of(text: bytes, desired: DesiredState) -> tuple[Drift, ...]:
    return find_drift(desired, state(text))


# --- find_drift --------------------------------------------------------------------------------


def test_no_drift_where_the_file_says_what_it_must() -> None:
    assert drift_of(b"b = 2\na =\n  1\nother = x\n", wanting("c", a="1", b="2")) == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"x = 0\na = 2\n", Drift("a", DriftKind.CHANGED, "1", "2", 2)),
        (b"a =\n", Drift("a", DriftKind.CHANGED, "1", "", 1)),
        (b"a = 1\na = 2\n", Drift("a", DriftKind.CHANGED, "1", "2", 2)),
        (b"a = \xff\n", Drift("a", DriftKind.CHANGED, "1", "\udcff", 1)),
        (b"#a = 1\n", Drift("a", DriftKind.MISSING, "1", None)),
        (b"A = 1\n", Drift("a", DriftKind.MISSING, "1", None)),
        (b"a = 1\nd = 3\nd =\n", Drift("d", DriftKind.UNWANTED, None, "", 3)),
        (b"a = 2\n\na = 1\n", Drift("a", DriftKind.DUPLICATED, "1", "2", 1)),
        (b"a = 1\na = 2\na = 1\n", Drift("a", DriftKind.DUPLICATED, "1", "2", 2)),
        (b"a = 3\na = 2\na = 1\n", Drift("a", DriftKind.DUPLICATED, "1", "3", 1)),
        (b"a = 1\nno sign\n", Drift("", DriftKind.UNREADABLE, None, "no sign", 2)),
    ],
)
def test_one_difference(text: bytes, found: Drift) -> None:
    assert drift_of(text, wanting("d", a="1")) == (found,)


def test_a_symlink_and_another_owner_or_mode_are_drift() -> None:
    actual = ActualState(b"a = 1\n", FileKind.SYMLINK, owner=65534, group=8, mode=0o600)
    mode = DriftKind.MODE
    assert find_drift(wanting(a="1"), actual) == (
        Drift("", mode, "regular file", "symbolic link"),
        Drift("", mode, "owner 0:0 mode 0644", "owner 65534:8 mode 0600"),
    )
    assert find_drift(wanting(a="1"), actual, attributes=None) == ()


@pytest.mark.parametrize(("owner", "group", "mode"), [(1, 0, 0o644), (0, 1, 0o644), (0, 0, 0o664)])
def test_each_attribute_counts(owner: int, group: int, mode: int) -> None:
    actual = ActualState(b"a = 1\n", FileKind.REGULAR, owner, group, mode)
    assert [d.kind for d in find_drift(wanting(a="1"), actual)] == [DriftKind.MODE]


def test_an_absent_file_is_one_drift_and_nothing_of_its_text() -> None:
    absent = state(None, FileKind.ABSENT)
    (drift,) = find_drift(wanting(a="1"), absent, "there is no such file", restorable=True)
    assert drift == Drift("", DriftKind.ABSENT_FILE, "the last good text", "there is no such file")
    (drift,) = find_drift(wanting(a="1"), absent, "there is no such file")
    assert drift.expected == "the template"


def test_a_dangling_symlink_is_named_beside_the_absent_text() -> None:
    found = find_drift(wanting(a="1"), state(None, FileKind.SYMLINK), "there is no such file")
    assert [d.kind for d in found] == [DriftKind.ABSENT_FILE, DriftKind.MODE]


def test_of_a_file_that_was_cut_off_the_parameters_are_named_too() -> None:
    found = find_drift(wanting(a="1", b="2"), state(b"a = 3\n"), "it was truncated", True)
    assert [(d.parameter, d.kind) for d in found] == [
        ("", DriftKind.ABSENT_FILE),
        ("a", DriftKind.CHANGED),
        ("b", DriftKind.MISSING),
    ]


def test_a_text_of_too_many_lines_is_destroyed_and_not_taken_apart() -> None:
    most = b"#\n" * MOST_LINES
    assert damage(b"a = 1\n" + most[2:], wanting(a="1"), None) == ""
    text = b"a = 2\n" + most
    why = damage(text, wanting(a="1"), b"a = 1\n")
    assert why == f"it has more than {MOST_LINES} lines"
    (drift,) = find_drift(wanting(a="1"), state(text), why, restorable=True)
    assert (drift.kind, drift.actual) == (DriftKind.ABSENT_FILE, why)


def test_drift_stands_in_the_order_of_the_file_and_what_is_missing_last_by_name() -> None:
    text = b"z = 0\noops\ny = 0\nd = 1\nb = 0\n"
    found = drift_of(text, wanting("d", b="1", y="1", z="1", m="1", c="1"))
    assert [(d.parameter, d.line) for d in found] == [
        ("z", 1),
        ("", 2),
        ("y", 3),
        ("d", 4),
        ("b", 5),
        ("c", None),
        ("m", None),
    ]


# --- what Postfix takes for the same -----------------------------------------------------------

WANTED = wanting(
    mynetworks="127.0.0.0/8 [::1]/128 10.0.0.0/8",
    smtpd_timeout="10m",
    disable_vrfy_command="yes",
    message_size_limit="1000",
    smtpd_banner="$myhostname ESMTP",
    mydestination="$myhostname, localhost",
)
AS_WANTED = b"""\
mynetworks = 127.0.0.0/8,[::1]/128
# Docker's
\t10.0.0.0/8,
smtpd_timeout=600
disable_vrfy_command = YES
message_size_limit = +01000
smtpd_banner =
\t$myhostname ESMTP
mydestination = $myhostname localhost
"""


def test_another_way_to_write_the_same_is_no_drift() -> None:
    assert drift_of(AS_WANTED, WANTED) == ()
    assert corrected(MainCf.parse(AS_WANTED), WANTED).render() == AS_WANTED


def test_what_is_written_in_another_way_stays_so_when_other_drift_is_corrected() -> None:
    drifted = AS_WANTED.replace(b"= YES", b"= no") + b"biff = no\n"
    assert [d.parameter for d in drift_of(drifted, WANTED)] == ["disable_vrfy_command"]
    after = corrected(MainCf.parse(drifted), WANTED).render()
    assert after == drifted.replace(b"= no", b"= yes", 1)


@pytest.mark.parametrize(
    ("was", "now"),
    [
        pytest.param(b"127.0.0.0/8,[::1]/128", b"[::1]/128,127.0.0.0/8", id="order"),
        pytest.param(b"YES", b"true", id="no boolean"),
        pytest.param(b"=600", b"=601", id="another time"),
        pytest.param(b"=600", b"=10 m", id="no time"),
        pytest.param(b"$myhostname ESMTP", b"$myhostname  ESMTP", id="a blank in a text"),
        pytest.param(b"10.0.0.0/8", b"10.0.0.0/ 8", id="one word made two"),
    ],
)
def test_what_postfix_would_notice_is_drift(was: bytes, now: bytes) -> None:
    assert len(drift_of(AS_WANTED.replace(was, now), WANTED)) == 1


@pytest.mark.parametrize("text", [b"a = 1\na = 1\n", b"a = 1\nb = 0\na=1\n"])
def test_a_setting_that_stands_twice_alike_is_nothing_to_postfix(text: bytes) -> None:
    assert drift_of(text, wanting(a="1")) == ()
    assert corrected(MainCf.parse(text), wanting(a="1")).render() == text


# --- what the desired state does not name ------------------------------------------------------

FOREIGN = b"x = 0\na = 1\nsmtp_y = 1\nd = 3\nx =\n  1\n"


def foreign(unmanaged: Unmanaged, *ignore: str) -> DesiredState:
    return replace(wanting("d", a="1"), unmanaged=unmanaged, ignore=ignore)


def test_what_nobody_named_is_kept() -> None:
    desired = foreign(Unmanaged.KEEP)
    assert [d.parameter for d in drift_of(FOREIGN, desired)] == ["d"]
    assert unmanaged_drift(desired, MainCf.parse(FOREIGN)) == ()


def test_what_nobody_named_is_reported_and_left() -> None:
    desired = foreign(Unmanaged.REPORT)
    assert [d.parameter for d in drift_of(FOREIGN, desired)] == ["d"]
    assert unmanaged_drift(desired, MainCf.parse(FOREIGN)) == (
        Drift("x", DriftKind.UNMANAGED, None, "1", 5),
        Drift("smtp_y", DriftKind.UNMANAGED, None, "1", 3),
    )
    assert corrected(MainCf.parse(FOREIGN), desired).parameters().keys() == {"x", "a", "smtp_y"}


def test_what_nobody_named_is_commented_out_wherever_it_stands() -> None:
    desired = foreign(Unmanaged.COMMENT_OUT)
    assert [(d.parameter, d.kind) for d in drift_of(FOREIGN, desired)] == [
        ("smtp_y", DriftKind.UNMANAGED),
        ("d", DriftKind.UNWANTED),
        ("x", DriftKind.UNMANAGED),
    ]
    after = corrected(MainCf.parse(FOREIGN), desired).render()
    assert after == b"#x = 0\na = 1\n#smtp_y = 1\n#d = 3\n#x =\n#  1\n"
    assert drift_of(after, desired) == ()


@pytest.mark.parametrize("unmanaged", [Unmanaged.REPORT, Unmanaged.COMMENT_OUT])
def test_a_pattern_exempts(unmanaged: Unmanaged) -> None:
    desired = foreign(unmanaged, "smtp_*", "[w-z]")
    assert [d.parameter for d in drift_of(FOREIGN, desired)] == ["d"]
    assert unmanaged_drift(desired, MainCf.parse(FOREIGN)) == ()
    # A pattern is one of names as they are written.
    assert (
        len(unmanaged_drift(foreign(Unmanaged.REPORT, "SMTP_*", "x"), MainCf.parse(FOREIGN))) == 1
    )


# --- damage ------------------------------------------------------------------------------------

GOOD = b"# Ours.\na = 1\ntls = yes\nb = 2\nlast = 1\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param(None, "there is no such file", id="absent"),
        pytest.param(b"", "it contains no settings", id="emptied"),
        pytest.param(b"# Ours.\n\n  \n", "it contains no settings", id="only comments and blanks"),
        pytest.param(GOOD[:27], "it was truncated after 27 bytes", id="within a line of ours"),
        pytest.param(GOOD[:24], "it was truncated after 24 bytes", id="at a line's end, b lost"),
        pytest.param(GOOD[:20], "it was truncated after 20 bytes", id="within another's line"),
        pytest.param(GOOD[:29], "it was truncated after 29 bytes", id="before a newline"),
        pytest.param(GOOD[:37], "it was truncated after 37 bytes", id="within the last value"),
        pytest.param(b"# Ours.\na = 1\n", "it was truncated after 14 bytes", id="cut early"),
    ],
)
def test_destroyed(text: bytes | None, said: str) -> None:
    assert damage(text, wanting(a="1", b="2"), GOOD) == said


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(GOOD, id="as it was"),
        pytest.param(b"# Ours.\na = 1\ntls = yes\nb = 2\n", id="the last line deleted on purpose"),
        pytest.param(GOOD[:-1], id="the final newline alone lost"),
        pytest.param(b"a = 1\n", id="shortened, but no beginning of what stood there"),
        pytest.param(b"  orphan\n", id="an orphan is somebody's text"),
        pytest.param(b"oops\n", id="so is a line that cannot be read"),
        pytest.param(GOOD + b"more = 1", id="longer"),
    ],
)
def test_only_edited(text: bytes) -> None:
    assert damage(text, wanting(a="1", b="2"), GOOD) == ""


def test_without_a_last_good_text_only_an_absent_or_empty_file_is_destroyed() -> None:
    assert damage(GOOD[:27], wanting(a="1", b="2"), None) == ""
    assert damage(b"# c\n", wanting(a="1"), None) == "it contains no settings"
    assert damage(None, wanting(a="1"), None) == "there is no such file"


# --- corrected ---------------------------------------------------------------------------------


def test_the_template_of_debian_converges() -> None:
    after = corrected(MainCf.parse(TEMPLATE), SHIPPED)
    assert after.render() == TEMPLATE_CORRECTED
    assert drift_of(TEMPLATE_CORRECTED, SHIPPED) == ()
    assert corrected(after, SHIPPED).render() == TEMPLATE_CORRECTED


def test_an_internet_site_converges_and_keeps_all_else() -> None:
    before = MainCf.parse(INTERNET_SITE)
    after = corrected(before, SHIPPED)
    assert drift_of(after.render(), SHIPPED) == ()
    want = {n: v for n, v in before.parameters().items() if n not in SHIPPED.use_default}
    assert after.parameters() == {**want, **SHIPPED.settings}
    lines = after.render().splitlines()
    assert b"#readme_directory = no" in lines
    assert lines[lines.index(b"#myorigin = /etc/mailname") + 1] == b"myorigin = $myhostname"
    # Whatever names no parameter of ours stands as it stood, in its order.
    ours = [name.encode() for name in SHIPPED.parameters()]
    foreign = [line for line in INTERNET_SITE.splitlines() if line.split(b" ")[0] not in ours]
    assert [line for line in lines if line in foreign] == foreign


def test_unreadable_lines_and_defaults_are_commented_out_not_deleted() -> None:
    text = b"a = 1\noops,\n  more\nd = 4\n\t5\nd = 6\n"
    after = corrected(MainCf.parse(text), wanting("d", a="1"))
    assert after.render() == b"a = 1\n#oops,\n#  more\n#d = 4\n#\t5\n#d = 6\n"


def test_nothing_to_correct_changes_no_byte() -> None:
    text = b"a=1 \r\n\xff = \0\n b"
    assert corrected(MainCf.parse(text), wanting("c", a="1")).render() == text


LINES = st.sampled_from(
    [
        *(b"a = 1\n", b"a = 2\n", b"b = 2\r\n", b"d = 3\n", b"d =\n", b"#a = 1\n", b"#d = 3\n"),
        *(b"  more\n", b"\tless\n", b"# prose\n", b"\n", b" \n", b"oops\n", b"= 2\n", b"\0\n"),
        *(b"#\tmore\n", b"e = \xff\n", b"b = 2\0\n"),
    ]
)


@given(st.lists(LINES, max_size=12).map(b"".join) | st.binary(max_size=80))
@example(b"a")
@example(b"  a = 1\n#a = 1")
def test_any_file_converges_at_once(text: bytes) -> None:
    desired = wanting("d", a="1", b="", c="x y")
    before = MainCf.parse(text)
    after = corrected(before, desired)
    assert drift_of(after.render(), desired) == ()
    foreign = {n: v for n, v in before.parameters().items() if n not in desired.parameters()}
    assert after.parameters() == {**foreign, **desired.settings}
    assert corrected(after, desired).render() == after.render()


@given(st.lists(LINES, max_size=12).map(b"".join))
def test_no_drift_means_nothing_to_correct(text: bytes) -> None:
    desired = wanting("d", a="1")
    if not drift_of(text, desired):
        assert corrected(MainCf.parse(text), desired).render() == text


# --- needs_activation --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(DriftKind))
def test_all_but_owner_and_mode_must_reach_postfix(kind: DriftKind) -> None:
    mode = Drift("", DriftKind.MODE, "regular file", "symbolic link")
    assert needs_activation((mode, Drift("a", kind, "1", "2"))) == (kind is not DriftKind.MODE)


def test_no_drift_needs_no_activation() -> None:
    assert not needs_activation(())


# --- entries of tables and aliases -------------------------------------------------------------


def entry_drift(kind: DocumentKind, text: bytes, settings: dict[str, str]) -> list[Drift]:
    state = DesiredState(settings, frozenset({"gone"}), kind=kind)
    return list(find_drift(state, ActualState(text, FileKind.REGULAR), attributes=None))


def test_the_key_that_a_file_writes_in_another_case_is_the_same() -> None:
    assert entry_drift(DocumentKind.TABLE, b"Example.ORG  OK\n", {"example.org": "OK"}) == []
    assert entry_drift(DocumentKind.ALIASES, b"ROOT: a,b\n", {"root": "a , b"}) == []


def test_of_two_entries_the_first_counts_and_the_second_is_drift() -> None:
    assert entry_drift(DocumentKind.TABLE, b"a 1\nA 2\n", {"a": "2"}) == [
        Drift("a", DriftKind.CHANGED, "2", "1", 1)
    ]
    for second in ("1", "2"):  # postmap warns of both
        text = f"a 1\nb 1\nA {second}\n".encode()
        assert entry_drift(DocumentKind.TABLE, text, {"a": "1"}) == [
            Drift("a", DriftKind.DUPLICATED, "1", second, 3)
        ]


def test_what_postfix_skips_in_a_table_is_no_drift_and_stays() -> None:
    text = b"a\n\xff x\na 1\ngone x\n"
    assert entry_drift(DocumentKind.TABLE, text, {"a": "1"}) == [
        Drift("gone", DriftKind.UNWANTED, None, "x", 4)
    ]
    state = DesiredState({"a": "2"}, frozenset({"gone"}), kind=DocumentKind.TABLE)
    after = corrected(TableSource.parse(text), state).render()
    assert after == b"a\n\xff x\na\t2\n#gone x\n"
