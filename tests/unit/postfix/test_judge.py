"""What Postfix's own programs say of a text, and what is made of one that does not work."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pf_agent.errors import HostError
from pf_agent.model import Judgement, Presence
from pf_agent.postfix.installed import Postfix
from pf_agent.postfix.judge import Remarks, Tools
from pf_agent.postfix.postconf import POSTCONF
from pf_agent.postfix.programs import MOST_BYTES

GOOD = (
    b"myhostname = host.example\nmynetworks = 127.0.0.1\ncompatibility_level = 3.6\n"
    # Where this runs there may be no aliases.
    b"alias_maps =\nalias_database =\n"
)


@pytest.mark.skipif(os.path.exists(POSTCONF), reason="Postfix is installed")
def test_without_postfix_the_way_out_is_its_package(tmp_path: Path) -> None:
    postfix = Postfix(str(tmp_path), str(tmp_path))
    with pytest.raises(HostError, match=r"/postconf: .*; install the package postfix"):
        postfix.judge(b"")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Programs in the place of Postfix's, which work, and of which a test breaks one."""
    says = {"postconf": "echo mail_version = 3.7; echo daemon_directory = /no", "postmap": "echo y"}
    for name, does in says.items():
        program(tmp_path / name, does)
    (tmp_path / "run").mkdir()
    return tmp_path


def postfix_of(bin_folder: Path, most_bytes: int = MOST_BYTES) -> Postfix:
    postconf, postmap = (str(bin_folder / name) for name in ("postconf", "postmap"))
    tools = Tools(postconf, postmap, most_bytes=most_bytes)
    return Postfix(str(bin_folder), str(bin_folder / "run"), tools)


def program(path: Path, does: str) -> None:
    path.write_text(f"#!/bin/sh\n{does}\n", "utf-8")
    path.chmod(0o755)


@pytest.mark.parametrize("name", ["postconf", "postmap"])
@pytest.mark.parametrize(
    ("does", "how"),
    [
        ("kill -SEGV $$", "ended by SIGSEGV"),
        ("exit 3", "exit code 3"),
        ("echo libpostfix.so: cannot open >&2; exit 127", "exit code 127, libpostfix.so: cannot"),
    ],
)
def test_a_broken_program_says_nothing_of_the_text(
    bin_folder: Path, name: str, does: str, how: str
) -> None:
    asked = postfix_of(bin_folder)
    text = b"daemon_directory = /no\nalias_maps =\nalias_database =\n"
    assert not asked.judge(text).fatal
    program(bin_folder / name, does)
    told = f"/{name}: it fails whatever it reads: {how}.*; reinstall postfix"
    with pytest.raises(HostError, match=told):
        asked.judge(text)
    assert list((bin_folder / "run").iterdir()) == []


def test_a_postconf_that_says_nothing_is_no_judge(bin_folder: Path) -> None:
    program(bin_folder / "postconf", "exit 0")
    with pytest.raises(HostError, match="it printed no parameters"):
        postfix_of(bin_folder).judge(b"daemon_directory = /no\n")


def test_a_text_that_crashes_a_program_that_works_is_refused(bin_folder: Path) -> None:
    crash = 'grep -q "^a = [$]a" $2/main.cf 2>/dev/null && kill -SEGV $$'
    program(bin_folder / "postconf", f"{crash}; echo mail_version = 3.7; echo daemon_directory=/no")
    asked = postfix_of(bin_folder)
    assert "ended by SIGSEGV; does a value" in asked.judge(b"a = $a\n").fatal


def test_output_without_end_does_not_take_the_memory(bin_folder: Path) -> None:
    program(bin_folder / "postconf", "exec cat /dev/zero")
    with pytest.raises(HostError, match=r"whatever it reads: printed more than 1048576 bytes"):
        postfix_of(bin_folder, most_bytes=1 << 20).judge(b"daemon_directory = /no\n")


