"""What Postfix's own programs are asked, and how a program is run.

The tests of the second half need these programs (not a running Postfix). That newaliases is run,
and on which file, is seen on a booted machine.
"""

from __future__ import annotations

import errno
import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pf_agent.errors import HostError
from pf_agent.model import Greeting, Judgement, MailLog
from pf_agent.postfix import programs as postfix_module
from pf_agent.postfix.programs import POSTCONF, Order, Postfix, run

HAS_POSTFIX = os.path.exists(POSTCONF)
NOW = 1_764_000_000

# Debian's, as far as the questions here need it.
MASTER_CF = b"""\
# service type  private unpriv  chroot  wakeup  maxproc command + args
smtp      inet  n       -       y       -       -       smtpd
#submission inet n      -       y       -       -       smtpd
pickup    unix  n       -       y       60      1       pickup
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp
        -o syslog_name=postfix/$service_name
"""


# --- what a crash left ----------------------------------------------------------------------------


def test_the_candidates_of_the_dead_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    init = 1  # our parent may be beyond this machine's pids: then it is 0
    for pid in (ended.pid, os.getpid(), init):
        (tmp_path / f"judge-{pid}-x_y").mkdir()
        (tmp_path / f"judge-{pid}-x_y" / "main.cf").touch()
    (tmp_path / "status.json").touch()
    Postfix("/etc/postfix", str(tmp_path)).tidy()
    assert {path.name for path in tmp_path.iterdir()} == {
        "status.json",
        f"judge-{init}-x_y",
    }


def test_what_has_the_name_of_a_candidate_and_is_none_goes_too(tmp_path: Path) -> None:
    run, outside = tmp_path / "run", tmp_path / "outside"
    for folder in (run, outside):
        folder.mkdir()
    (outside / "kept").touch()
    (run / f"judge-{os.getpid()}-link").symlink_to(outside)
    (run / f"judge-{os.getpid()}-file").touch()
    os.mkfifo(run / f"judge-{os.getpid()}-fifo")
    Postfix("/etc/postfix", str(run)).tidy()
    assert list(run.iterdir()) == []
    assert (outside / "kept").exists()


# --- how a program is run ----------------------------------------------------------------------

# Everything that a program might inherit, as JSON.
INHERITED = """
import json, os, sys
print(json.dumps({
    "environment": dict(os.environ),
    "handles": [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")],
    "stdin": os.read(0, 1).decode(),
    "folder": os.getcwd(),
    "session": os.getsid(0) == os.getpid(),
    "arguments": sys.argv[1:],
}))
"""


def test_a_program_inherits_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("MAIL_CONFIG", "/nowhere")
    monkeypatch.chdir(tmp_path)
    words = ["$(id)", "a b", ";true"]
    open_too = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(open_too, True)
    try:
        (answer,) = run([Order([sys.executable, "-I", "-c", INHERITED, *words], {"HERE": "1"})])
    finally:
        os.close(open_too)
    found = json.loads(answer.output)
    # Python's own start-up may add this one in the locale C.
    found["environment"].pop("LC_CTYPE", None)
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    assert found["environment"] == {"PATH": path, "LC_ALL": "C", "HERE": "1"}
    assert found["handles"] == ["0", "1", "2"]
    assert found["stdin"] == ""
    assert found["folder"] == "/"
    assert found["session"]
    assert found["arguments"] == words


@pytest.mark.parametrize(
    "script",
    ["sleep 600", "exec >&- 2>&-; sleep 600", "trap '' TERM HUP; sleep 600", "sleep 600 & exit"],
)
def test_what_does_not_end_in_time_is_killed_with_what_it_started(
    tmp_path: Path, script: str
) -> None:
    started = tmp_path / "started"
    command = ["/bin/sh", "-c", f"sleep 600 & echo $! > {started}; {script}"]
    (answer,) = run([Order(command, seconds=1.0)])
    assert answer.failed
    assert answer.mute == "no end after 1 s"
    assert answer.complaint == "sh: fatal: no end after 1 s, sh was killed\n"
    pid = started.read_text().strip()
    deadline = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


def is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_is_optional_may_say_nothing() -> None:
    script = "echo 'smtpd: warning: connect #1' >&2; exec sleep 600"
    (answer,) = run([Order(["/bin/sh", "-c", script], seconds=0.2, is_optional=True)])
    assert (answer.failed, answer.output, answer.complaint) == (False, "", "")


