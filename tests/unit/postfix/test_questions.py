"""What smtpd is asked, and what the answers about a candidate come to."""

from __future__ import annotations

from itertools import pairwise

from pf_agent.maincf.document import MainCf
from pf_agent.maincf.master_cf import MasterCf
from pf_agent.model import Fault
from pf_agent.postfix.questions import (
    faults,
    served_nobody,
    settings,
    smtpd_arguments,
    told_by_smtpd,
)

LINE = b"smtp inet n - y - - smtpd -o smtpd_banner=x -o a=proxy:hash:/x\n"
(SERVICE,) = MasterCf.parse(LINE).services


def everything(path: str) -> bool:
    return True


def nothing(path: str) -> bool:
    return False


def options(arguments: list[str]) -> list[str]:
    return [setting for flag, setting in pairwise(arguments) if flag == "-o"]


def test_smtpd_has_its_services_options_and_asks_nobody() -> None:
    arguments = smtpd_arguments(SERVICE, {"virtual_alias_maps": "proxy:mysql:/a proxy:b:/c"}, "/d")
    found = options(arguments)
    assert "smtpd_banner=x" in found
    assert "virtual_alias_maps=mysql:/a b:/c" in found
    assert "local_recipient_maps=unix:passwd.byname $alias_maps" in found
    assert "config_directory=/d" in found
    assert not any("proxy:" in setting for setting in found)


def test_ours_come_last_so_that_they_hold() -> None:
    loud = SERVICE._replace(arguments=("-o", "maillog_file=/var/log/x"))
    logs = [s for s in options(smtpd_arguments(loud, {}, "/d")) if s.startswith("maillog_file=")]
    assert logs == ["maillog_file=/var/log/x", "maillog_file=/dev/stdout"]


def test_local_recipients_that_are_set_stay_as_they_are() -> None:
    found = options(smtpd_arguments(SERVICE, {"local_recipient_maps": ""}, "/d"))
    assert not any(setting.startswith("local_recipient_maps") for setting in found)


def test_the_last_argument_keeps_smtpd_from_serving() -> None:
    *_, flag, word = smtpd_arguments(SERVICE, {}, "/d")
    assert flag == "-S"
    assert served_nobody(f"unexpected command-line argument: {word}")
    assert not served_nobody("unexpected command-line argument: other")


def test_what_smtpd_says_of_our_asking_is_not_told() -> None:
    *_, word = smtpd_arguments(SERVICE, {}, "/d")
    lines = [
        "No server certs available. TLS won't be enabled",
        "open database /etc/aliases.db: No such file or directory",
        "open database /nope.db: No such file or directory",
        "open database /a.db: No such file or directory",
        f"unexpected command-line argument: {word}",
    ]
    known = [Fault("alias_maps", "open database /nope.db: No such file or directory")]
    values = {"alias_database": "hash:/etc/aliases"}
    assert list(told_by_smtpd(lines, values, known, nothing)) == [lines[3]]


def test_what_postconf_prints() -> None:
    assert settings("a = b = c\nb =\n\nempty\n") == {"a": "b = c", "b": ""}


def test_values_are_judged_as_they_expand_and_raw_where_they_do_not() -> None:
    main_cf = MainCf.parse(b"smtpd_timeout = $t\nt = bogus\nqueue_run_delay = 10 m\n")
    found = faults(main_cf, {"smtpd_timeout": "bogus", "queue_run_delay": "10m"}, everything)
    assert [fault.parameter for fault in found] == ["smtpd_timeout", "queue_run_delay"]
    assert "bogus" in found[0].reason


def test_the_last_of_several_settings_is_judged() -> None:
    main_cf = MainCf.parse(b"smtpd_timeout = bogus\nsmtpd_timeout = 5s\n")
    assert faults(main_cf, {"smtpd_timeout": "5s"}, everything) == ()


def test_a_limit_below_another_that_is_a_default() -> None:
    main_cf = MainCf.parse(b"mailbox_size_limit = 5\n")
    effective = {"mailbox_size_limit": "5", "message_size_limit": "10240000"}
    (found,) = faults(main_cf, effective, everything)
    assert found.parameter == "mailbox_size_limit"


def test_a_folder_that_postfix_enters_as_it_starts() -> None:
    (found,) = faults(MainCf.parse(b""), {"daemon_directory": "/nope"}, nothing)
    assert found == Fault("daemon_directory", "chdir(/nope): No such file or directory")