@pytest.mark.postfix
class TestJudge:
    def test_a_good_text_passes_and_leaves_nothing_behind(
        self, postfix: Postfix, folder: Path
    ) -> None:
        assert postfix.judge(GOOD) == Judgement()
        assert list((folder / "run").iterdir()) == []

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            (b"oops\n", "main.cf, line 6: missing '=' after attribute name: \"oops\""),
            (b"relayhost = ${\n", 'truncated macro reference: "${"'),
            (b"message_size_limit = ten\n", "bad numerical configuration: message_size_limit"),
            (b"soft_bounce = maybe\n", "bad boolean configuration: soft_bounce = maybe"),
            (b"inet_protocols = ipv5\n", "inet_protocols"),
            (b"setgid_group =\n", "setgid_group"),
            (b"maillog_file = /tmp/x\n", "does not match any prefix in maillog_file_prefixes"),
            # What only smtpd reads.
            (b"smtpd_timeout = bogus\n", "parameter smtpd_timeout: bad time value or unit: bogus"),
            (b"queue_directory = /no/where\n", 'chdir("/no/where"): No such file or directory'),
            (b"smtpd_tls_security_level = wow\n", 'Invalid TLS level "wow"'),
        ],
    )
    def test_a_text_that_postfix_would_not_start_with(
        self, postfix: Postfix, folder: Path, line: bytes, said: str
    ) -> None:
        fatal = postfix.judge(GOOD + line).fatal
        assert said in fatal
        # For people: neither the private folder, nor the program's name, nor a second line.
        assert str(folder / "run") not in fatal
        assert "fatal:" not in fatal
        assert "\n" not in fatal
        assert list((folder / "run").iterdir()) == []

    def test_a_parameter_that_postfix_does_not_know_is_a_warning(self, postfix: Postfix) -> None:
        judgement = postfix.judge(GOOD + b"foo = $nosuch\nmynetwork = 10.0.0.0/8\n")
        assert judgement.fatal == ""
        unknown = "unknown Postfix parameter, it has no effect"
        assert judgement.warnings == (
            f"foo: {unknown}",
            f"mynetwork: {unknown}; did you mean mynetworks?",
            "main.cf: undefined parameter: nosuch",
        )

    def test_a_name_is_one_that_postfix_has_a_use_for(self, postfix: Postfix, folder: Path) -> None:
        used = ("nets", "relay_destination_concurrency_limit", "ldap_users_server_host")
        text = GOOD + b"nets = 10.0.0.0/8\nmynetworks = $nets\ntransport_maps = ldap:ldap_users\n"
        remarks = postfix.remarks(
            text + b"mynetwork = x", (*used, "mynetwork", "relayhots", "biff")
        )
        assert remarks.unknown == {"mynetwork": "mynetworks", "relayhots": "relayhost"}
        assert postfix.remarks(b"oops\n", ["mynetwork"]) == Remarks()
        assert list((folder / "run").iterdir()) == []

    def test_names_that_come_from_master_cf_are_known(self, postfix: Postfix, folder: Path) -> None:
        text = GOOD + b"relay_destination_concurrency_limit = 3\n"
        assert postfix.judge(text).warnings == ()
        (folder / "master.cf").unlink()
        assert any("relay_destination_conc" in line for line in postfix.judge(text).warnings)

    def test_a_value_that_only_a_daemon_reads_is_a_fault(self, postfix: Postfix) -> None:
        judgement = postfix.judge(GOOD + b"queue_run_delay = $delay\ndelay = 10 m\n")
        assert judgement.fatal == ""
        (fault,) = judgement.faults
        assert fault.parameter == "queue_run_delay"
        assert "bad time value or unit: 10 m" in fault.reason

    def test_a_table_that_is_not_there_is_told_by_its_real_name(
        self, postfix: Postfix, folder: Path
    ) -> None:
        (warning,) = postfix.judge(GOOD + b"relay_domains = hash:$config_directory/no\n").warnings
        assert warning == f"open database {folder}/no.db: No such file or directory"

    @pytest.mark.parametrize(
        "text",
        [
            b"".join(b"p%d = 1\n" % number for number in range(100_000)),
            b"biff = no\nbiff = yes\n" * 50_000,
            b"mydestination = " + b"x" * 10_000_000 + b"\n",
            b"x_maps = proxy:" + b"x" * 1_000_000 + b"\n",
            b"x" * 10_000_000 + b" = 1\n",
            b"my_key = " + b"a." * 5_000_000 + b"\n",
        ],
        ids=["names", "twice", "value", "argument", "name", "secret"],
    )
    def test_a_text_made_to_be_slow_is_judged_all_the_same(self, folder: Path, text: bytes) -> None:
        # On a busy host Postfix's programs themselves take longer than they are given.
        postfix = Postfix(str(folder), str(folder / "run"), Tools(seconds=120.0))
        found = postfix.judge(GOOD + text)
        assert found.fatal == ""
        told = [*found.warnings, *(fault.reason for fault in found.faults)]
        assert len(told) <= 101
        assert max(map(len, told), default=0) < 1100

    def test_a_value_that_has_no_end_is_refused(self, folder: Path) -> None:
        """Each doubles the one before; Postfix would take a minute and a gigabyte."""
        postfix = Postfix(str(folder), str(folder / "run"), Tools(seconds=0.5))
        bomb = b"".join(b"a%d = $a%d$a%d\n" % (n, n - 1, n - 1) for n in range(1, 30))
        found = postfix.judge(GOOD + b"a0 = x\n" + bomb + b"mydestination = $a29\n")
        assert re.fullmatch(
            r"did not finish within 0 s; (postconf|postmap) was killed", found.fatal
        )

    def test_what_is_said_without_end_is_not_heard_to_it(self, folder: Path) -> None:
        postfix = Postfix(str(folder), str(folder / "run"), Tools(most_bytes=100_000))
        found = postfix.judge(GOOD + b"mydestination = " + b"x" * 200_000 + b"\n")
        assert found.fatal == "printed more than 100000 bytes; postconf was killed"

    @pytest.mark.parametrize("what", ["fifo", "huge", "secret"])
    def test_a_master_cf_that_no_postfix_could_use_holds_nobody_up_and_is_not_quoted(
        self, postfix: Postfix, folder: Path, what: str
    ) -> None:
        master_cf = folder / "master.cf"
        master_cf.unlink()
        if what == "fifo":
            os.mkfifo(master_cf)
        elif what == "huge":
            with open(master_cf, "wb") as file:
                file.truncate(1 << 40)
        else:
            (folder / "shadow").write_bytes(b"root:$y$secret:1:0:99999:7:::\n")
            (folder / "shadow").chmod(0o600)
            master_cf.symlink_to("shadow")
        warning = "open master.cf: No such file or directory"
        assert postfix.judge(GOOD) == Judgement(warnings=(warning,))

    def test_options_in_master_cf_stand_over_main_cf(self, postfix: Postfix, folder: Path) -> None:
        text = GOOD + b"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions =\n"
        assert "specify at least one working instance" in postfix.judge(text).fatal
        (folder / "master.cf").write_bytes(
            b"smtp inet n - y - - smtpd\n  -o smtpd_relay_restrictions=reject\n"
        )
        assert postfix.judge(text).fatal == ""

    @pytest.mark.parametrize(
        ("master_cf", "line"),
        [
            (b"submission unix n - y - - smtpd\n", b""),
            (b"smtp inet n - y - - smtpd\n", b"master_service_disable = inet\n"),
        ],
    )
    def test_without_an_smtp_server_nobody_asks_it(
        self, postfix: Postfix, folder: Path, master_cf: bytes, line: bytes
    ) -> None:
        (folder / "master.cf").write_bytes(master_cf)
        text = GOOD + b"smtpd_relay_restrictions =\nsmtpd_recipient_restrictions =\n" + line
        assert postfix.judge(text).fatal == ""

    def test_a_text_does_not_say_which_program_is_run(self, postfix: Postfix, folder: Path) -> None:
        smtpd, mark = folder / "smtpd", folder / "mark"
        smtpd.write_text(f"#!/bin/sh\ntouch {mark}\n")
        smtpd.chmod(0o755)
        assert postfix.judge(GOOD + f"daemon_directory = {folder}\n".encode()) == Judgement()
        assert not mark.exists()


