"""[services] of desired.toml: parts of master.cf, faults with their places, layers."""

from __future__ import annotations

import pytest

from pf_agent.config.desired import by_instance, load
from pf_agent.config.saved import from_json, members_of, saved_state, to_json
from pf_agent.config.table import Source
from pf_agent.errors import ConfigError
from pf_agent.model import DesiredState, DocumentKind

FILES = ("desired.toml", "desired.d/50.toml", "desired.d/60.toml")
SUBMISSION = """\
[services."submission/inet"]
command = "smtpd"
chroot = true
options = { smtpd_tls_security_level = "encrypt", smtpd_sasl_auth_enable = true }
"""
OFF = '[services."submission/inet"]\nenabled = false\n'


def state(*texts: str) -> DesiredState:
    return load([Source(file, text.encode()) for file, text in zip(FILES, texts, strict=False)])


def services(*texts: str) -> DesiredState:
    return state(*texts).documents["master.cf"]


def refusal(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        state(text)
    return caught.value.problems


def test_a_service_its_fields_and_its_options() -> None:
    found = services(SUBMISSION)
    assert found.kind is DocumentKind.MASTER_CF
    assert found.settings == {
        "submission/inet": "enabled",
        "submission/inet/command": "smtpd",
        "submission/inet/chroot": "y",
        "submission/inet/smtpd_tls_security_level": "encrypt",
        "submission/inet/smtpd_sasl_auth_enable": "yes",
    }
    assert found.use_default == frozenset()
    lines = {name: place.line for name, place in found.provenance.items()}
    assert lines == {
        "submission/inet": 1,
        "submission/inet/command": 2,
        "submission/inet/chroot": 3,
        "submission/inet/smtpd_tls_security_level": 4,
        "submission/inet/smtpd_sasl_auth_enable": 4,
    }


def test_without_services_there_is_no_document() -> None:
    assert state('[settings]\na = "1"\n').documents == {}


def test_what_is_disabled_must_not_be_there() -> None:
    found = services(OFF)
    assert not found.settings
    assert found.use_default == {"submission/inet"}


@pytest.mark.parametrize(
    ("line", "part", "value"),
    [
        ("private = true", "private", "y"),
        ("unprivileged = false", "unprivileged", "n"),
        ('chroot = "-"', "chroot", "-"),
        ("wakeup = 60", "wakeup", "60"),
        ('wakeup = "1000?"', "wakeup", "1000?"),
        ("process_limit = 0", "process_limit", "0"),
        ('process_limit = "-"', "process_limit", "-"),
        ('arguments = " flags=R user=x "', "arguments", "flags=R user=x"),
        ('arguments = ["-v", "argv=/bin/x", "a b"]', "arguments", "-v argv=/bin/x {a b}"),
        ("arguments = []", "arguments", ""),
        ("options.a = 5", "a", "5"),
        ("options.b = false", "b", "no"),
        ('options.c = ["x", "y"]', "c", "x y"),
        ('options.d = "{ a b }"', "d", "{ a b }"),
    ],
)
def test_a_value_is_as_in_master_cf(line: str, part: str, value: str) -> None:
    found = services(f'[services."x/unix"]\n{line}\n')
    assert found.settings[f"x/unix/{part}"] == value


def test_an_option_that_must_not_be_there() -> None:
    found = services('[services."x/unix"]\nuse_default = ["a"]\n')
    assert found.use_default == {"x/unix/a"}
    assert found.settings == {"x/unix": "enabled"}
    assert found.provenance["x/unix/a"].line == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[services.smtp]\n", "1: [services] smtp: a service's name has its type behind it; write"),
        ('[services."smtp/tcp"]\n', '1: [services] "smtp/tcp": "tcp" is not a type of services;'),
        ('[services."/inet"]\n', '1: [services] "/inet": a service\'s name may not be empty'),
        ('[services."a b/unix"]\n', "contain whitespace; write one word"),
        ('[services."#a/unix"]\n', 'begin with "#"; remove them'),
        ('services."x/unix" = 5\n', '1: [services] "x/unix": expected a table, got 5; write'),
        ("services = 5\n", "1: services: expected a table, got 5; write [services]"),
        ('[services."x/unix"]\nchrot = true\n', '2: [services."x/unix"] chrot: unknown key; did'),
        ('[services."x/unix"]\nsmtpd_a = 1\n', 'an option belongs under [services."x/unix".op'),
        ('[services."x/unix"]\nenabled = 1\n', '2: [services."x/unix"] enabled: expected true'),
        ('[services."x/unix"]\nchroot = "y"\n', 'expected true or false, got "y"; write true'),
        ('[services."x/unix"]\nchroot = 5\n', 'write true, false, or "-" for the default'),
        ('[services."x/unix"]\nwakeup = true\n', "expected seconds, got true; write 60"),
        ('[services."x/unix"]\nwakeup = "soon"\n', 'expected seconds, got "soon"; write 60'),
        ('[services."x/unix"]\nprocess_limit = -1\n', "expected a number of processes, got -1"),
        ('[services."x/inet"]\nprivate = true\n', "master does not start with an inet service"),
        ('[services."x/inet"]\nprivate = "-"\n', "that is private; write false"),
        ('[services."x/unix"]\ncommand = "pipe -v"\n', "write options under options, and other"),
        (
            '[services."x/unix"]\ncommand = "/bin/x"\n',
            'looks in daemon_directory; write "x"',
        ),
        ('[services."x/unix"]\ncommand = 1\n', 'expected a string, got 1; write "smtpd"'),
        ('[services."x/unix"]\narguments = [1]\n', "arguments: expected an array of strings"),
        ('[services."x/unix"]\narguments = "-o a=b"\n', "move it to options"),
        ('[services."x/unix"]\narguments = "a {b"\n', "would take in all that follows; add it"),
        ('[services."x/unix"]\noptions.a = "{b"\n', '2: [services."x/unix".options] a: a "{"'),
        ('[services."x/unix"]\noptions.a = "b } c"\n', 'may not have a "}" without its "{"'),
        ('[services."x/unix"]\noptions.a = 1.5\n', "expected a string, an integer, true, false or"),
        ('[services."x/unix"]\noptions.chroot = true\n', "chroot is not a parameter; move it out"),
        ('[services."x/unix"]\noptions."a b" = 1\n', "a parameter's name may not contain white"),
        ('[services."x/unix"]\noptions."a{" = 1\n', "may not contain braces; remove them"),
        ('[services."x/unix"]\noptions.a = "x\\ny"\n', "a value may not contain a line break"),
        ('[services."x/unix"]\nuse_default = ["chroot"]\n', 'not a parameter; write chroot = "-"'),
        (
            '[services."x/unix"]\noptions.a = 1\nuse_default = ["a"]\n',
            "it is also in options; keep one of the two",
        ),
        (
            '[services."x/unix"]\nenabled = false\nchroot = true\n',
            "a service that is not enabled has no chroot; keep one of the two",
        ),
    ],
)
def test_a_fault_says_where_it_is_and_what_to_do(text: str, fault: str) -> None:
    (problem,) = refusal(text)
    assert fault in problem
    assert problem.startswith("desired.toml:")
    assert "; " in problem