def test_a_crash_is_told_by_the_name_of_its_signal() -> None:
    (answer,) = run([Order(["/bin/sh", "-c", "kill -SEGV $$"])])
    assert answer.failed
    assert "sh was ended by SIGSEGV" in answer.complaint


def test_a_candidate_is_removed_though_a_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove, failures = os.rmdir, [errno.EIO]

    def failing_once(*arguments: Any, **more: Any) -> None:
        if failures:
            raise OSError(failures.pop(), "Input/output error")
        remove(*arguments, **more)

    monkeypatch.setattr(os, "rmdir", failing_once)
    with Postfix(str(tmp_path), str(tmp_path))._candidate(b""):
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("free", [0, 1, 2, 3, 4, 5])
def test_a_program_that_cannot_be_started_costs_no_descriptor(free: int) -> None:
    """Each look tries again: what a try kept open would be missing for the next."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    handles = len(os.listdir("/proc/self/fd")) - 1  # but for the folder's own
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    filled = [os.open(os.devnull, os.O_RDONLY) for _ in range(highest - handles + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(filled) + 1 + free, limits[1]))
    try:
        with pytest.raises((HostError, OSError), match="Too many open files"):
            run([Order(["/bin/true"])])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for handle in filled:
            os.close(handle)
    assert len(os.listdir("/proc/self/fd")) - 1 == handles


# --- Postfix's programs ------------------------------------------------------------------------


@pytest.mark.skipif(HAS_POSTFIX, reason="Postfix is installed")
def test_without_postfix_the_way_out_is_its_package(tmp_path: Path) -> None:
    postfix = Postfix(str(tmp_path), str(tmp_path))
    with pytest.raises(HostError, match=r"/postconf: .*; install the package postfix"):
        postfix.judge(b"")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def bin_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs in the place of Postfix's, which work, and of which a test breaks one."""
    says = {"postconf": "echo mail_version = 3.7; echo daemon_directory = /no", "postmap": "echo y"}
    for name, does in says.items():
        program(tmp_path / name, does)
        monkeypatch.setattr(postfix_module, name.upper(), str(tmp_path / name))
    (tmp_path / "run").mkdir()
    return tmp_path


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
    asked = Postfix(str(bin_folder), str(bin_folder / "run"))
    text = b"daemon_directory = /no\nalias_maps =\nalias_database =\n"
    assert not asked.judge(text).fatal
    program(bin_folder / name, does)
    told = f"/{name}: it does not work, whatever main.cf says: {how}.*; install postfix again"
    with pytest.raises(HostError, match=told):
        asked.judge(text)
    assert list((bin_folder / "run").iterdir()) == []


def test_a_postconf_that_says_nothing_is_no_judge(bin_folder: Path) -> None:
    program(bin_folder / "postconf", "exit 0")
    with pytest.raises(HostError, match="it printed no parameters"):
        Postfix(str(bin_folder), str(bin_folder / "run")).judge(b"daemon_directory = /no\n")


def test_a_text_that_crashes_a_program_that_works_is_refused(bin_folder: Path) -> None:
    crash = 'grep -q "^a = [$]a" $2/main.cf 2>/dev/null && kill -SEGV $$'
    program(bin_folder / "postconf", f"{crash}; echo mail_version = 3.7; echo daemon_directory=/no")
    asked = Postfix(str(bin_folder), str(bin_folder / "run"))
    assert "ended by SIGSEGV; does a value" in asked.judge(b"a = $a\n").fatal


def test_output_without_end_does_not_take_the_memory(
    bin_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postfix_module, "_MOST_BYTES", 1 << 20)
    program(bin_folder / "postconf", "exec cat /dev/zero")
    with pytest.raises(
        HostError, match=r"whatever main.cf says: more than 1048576 bytes of output"
    ):
        Postfix(str(bin_folder), str(bin_folder / "run")).judge(b"daemon_directory = /no\n")