def test_postconf_is_asked_again_only_for_what_may_have_another_answer(bin_folder: Path) -> None:
    """Whether a file is there is looked at each time: that is what the question is about."""
    asked = bin_folder / "asked"
    table = bin_folder / "table"
    says = f"echo x >> {asked}; echo mail_version = 3.7.0; echo a = texthash:{table}"
    says = f'[ "$3" = -m ] && echo texthash || {{ {says}; }}'
    program(bin_folder / "postconf", says)
    postfix = postfix_of(bin_folder)
    text = f"transport_maps = texthash:{table}\n".encode()

    def times(text: bytes) -> int:
        asked.write_text("")
        postfix.references(text)
        return asked.read_text().count("x")

    def is_there() -> bool:
        (found,) = postfix.references(text)
        return found.presence is Presence.EXISTS

    assert [times(text), times(text)] == [1, 0]
    before = is_there()
    table.write_text("")
    assert (before, is_there()) == (False, True)
    assert times(text + b"# a\n") == 1
    assert times(text) == 1
    (bin_folder / "master.cf").write_text("smtp inet n - y - - smtpd\n")
    assert [times(text), times(text)] == [1, 0]
    program(bin_folder / "postconf-2", says)
    (bin_folder / "postconf-2").replace(bin_folder / "postconf")
    assert [times(text), times(text)] == [1, 0]