def test_all_faults_are_named_at_once() -> None:
    text = '[services.x]\n[services."y/unix"]\nchroot = 1\nwakeup = "?"\noptions.a = "{"\n'
    assert len(refusal(text)) == 4


def test_services_below_settings_are_misplaced() -> None:
    (problem,) = refusal('[settings]\nservices."x/unix".chroot = true\n')
    assert "services is not a parameter; move it to the top of the file" in problem


# --- layers ------------------------------------------------------------------------------------


def test_the_later_file_wins_part_by_part() -> None:
    later = '[services."submission/inet"]\nchroot = false\noptions.a = 1\n'
    found = services(SUBMISSION, later)
    assert found.settings["submission/inet/chroot"] == "n"
    assert found.settings["submission/inet/a"] == "1"
    assert found.settings["submission/inet/smtpd_sasl_auth_enable"] == "yes"
    assert found.provenance["submission/inet/chroot"].file == FILES[1]
    assert found.provenance["submission/inet/command"].file == FILES[0]


def test_a_later_file_disables_a_service_with_all_its_parts() -> None:
    found = services(SUBMISSION, OFF)
    assert not found.settings
    assert found.use_default == {"submission/inet"}
    assert found.provenance.keys() == {"submission/inet"}


def test_a_later_file_enables_what_was_disabled() -> None:
    found = services(OFF, SUBMISSION)
    assert found.use_default == frozenset()
    assert found.settings["submission/inet"] == "enabled"


def test_an_option_may_be_dropped_and_set_again() -> None:
    drop = '[services."submission/inet"]\nuse_default = ["smtpd_sasl_auth_enable"]\n'
    name = "submission/inet/smtpd_sasl_auth_enable"
    assert name in services(SUBMISSION, drop).use_default
    assert name not in services(SUBMISSION, drop).settings
    again = services(SUBMISSION, drop, SUBMISSION)
    assert name in again.settings
    assert name not in again.use_default


# --- one state for each document ---------------------------------------------------------------


def test_each_instance_has_its_own() -> None:
    text = '[instances.out.services."smtp/inet"]\nenabled = false\n'
    states = by_instance(state(SUBMISSION, text))
    assert "submission/inet" in states["-"].documents["master.cf"].settings
    out = states["out"].documents["master.cf"]
    assert out.use_default == {"smtp/inet"}
    assert out.config_directory == "/etc/postfix-out"


def test_what_main_cf_must_say_does_not_change_with_it() -> None:
    plain = '[settings]\na = "1"\n'
    one, other = state(plain), state(plain, SUBMISSION)
    assert one.says_the_same(other)
    assert to_json({"-": one})["-"] == to_json({"-": other})["-"] | {
        "provenance": to_json({"-": one})["-"]["provenance"]
    }
    assert from_json(to_json({"-": other}))["-"].documents == {}


def test_it_is_saved_and_read_back_by_itself() -> None:
    found = services(SUBMISSION, '[services."uucp/unix"]\nenabled = false\n')
    again = saved_state(members_of(found))
    assert again == found
    assert again.says_the_same(found)


def test_a_lost_master_cf_begins_as_debians() -> None:
    assert services(SUBMISSION).template == "/etc/postfix/master.cf.proto"