needs_postfix = pytest.mark.skipif(not HAS_POSTFIX, reason=f"no {POSTCONF}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A configuration directory; Postfix's programs want nothing else in it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "master.cf").write_bytes(MASTER_CF)
    return tmp_path


@pytest.fixture
def postfix(folder: Path) -> Postfix:
    return Postfix(str(folder), str(folder / "run"))


def main_cf(folder: Path, text: str) -> None:
    path = folder / "main.cf"
    # A network interface may be missing where this runs; then mynetworks must not ask for it.
    path.write_text(f"myhostname = host.example\nmynetworks = 127.0.0.1\n{text}", "utf-8")
    os.utime(path, (NOW, NOW))


GOOD = (
    b"myhostname = host.example\nmynetworks = 127.0.0.1\ncompatibility_level = 3.6\n"
    # Where this runs there may be no aliases.
    b"alias_maps =\nalias_database =\n"
)


@pytest.mark.postfix
@needs_postfix
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
        unknown = "Postfix knows no such parameter, it has no effect"
        assert judgement.warnings == (
            f"foo: {unknown}",
            f"mynetwork: {unknown}; did you mean mynetworks?",
            "main.cf: undefined parameter: nosuch",
        )

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
    def test_a_text_made_to_be_slow_is_judged_all_the_same(
        self, postfix: Postfix, text: bytes
    ) -> None:
        found = postfix.judge(GOOD + text)
        assert found.fatal == ""
        told = [*found.warnings, *(fault.reason for fault in found.faults)]
        assert len(told) <= 101
        assert max(map(len, told), default=0) < 1100

    def test_a_value_that_has_no_end_is_refused(
        self, postfix: Postfix, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each doubles the one before; Postfix would take a minute and a gigabyte."""
        monkeypatch.setattr(postfix_module, "_JUDGE_SECONDS", 0.5)
        bomb = b"".join(b"a%d = $a%d$a%d\n" % (n, n - 1, n - 1) for n in range(1, 30))
        found = postfix.judge(GOOD + b"a0 = x\n" + bomb + b"mydestination = $a29\n")
        assert re.fullmatch(r"no end after 0 s, (postconf|postmap) was killed", found.fatal)

    def test_what_is_said_without_end_is_not_heard_to_it(
        self, postfix: Postfix, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(postfix_module, "_MOST_BYTES", 100_000)
        found = postfix.judge(GOOD + b"mydestination = " + b"x" * 200_000 + b"\n")
        assert found.fatal == "more than 100000 bytes of output, postconf was killed"

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


@pytest.mark.postfix
@needs_postfix
class TestGreeting:
    @pytest.mark.parametrize(
        ("settings", "address"),
        [
            ("", "127.0.0.1"),
            ("inet_interfaces = all\ninet_protocols = ipv6\n", "::1"),
            ("inet_interfaces = loopback-only\ninet_protocols = ipv4\n", "127.0.0.1"),
            ("inet_interfaces = 127.0.0.9, 127.0.0.1\n", "127.0.0.1"),
            ("inet_interfaces = 127.0.0.9, 127.0.0.8\n", "127.0.0.9"),
            ("inet_interfaces = [::1]\n", "::1"),
            ("inet_interfaces = $a\na = 127.0.0.7\n", "127.0.0.7"),
        ],
    )
    def test_where_port_25_is_asked(
        self, postfix: Postfix, folder: Path, settings: str, address: str
    ) -> None:
        main_cf(folder, settings)
        greeting = postfix.greeting()
        assert greeting is not None
        assert (greeting.address, greeting.port) == (address, 25)

    def test_the_banner_is_expanded_and_its_blanks_squeezed(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "smtpd_banner = $myhostname\tESMTP   a = b\n  next\n")
        found = postfix.greeting()
        assert found is not None
        assert replace(found, stranger="") == Greeting(
            "127.0.0.1", 25, "host.example ESMTP a = b next"
        )

    @pytest.mark.parametrize(
        ("service", "settings", "told"),
        [
            ("smtpd", "", ()),
            ("smtpd", "smtpd_upstream_proxy_protocol = haproxy\n", ("proxy",)),
            ("smtpd -o smtpd_upstream_proxy_protocol=$p", "p = haproxy\n", ("proxy",)),
            ("smtpd", "postscreen_upstream_proxy_protocol = haproxy\n", ()),
            (
                "smtpd -o smtpd_upstream_proxy_protocol=",
                "smtpd_upstream_proxy_protocol = haproxy\n",
                (),
            ),
            ("postscreen", "postscreen_upstream_proxy_protocol = haproxy\n", ("proxy",)),
            ("postscreen", "smtpd_upstream_proxy_protocol = haproxy\n", ()),
            ("smtpd", "smtpd_tls_security_level = encrypt\n", ("tls",)),
            ("smtpd", "smtpd_enforce_tls = yes\n", ("tls",)),
            ("smtpd -o { smtpd_tls_security_level = encrypt }", "", ("tls",)),
            (
                "smtpd -o smtpd_tls_security_level=may",
                "smtpd_tls_security_level = encrypt\n",
                (),
            ),
            (
                "postscreen\nsmtpd pass - - y - - smtpd -o smtpd_tls_security_level=encrypt",
                "",
                ("tls",),
            ),
            (
                "postscreen\ninner pass - - y - - smtpd -o smtpd_enforce_tls=yes",
                "smtpd_service_name = inner\n",
                ("tls",),
            ),
            ("smtpd -o smtpd_tls_wrappermode=yes", "", ("wrapped",)),
        ],
    )
    def test_what_comes_before_the_mail(
        self, postfix: Postfix, folder: Path, service: str, settings: str, told: tuple[str, ...]
    ) -> None:
        main_cf(folder, settings)
        (folder / "master.cf").write_text(f"smtp inet n - y - - {service}\n")
        found = postfix.greeting()
        assert found is not None
        flags = {"proxy": found.proxy, "tls": found.tls, "wrapped": found.wrapped}
        assert {name for name, is_so in flags.items() if is_so} == set(told)

    def test_the_service_s_own_banner_is_the_one(self, postfix: Postfix, folder: Path) -> None:
        main_cf(folder, "smtpd_banner = outer\n")
        (folder / "master.cf").write_text(
            "smtp inet n - y - 1 postscreen\n"
            "smtpd pass - - y - - smtpd -o smtpd_banner=$myhostname\n"
        )
        found = postfix.greeting()
        assert found is not None
        assert found.banner == "host.example"

    def test_where_it_logs(self, postfix: Postfix, folder: Path) -> None:
        main_cf(folder, "")
        assert postfix.mail_log() == MailLog()
        main_cf(
            folder,
            "maillog_file = $d/mail.log\nd = /var/log/x\nmulti_instance_name = postfix-out\n",
        )
        assert postfix.mail_log() == MailLog("/var/log/x/mail.log", "postfix-out")
        main_cf(folder, "oops\n")
        assert postfix.mail_log() == MailLog()

    def test_no_master_lives_in_a_queue_of_ours(
        self, postfix: Postfix, folder: Path, tmp_path: Path
    ) -> None:
        main_cf(folder, f"queue_directory = {tmp_path}/queue\n")
        assert not postfix.lives()

    @pytest.mark.parametrize(
        ("service", "serves"),
        [
            (b"smtp inet n - y - - smtpd\n", True),
            (b"25 inet n - y - - smtpd\n", True),
            (b"smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd\n", True),
            (b"127.0.0.1:smtp inet n - y - - smtpd\n", True),
            (b"[::1]:25 inet n - y - - smtpd\n", True),
            (b"submission inet n - y - - smtpd\n", False),
            (b"#smtp inet n - y - - smtpd\n", False),
            (b"2525 inet n - y - - smtpd\n", False),
        ],
    )
    def test_only_a_service_on_port_25_greets(
        self, postfix: Postfix, folder: Path, service: bytes, serves: bool
    ) -> None:
        main_cf(folder, "")
        (folder / "master.cf").write_bytes(service + b"smtp unix - - y - - smtp\n")
        assert (postfix.greeting() is not None) == serves

    def test_a_service_bound_to_an_address_greets_there(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "inet_interfaces = 127.0.0.9\n")
        (folder / "master.cf").write_bytes(b"127.0.0.4:smtp inet n - y - - smtpd\n")
        greeting = postfix.greeting()
        assert greeting is not None
        assert greeting.address == "127.0.0.4"

    @pytest.mark.parametrize("disable", ["inet", "$off", "smtp/inet"])
    def test_a_service_that_is_switched_off_does_not(
        self, postfix: Postfix, folder: Path, disable: str
    ) -> None:
        main_cf(folder, f"off = unix inet\nmaster_service_disable = {disable}\n")
        assert postfix.greeting() is None

    def test_a_file_that_postfix_cannot_read_is_an_error_in_its_words(
        self, postfix: Postfix, folder: Path
    ) -> None:
        main_cf(folder, "oops\n")
        with pytest.raises(HostError, match=r"^postconf: .*missing '='[^\n]*$"):
            postfix.greeting()
