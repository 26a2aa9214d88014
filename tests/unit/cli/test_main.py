"""The command as its users meet it: exit codes, what it prints, what it leaves behind.

`diff` and `apply` on a file of the user's own run in this process. The verbs that look at the
host's own files run in a mount namespace with /etc and /run of the test's.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pf_agent import __version__
from pf_agent.cli import main
from pf_agent.files.configuration import only_observing
from pf_agent.model import LastDrift, Phase, Status
from pf_agent.postfix.postconf import POSTCONF
from pf_agent.words.status import status_dict, status_from_dict
from tests.package import AGENT
from tests.unit.cli.forks import Forks

VERBS = (
    *("run", "status", "diff", "apply", "check", "suspend", "resume", "history", "explain"),
    *("restore", "set", "unset", "adopt", "init"),
)
NOBODY = 65534
DESIRED = 'use_default = ["d"]\n[settings]\na = "1"\nb = "x y"\n'
RIGHT = "a = 1\n#d = 4\nb = x y\nforeign = 1\n"
WRONG = "a = 2\nd = 4\nb = x y\nforeign = 1\n"
DIFF = "@@ -1,4 +1,4 @@\n-a = 2\n-d = 4\n+a = 1\n+#d = 4\n b = x y\n foreign = 1\n"


class Answer(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.endswith("}\n")
        return json.loads(self.out)


Command = Callable[..., Answer]


@pytest.fixture
def pf_agent(capsys: pytest.CaptureFixture[str]) -> Command:
    """The command, called in this process."""

    def run(*arguments: str) -> Answer:
        try:
            code = main.main(arguments)
        except SystemExit as end:  # argparse's way
            code = int(end.code or 0)
        return Answer(code, *capsys.readouterr())

    return run


class Desk:
    """A main.cf and a desired state in a folder of a user's own."""

    def __init__(self, folder: Path, pf_agent: Command) -> None:
        self.main_cf = folder / "main.cf"
        self.desired = folder / "desired.toml"
        self.desired.write_text(DESIRED, encoding="utf-8")
        self.main_cf.write_text(WRONG, encoding="utf-8")
        self.main_cf.chmod(0o640)
        self._pf_agent = pf_agent

    def run(self, verb: str, *options: str) -> Answer:
        files = ["--main-cf", str(self.main_cf), "--desired", str(self.desired)]
        return self._pf_agent(verb, *files, *options)


@pytest.fixture
def desk(tmp_path: Path, pf_agent: Command) -> Iterator[Desk]:
    """The desk of a user without rights."""
    root = os.geteuid() == 0
    # What Python loads when it is first needed, it may not be able to read as that user.
    Desk(tmp_path, pf_agent).run("apply")
    import_module("pf_agent.cli.verbs_wish")
    # Not pytest's folder: nobody but its owner may pass through that.
    with tempfile.TemporaryDirectory(prefix="pf-agent-test-") as name:
        if root:
            os.chown(name, NOBODY, NOBODY)
            groups = os.getgroups()
            os.setgroups([])
            os.setegid(NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Desk(Path(name), pf_agent)
        finally:
            if root:
                os.seteuid(0)
                os.setegid(0)
                os.setgroups(groups)


def one_line(answer: Answer) -> str:
    """The whole complaint: a single line, no traceback, and nothing on stdout."""
    assert answer.out == ""
    (line,) = answer.err.splitlines()
    assert line.startswith("pf-agent: ")
    return line


# --- diff --------------------------------------------------------------------------------------


def test_diff_shows_what_would_change_and_why(desk: Desk) -> None:
    answer = desk.run("diff")
    assert answer.code == 3
    path = desk.main_cf
    assert answer.out == f"--- {path}\n+++ {path} (desired)\n{DIFF}"
    assert answer.err.splitlines() == [
        'a is "2", must be "1" (line 1)',
        'd is "4", must be left at Postfix\'s default (line 2)',
    ]
    assert desk.main_cf.read_text() == WRONG


def test_diff_of_a_file_that_is_right_prints_nothing(desk: Desk) -> None:
    desk.main_cf.write_text(RIGHT, encoding="utf-8")
    assert desk.run("diff") == (0, "", "")


def test_diff_as_json(desk: Desk) -> None:
    answer = desk.run("diff", "--json")
    assert answer.code == 3
    path = desk.main_cf
    assert answer.json == {
        "in_sync": False,
        "drift": [
            {
                **{"document": "main.cf", "parameter": "a", "kind": "changed"},
                **{"expected": "1", "actual": "2", "line": 1},
                "place": f"{desk.desired}:3",
            },
            {
                **{"document": "main.cf", "parameter": "d", "kind": "unwanted"},
                **{"expected": None, "actual": "4", "line": 2},
                "place": f"{desk.desired}:1",
            },
        ],
        "diff": f"--- {path}\n+++ {path} (desired)\n{DIFF}",
        "documents": {},
        "instances": {},
    }
    assert answer.err == ""
    desk.main_cf.write_text(RIGHT, encoding="utf-8")
    answer = desk.run("diff", "--json")
    assert answer.code == 0
    in_sync = {"in_sync": True, "drift": [], "diff": ""}
    assert answer.json == {**in_sync, "documents": {}, "instances": {}}


def test_owner_and_mode_of_a_users_own_file_are_his_own_matter(desk: Desk) -> None:
    desk.main_cf.write_text(RIGHT, encoding="utf-8")
    desk.main_cf.chmod(0o600)
    assert desk.run("diff").code == 0


def test_diff_of_a_file_that_is_not_there_begins_with_the_template(desk: Desk) -> None:
    template = desk.main_cf.with_name("proto")
    template.write_text("c = 3\n", encoding="utf-8")
    desk.desired.write_text(f'template = "{template}"\n[settings]\na = "1"\n', encoding="utf-8")
    desk.main_cf.unlink()
    answer = desk.run("diff")
    assert answer.code == 3
    assert answer.out == (
        f"--- /dev/null\n+++ {desk.main_cf} (desired)\n@@ -0,0 +1,2 @@\n+c = 3\n+a = 1\n"
    )
    assert not desk.main_cf.exists()


# --- apply -------------------------------------------------------------------------------------


def test_apply_corrects_the_file_and_leaves_nothing_else_behind(desk: Desk) -> None:
    answer = desk.run("apply")
    assert answer == (0, "corrected: a, d\n", "")
    assert desk.main_cf.read_text() == "a = 1\n#d = 4\nb = x y\nforeign = 1\n"
    assert desk.main_cf.stat().st_mode & 0o7777 == 0o640
    assert sorted(os.listdir(desk.main_cf.parent)) == ["desired.toml", "main.cf"]
    assert desk.run("apply") == (0, "in sync\n", "")


def test_apply_as_json(desk: Desk) -> None:
    diff = desk.run("diff", "--json").json
    for each in diff["drift"]:
        del each["place"]
    answer = desk.run("apply", "--json")
    assert answer.code == 0
    assert answer.json == {
        "result": "corrected",
        "summary": "corrected: a, d",
        "cycle": 1,
        **diff,
        "failure": None,
        "rebuilt_tables": [],
        "stale_tables": {},
    }
    answer = desk.run("apply", "--json")
    assert answer.json == {
        "result": "in-sync",
        "summary": "",
        "cycle": None,
        "in_sync": True,
        "drift": [],
        "diff": "",
        "failure": None,
        "rebuilt_tables": [],
        "stale_tables": {},
        "documents": {},
        "instances": {},
    }


def test_apply_dry_run_is_diff_and_changes_nothing(desk: Desk) -> None:
    before = desk.main_cf.stat()
    assert desk.run("apply", "--dry-run") == desk.run("diff")
    would = desk.run("diff", "--json").json | {"stale_tables": {}}
    assert desk.run("apply", "--dry-run", "--json").json == would
    assert desk.main_cf.read_text() == WRONG
    after = desk.main_cf.stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_apply_makes_a_file_that_is_not_there_from_the_template(desk: Desk) -> None:
    template = desk.main_cf.with_name("proto")
    template.write_text("# c\nd = 4\n", encoding="utf-8")
    desk.desired.write_text(f'template = "{template}"\n{DESIRED}', encoding="utf-8")
    desk.main_cf.unlink()
    answer = desk.run("apply")
    assert (answer.code, answer.err) == (0, "")
    assert desk.main_cf.read_text() == "# c\n#d = 4\na = 1\nb = x y\n"
    assert desk.main_cf.stat().st_mode & 0o7777 == 0o644


def test_apply_keeps_bytes_that_are_no_text(desk: Desk) -> None:
    desk.main_cf.write_bytes(b"\xff = \xfe\r\na = 2\r\nb = x y\0junk\r\nno end")
    assert desk.run("apply").code == 0
    assert desk.main_cf.read_bytes() == b"\xff = \xfe\r\na = 1\r\nb = x y\0junk\r\n#no end"


# --- complaints --------------------------------------------------------------------------------


def test_another_desired_state_for_the_hosts_own_file_is_refused(pf_agent: Command) -> None:
    answer = pf_agent("apply", "--desired", "desired.toml")
    assert answer.code == 2
    assert "--main-cf" in one_line(answer)


def test_each_fault_of_the_desired_state_is_a_line(desk: Desk) -> None:
    desk.desired.write_text('[settings]\na = 1.5\n"b c" = "1"\n', encoding="utf-8")
    for verb in ("diff", "apply"):
        answer = desk.run(verb)
        assert answer.code == 2
        assert answer.out == ""
        lines = answer.err.splitlines()
        places = [line.split(": ")[:2] for line in lines]
        assert places == [["pf-agent", f"{desk.desired}:{number}"] for number in (2, 3)]
    assert desk.main_cf.read_text() == WRONG


@pytest.mark.parametrize("verb", ["diff", "apply"])
class TestOneLineComplaints:
    def test_a_desired_state_that_is_not_there(self, desk: Desk, verb: str) -> None:
        desk.desired.unlink()
        answer = desk.run(verb)
        assert answer.code == 2
        assert f"{desk.desired}: No such file or directory; " in one_line(answer)

    def test_a_main_cf_in_a_folder_that_is_not_there(self, desk: Desk, verb: str) -> None:
        desk.main_cf = desk.main_cf.parent / "gone" / "main.cf"
        answer = desk.run(verb)
        assert answer.code == 1
        assert "/gone: No such file or directory; " in one_line(answer)

    def test_a_main_cf_that_is_a_folder(self, desk: Desk, verb: str) -> None:
        desk.main_cf.unlink()
        desk.main_cf.mkdir()
        answer = desk.run(verb)
        assert answer.code == 1
        assert f"{desk.main_cf}: it is not a regular file; " in one_line(answer)

    def test_a_main_cf_that_is_a_fifo_does_not_hold_it_up(self, desk: Desk, verb: str) -> None:
        desk.main_cf.unlink()
        os.mkfifo(desk.main_cf)
        answer = desk.run(verb)
        assert answer.code == 1
        assert "it is not a regular file" in one_line(answer)

    def test_a_main_cf_that_may_not_be_read(self, desk: Desk, verb: str) -> None:
        desk.main_cf.chmod(0)
        answer = desk.run(verb)
        assert answer.code == 1
        assert f"{desk.main_cf}: Permission denied; " in one_line(answer)

    def test_a_template_that_is_not_there(self, desk: Desk, verb: str) -> None:
        desk.main_cf.unlink()
        desk.desired.write_text('template = "/no/such/proto"\n', encoding="utf-8")
        answer = desk.run(verb)
        assert answer.code == 1
        assert "/no/such/proto: No such file or directory; " in one_line(answer)


def test_a_folder_that_may_not_be_written_to(desk: Desk) -> None:
    desk.main_cf.parent.chmod(0o555)
    answer = desk.run("apply")
    desk.main_cf.parent.chmod(0o755)
    assert answer.code == 1
    assert f"{desk.main_cf}: Permission denied; " in one_line(answer)
    assert desk.main_cf.read_text() == WRONG


# --- usage -------------------------------------------------------------------------------------


def test_help_names_every_verb_and_every_exit_code(pf_agent: Command) -> None:
    answer = pf_agent("--help")
    assert answer.code == 0
    for verb in VERBS:
        assert re.search(rf"^    {verb} +\w", answer.out, re.MULTILINE), verb
    codes = "0 in sync or done, 1 failure, 2 usage or bad configuration, 3 drift found"
    assert codes in answer.out


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("run", ()),
        ("status", ("--json", "--watch")),
        ("diff", ("--json", "--color [{auto,always,never}]", "--main-cf FILE", "--desired FILE")),
        (
            "apply",
            (
                *("--json", "--color [{auto,always,never}]", "--main-cf FILE", "--desired FILE"),
                *("--dry-run", "--no-activate", "--wait {yes,no}", "--force"),
            ),
        ),
        ("check", ("--json", "--references")),
        ("suspend", ("--for TIME", "--reason TEXT", "--instance NAME")),
        ("resume", ("--instance NAME",)),
        ("history", ("--json", "--since TIME", "--limit N")),
        ("explain", ("--json", "--instance NAME")),
        ("restore", ("--instance NAME",)),
        ("set", ("--json", "--instance NAME", "--unknown")),
        ("unset", ("--json", "--instance NAME", "--default")),
        ("adopt", ("--json", "--cycle CYCLE", "--instance NAME")),
        ("init", ("--json", "--from NAME", "--list")),
    ],
)
def test_each_verb_has_its_help(pf_agent: Command, verb: str, options: Sequence[str]) -> None:
    answer = pf_agent(verb, "--help")
    assert answer.code == 0
    assert set(re.findall(r"^  (--.*?)(?:  |$)", answer.out, re.MULTILINE)) == set(options)


@pytest.mark.parametrize(
    "arguments", [(), ("heal",), ("diff", "--main-cf"), ("status", "--main-cf", "x"), ("run", "x")]
)
def test_wrong_usage_ends_with_2(pf_agent: Command, arguments: Sequence[str]) -> None:
    answer = pf_agent(*arguments)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("usage: pf-agent ")


def test_version(pf_agent: Command) -> None:
    assert pf_agent("--version") == (0, f"pf-agent {__version__}\n", "")


# --- a process of its own ----------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pf_agent.cli.main", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Ours, without what an installed pf-agent never sees."""
    unseen = ("PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8")
    kept = {name: value for name, value in os.environ.items() if name not in unseen}
    paths = os.pathsep.join([AGENT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "error", **more}


def test_apply_keeps_the_comments_of_a_file_that_has_nothing_else(tmp_path: Path) -> None:
    main_cf, desired = tmp_path / "main.cf", tmp_path / "desired.toml"
    main_cf.write_text("# Of anna, who wants it so.\n#relayhost = [192.0.2.1]", encoding="utf-8")
    desired.write_text('[settings]\nmynetworks = "127.0.0.0/8"\n', encoding="utf-8")
    files = ["--main-cf", str(main_cf), "--desired", str(desired)]
    subprocess.run(command("apply", *files), env=environment(), check=False, capture_output=True)
    assert main_cf.read_text(encoding="utf-8") == (
        "# Of anna, who wants it so.\n#relayhost = [192.0.2.1]\nmynetworks = 127.0.0.0/8\n"
    )


@pytest.mark.parametrize("size", [1, 5000], ids=["short", "long"])
@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_a_reader_that_has_seen_enough(tmp_path: Path, size: int, options: Sequence[str]) -> None:
    main_cf, desired = tmp_path / "main.cf", tmp_path / "desired.toml"
    main_cf.write_text("".join(f"a{number} = 2\n" for number in range(size)), encoding="utf-8")
    settings = "".join(f'a{number} = "1"\n' for number in range(size))
    desired.write_text(f"[settings]\n{settings}", encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    files = ["--main-cf", str(main_cf), "--desired", str(desired)]
    done = subprocess.run(
        command("diff", *files, *options),
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(),
        check=False,
    )
    os.close(writer)
    assert b"BrokenPipe" not in done.stderr
    assert done.returncode in (1, 3)


@pytest.mark.parametrize("options", [["--help"], ["diff", "--help"], ["--version"], ["check"]])
def test_a_reader_that_is_gone(options: Sequence[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        command(*options), stdout=writer, stderr=subprocess.PIPE, env=environment(), check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_what_goes_to_a_closed_stream_goes_nowhere(tmp_path: Path, closed: str) -> None:
    main_cf, desired = tmp_path / "main.cf", tmp_path / "desired.toml"
    main_cf.write_text(WRONG, encoding="utf-8")
    desired.write_text(DESIRED, encoding="utf-8")
    done = shell(command("diff", "--main-cf", str(main_cf), "--desired", str(desired)), closed)
    assert done.returncode == 3
    assert done.stdout.endswith("" if " >&-" in f" {closed}" else DIFF)
    assert done.stdout.count("\n") == (0 if " >&-" in f" {closed}" else 2 + DIFF.count("\n"))
    assert done.stderr.count("\n") == (0 if "2>&-" in closed else 2)


def shell(argv: Sequence[str], closed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", f"exec {shlex.join(argv)} {closed}"],
        capture_output=True,
        encoding="utf-8",
        env=environment(),
        check=False,
    )


def test_to_be_asked_needs_a_standard_input() -> None:
    done = shell(command("adopt"), "<&-")
    assert done.returncode == 2
    assert done.stderr == "pf-agent: adopt: no terminal to ask on; name the parameters\n"


@pytest.mark.parametrize("options", [["--help"], ["status"], ["status", "--json"], ["check"]])
def test_a_full_disk_is_said_in_one_line(options: Sequence[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(*options), stdout=full, stderr=subprocess.PIPE, env=environment(), check=False
        )
    assert done.returncode == 1
    assert done.stderr == (b"pf-agent: cannot write its output: No space left on device\n")


# With all its modules in it, and 8 MiB more.
LITTLE_MEMORY = """
import resource, sys
from pf_agent.cli import main as cli
arguments = ["diff", "--main-cf", sys.argv[1] + "/main.cf", "--desired", sys.argv[1] + "/d.toml"]
cli.main(arguments)
with open(sys.argv[1] + "/main.cf", "ab") as main_cf:
    main_cf.write(b"note = " + b"x" * (15 << 20))
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (8 << 20),) * 2)
sys.exit(cli.main(arguments))
"""


def test_too_little_memory_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(DESIRED)
    (tmp_path / "main.cf").write_text(RIGHT)
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(tmp_path)],
        capture_output=True,
        env=environment(),
        check=False,
    )
    assert done.stderr == b"pf-agent: not enough memory; raise its limit (MemoryMax=)\n"
    assert done.returncode == 1


def test_a_watched_status_ends_when_it_is_interrupted() -> None:
    # Where these tests run in a shell's background, SIGINT is ignored, and that is inherited.
    with subprocess.Popen(
        ["env", "--default-signal=INT", *command("status", "--watch")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as watching:
        assert watching.stdout is not None
        assert watching.stderr is not None
        assert watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.stderr.read() == b""
    assert watching.returncode == 130


def test_a_terminal_that_cannot_show_every_character(tmp_path: Path) -> None:
    main_cf, desired = tmp_path / "main.cf", tmp_path / "desired.toml"
    main_cf.write_text("a = caf\u00e9 \u6771\u4eac\n", encoding="utf-8")
    desired.write_text('[settings]\na = "1"\n', encoding="utf-8")
    done = subprocess.run(
        command("diff", "--main-cf", str(main_cf), "--desired", str(desired)),
        capture_output=True,
        env=environment(PYTHONIOENCODING="latin-1"),
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert b"\n-a = caf\xe9 \\u6771\\u4eac\n" in done.stdout


# --- the host's own files ----------------------------------------------------------------------


class Host:
    """/etc, /run and /var/lib as the command sees them."""

    FOLDERS: tuple[str, ...] = ("etc/postfix", "etc/pf-agent", "run/pf-agent", "var/lib/pf-agent")
    # What Postfix's programs look up before they read main.cf.
    KEPT = ("passwd", "group", "hosts", "services", "nsswitch.conf")
    MOUNT = (
        "mount --make-rprivate / || exit 99; for folder in etc run var/lib; do "
        'mount -t tmpfs tmpfs /$folder && cp -a "$0"/$folder/. /$folder/ || exit 99; done'
    )

    def __init__(self, folder: Path, forks: Forks) -> None:
        self.folder = folder
        self._forks = forks
        for name in self.FOLDERS:
            (folder / name).mkdir(parents=True)
        for name in self.KEPT:
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", folder / "etc" / name)
        self.write("etc/postfix/main.cf", RIGHT)
        # No smtpd: no level of compatibility is stated here, and it would not run with that.
        self.write("etc/postfix/master.cf", "pickup unix n - y 60 1 pickup\n")
        self.write("etc/pf-agent/desired.toml", DESIRED)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text, encoding="utf-8")

    def publish(self, status: Status) -> None:
        self.write("run/pf-agent/status.json", json.dumps(status_dict(status, 0)))

    def run(self, *arguments: str) -> Answer:
        answer = Answer(*self._forks.run(self.MOUNT, self.folder, arguments))
        assert "Traceback" not in answer.err
        return answer

    def inside(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.entered(argv),
            capture_output=True,
            encoding="utf-8",
            env=environment(),
            check=False,
        )

    def entered(self, argv: Sequence[str]) -> list[str]:
        """What runs `argv` in a process of its own, on this host."""
        own = ["--user", "--map-root-user"] if os.geteuid() != 0 else []
        script = f'{self.MOUNT}; exec "$@"'
        return ["unshare", "--mount", *own, "sh", "-c", script, str(self.folder), *argv]


class LastingHost(Host):
    """The same; what a run leaves there, the next finds."""

    MOUNT = (
        "mount --make-rprivate / || exit 99; for folder in etc run var/lib; do "
        'mount --bind "$0"/$folder /$folder || exit 99; done'
    )


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    enter = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() != 0 else [])]
    if shutil.which("unshare") is None or subprocess.run([*enter, "true"]).returncode != 0:
        pytest.skip("no mount namespace can be had here")
    found = Forks(environment())
    yield found
    found.close()


@pytest.fixture
def host(tmp_path: Path, forks: Forks) -> Host:
    return Host(tmp_path, forks)


@pytest.fixture
def lasting(tmp_path: Path, forks: Forks) -> LastingHost:
    return LastingHost(tmp_path, forks)


STATUS = Status(
    Phase.IN_SYNC,
    since=1_764_000_000.0,
    parameters=21,
    last=LastDrift(3, 1_764_000_000.0, ("mynetworks",), 0.008, 0.7),
    pid=os.getpid(),
)


@pytest.mark.parametrize(
    "line",
    [
        *("status", "diff", "apply --dry-run", "check", "suspend", "resume", "history"),
        *("explain a", "restore 1", "set --unknown a=2", "unset a", "adopt a", "init", "no-verb"),
    ],
)
def test_a_run_in_a_fork_is_a_run(host: Host, line: str) -> None:
    """Else the tests below would prove nothing of a process that has loaded nothing before."""
    host.write("etc/postfix/main.cf", WRONG)
    done = host.inside(command(*line.split()))
    assert host.run(*line.split()) == (done.returncode, done.stdout, done.stderr)
    assert done.stdout or done.stderr


def test_check_of_good_files(host: Host) -> None:
    answer = host.run("check")
    assert (answer.code, answer.err) == (0, "")
    *warned, last = answer.out.splitlines()
    assert last == "/etc/pf-agent: valid, 3 parameters"
    answer = host.run("check", "--json")
    assert answer.code == 0
    # Where Postfix is installed it knows none of these parameters.
    found = answer.json
    assert warned == [f"warning: {text}" for text in found.pop("warnings")]
    assert found == {"ok": True, "parameters": 3, "problems": []}


def test_check_names_every_fault_of_every_file(host: Host) -> None:
    host.write("etc/pf-agent/desired.toml", "[settings]\na = 1.5\nb = 1.5\n")
    host.write("etc/pf-agent/agent.toml", "mod = 3\n")
    answer = host.run("check")
    assert answer.code == 2
    assert answer.err == ""
    lines = answer.out.splitlines()
    assert [line.split(": ")[0].rpartition("/")[2] for line in lines] == [
        "desired.toml:2",
        "desired.toml:3",
        "agent.toml:1",
    ]
    answer = host.run("check", "--json")
    assert answer.code == 2
    assert answer.json == {"ok": False, "parameters": 0, "problems": lines, "warnings": []}


@pytest.mark.postfix
@pytest.mark.skipif(not os.path.exists(POSTCONF), reason=f"no {POSTCONF}")
def test_check_asks_postfix_too_where_it_is_installed(host: Host) -> None:
    host.write("etc/pf-agent/desired.toml", '[settings]\ninet_protocols = "ipv5"\n')
    answer = host.run("check")
    assert answer.code == 2
    (line,) = answer.out.splitlines()
    assert 'unknown inet_protocols value "ipv5"' in line


def test_check_without_any_configuration(host: Host) -> None:
    (host.folder / "etc/pf-agent/desired.toml").unlink()
    answer = host.run("check")
    assert answer.code == 2
    assert answer.out.startswith("/etc/pf-agent/desired.toml: no such file; ")


def test_status_says_it_all_in_the_first_line_and_more_below(host: Host) -> None:
    host.publish(STATUS)
    answer = host.run("status")
    assert (answer.code, answer.err) == (0, "")
    assert re.fullmatch(
        r"in sync: 21 parameters\n  drift: \d+ days ago, cycle \d+: mynetworks, corrected in 8 ms,"
        r" Postfix up after 0\.7 s\n",
        answer.out,
    )


def test_status_names_each_problem(host: Host) -> None:
    host.publish(replace(STATUS, problems=("desired.toml:1: x", "agent.toml:1: y")))
    first, *rest = host.run("status").out.splitlines()
    assert first.startswith("in sync: ")
    assert [line for line in rest if "error: " in line] == [
        "  error: desired.toml:1: x",
        "  error: agent.toml:1: y",
    ]


@pytest.mark.parametrize("phase", [Phase.STALLED, Phase.FAILING, Phase.STOPPED])
def test_status_is_a_failure_where_somebody_has_to_do_something(host: Host, phase: Phase) -> None:
    host.publish(replace(STATUS, phase=phase, detail="no template", last=None))
    answer = host.run("status")
    assert (answer.code, answer.err) == (1, "")
    assert answer.out.startswith(f"{phase.value}: ")
    assert "no template" in answer.out
    inner = replace(STATUS, phase=phase, detail="why", instances={}, last=None)
    host.publish(replace(STATUS, last=None, instances={"out": inner}))
    assert host.run("status").code == 1


@pytest.mark.parametrize("is_suspended", [False, True])
def test_apply_leaves_alone_what_is_only_watched(host: Host, is_suspended: bool) -> None:
    host.write("etc/postfix/main.cf", WRONG)
    why = "agent.toml sets mode = observe"
    if is_suspended:
        why = "suspended by anna until resumed: a test"
        suspension = {
            "since": 1.5,
            "until": None,
            "who": "anna",
            "reason": "a test",
            "resumed_by": "",
        }
        host.write("var/lib/pf-agent/suspension.json", json.dumps(suspension))
    else:
        host.write("etc/pf-agent/agent.toml", 'mode = "observe"\n')
    answer = host.run("apply")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err.endswith(
        f"/etc/postfix/main.cf: {why}; `pf-agent apply --force` corrects it anyway\n"
    )


def test_explain_says_of_each_table_how_its_index_stands(host: Host) -> None:
    pytest.importorskip("systemd", reason="the journal is read for the last drift")
    named = {name: f"/etc/postfix/{name}" for name in ("new", "old", "none", "gone", "told")}
    words = ", ".join(f"hash:{path}" for path in named.values())
    host.write("etc/postfix/main.cf", f"{RIGHT}transport_maps = {words}\n")
    for name in ("new", "old", "none", "told"):
        host.write(f"etc/postfix/{name}", "a b\n")
    for name, seconds in (("new", 10), ("old", -10)):
        host.write(f"etc/postfix/{name}.db", "")
        at = (host.folder / f"etc/postfix/{name}").stat().st_mtime + seconds
        os.utime(host.folder / f"etc/postfix/{name}.db", (at, at))
    host.publish(replace(STATUS, stale={named["told"]: f"{named['told']}:1: odd"}))
    assert host.run("explain", "transport_maps", "--json").json["tables"] == [
        f"{named['new']}: up to date",
        f"{named['old']}: the index is older than its source",
        f"{named['none']}: there is no index",
        f"{named['gone']}: there is neither source nor index",
        f"{named['told']}:1: odd",
    ]
    assert host.run("explain", "mynetworks", "--json").json["tables"] == []


def test_what_apply_would_build_is_no_drift(host: Host) -> None:
    path = "/etc/postfix/\x1bwords"
    host.write("etc/postfix/main.cf", f"{RIGHT}transport_maps = hash:{path}\n")
    host.write(path.lstrip("/"), "key value\n")
    assert host.run("diff").err == ""
    answer = host.run("apply", "--dry-run")
    assert (answer.code, answer.out) == (0, "")
    shown = path.replace("\x1b", "\\x1b")
    assert answer.err.startswith(f"{shown}: its index is out of date and would be rebuilt")
    found = host.run("apply", "--dry-run", "--json").json
    assert (list(found["stale_tables"]), found["in_sync"]) == ([shown], True)
    host.write("etc/pf-agent/agent.toml", "[tables]\nrebuild = false\n")
    assert host.run("apply", "--dry-run").err == ""


def test_status_tells_of_every_instance(host: Host) -> None:
    inner = Status(Phase.STALLED, 1_764_000_000.0, 2, "no such file")
    host.publish(replace(STATUS, last=None, instances={"out": inner}))
    answer = host.run("status")
    assert answer.code == 1
    assert answer.out.startswith("in sync: 21 parameters; out: stalled\ninstance out: stalled: ")
    assert "\n  wrong: no such file\n" in answer.out
    assert host.run("status", "--json").json["instances"]["out"]["phase"] == "stalled"


def test_diff_looks_at_every_instance(host: Host) -> None:
    instance = '[instances.out]\nconfig_directory = "/etc/out"\n[instances.out.settings]\na = "1"\n'
    host.write("etc/pf-agent/desired.toml", DESIRED + instance)
    (host.folder / "etc/out").mkdir()
    host.write("etc/out/main.cf", "a = 2\n")
    answer = host.run("diff")
    assert answer.code == 3
    assert answer.out.startswith("--- /etc/out/main.cf\n+++ /etc/out/main.cf (desired)\n")
    assert answer.err == 'out: a is "2", must be "1" (line 1)\n'
    answer = host.run("diff", "--json")
    assert answer.json["in_sync"]
    assert not answer.json["instances"]["out"]["in_sync"]


def test_what_nobody_named_is_shown_by_diff_where_that_is_asked_for(host: Host) -> None:
    report = 'unmanaged = "report"\nignore = ["[a-eg-z]", "for*"]\n'
    host.write("etc/pf-agent/desired.toml", report + DESIRED)
    host.write("etc/postfix/main.cf", RIGHT + "e = 1\nf = 1\n")
    answer = host.run("diff")
    assert (answer.code, answer.out) == (3, "")
    assert answer.err.startswith('f is "1", which is not managed')


def test_colours_are_for_terminals_unless_asked_for(desk: Desk) -> None:
    assert "\x1b" not in desk.run("diff").out
    assert "\x1b" not in desk.run("diff", "--color=auto").out
    assert "\x1b[31m-a = 2\x1b[m\n" in desk.run("diff", "--color=always").out
    assert desk.run("diff", "--color=never").out == desk.run("diff").out
    assert desk.run("apply", "--dry-run", "--color=always") == desk.run("diff", "--color=always")


def test_status_watched_tells_what_changes(host: Host) -> None:
    """In its own namespace the file is another one, so the daemon's end is what can be seen."""
    host.publish(replace(STATUS, last=None))
    watching = f"{shlex.join(command('status', '--watch'))} > /run/told &"
    # And looks once more, at what is the same as before.
    seen = "until grep -qs '{}' /run/told; do sleep 0.2; done; sleep 1.2"
    gone = "rm /run/pf-agent/status.json"
    script = [watching, seen.format("in sync"), gone, seen.format("not running"), "kill $!"]
    script.append("cat /run/told")
    told = host.inside(["timeout", "120", "bash", "-mc", "\n".join(script)]).stdout.splitlines()
    assert told == [
        "in sync: 21 parameters",
        "the daemon is not running; start it with `systemctl start pf-agent`",
    ]


def test_status_as_json(host: Host) -> None:
    host.publish(STATUS)
    answer = host.run("status", "--json")
    assert answer.code == 0
    assert status_from_dict(answer.json) == STATUS
    assert answer.json["summary"].startswith("in sync: 21 parameters; last drift ")


def test_status_without_a_daemon(host: Host) -> None:
    answer = host.run("status")
    assert answer.code == 1
    assert answer.out == "the daemon is not running; start it with `systemctl start pf-agent`\n"
    assert host.run("status", "--json").json["phase"] is None


def test_status_that_a_killed_daemon_left_behind(host: Host) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    host.publish(replace(STATUS, pid=gone.pid))
    assert host.run("status").out.startswith("the daemon is not running; ")


@pytest.mark.parametrize("text", ["", "[]", "{}", f'{{"pid": {os.getpid()}}}'])
def test_status_that_cannot_be_read(host: Host, text: str) -> None:
    host.write("run/pf-agent/status.json", text)
    answer = host.run("status")
    assert answer.code == 1
    if text == "{}":
        assert answer.out.startswith("the daemon is not running; ")
    else:
        assert "/run/pf-agent/status.json: " in one_line(answer)


def test_diff_of_the_hosts_own_file_minds_owner_and_mode(host: Host) -> None:
    assert host.run("diff") == (0, "", "")
    (host.folder / "etc/postfix/main.cf").chmod(0o600)
    answer = host.run("diff")
    assert (answer.code, answer.out) == (3, "")
    assert "mode 0600" in answer.err


def test_diff_of_a_destroyed_file_begins_with_the_last_good_text(host: Host) -> None:
    host.write("var/lib/pf-agent/last-good.main.cf", f"tls = yes\n{RIGHT}")
    host.write("etc/postfix/main.cf", "")
    answer = host.run("diff")
    assert answer.code == 3
    assert "\n+tls = yes\n" in answer.out
    assert "it contains no settings; it is recreated as the last good text" in answer.err


def test_diff_of_a_users_file_against_the_hosts_desired_state(host: Host) -> None:
    host.write("mine.cf", WRONG)
    answer = host.run("diff", "--main-cf", str(host.folder / "mine.cf"))
    assert answer.code == 3
    assert answer.out.endswith(DIFF)


def test_diff_without_any_desired_state(host: Host) -> None:
    (host.folder / "etc/pf-agent/desired.toml").unlink()
    answer = host.run("diff")
    assert answer.code == 2
    assert "/etc/pf-agent/desired.toml: no such file" in one_line(answer)


def test_check_says_what_the_daemon_does_without_good_options(host: Host) -> None:
    host.write("etc/pf-agent/agent.toml", 'mode = "x"\n')
    fault, *_ = host.run("check").out.splitlines()  # a Postfix that is there warns of more
    assert fault.startswith("/etc/pf-agent/agent.toml:1: mode: ")
    told = only_observing("/etc/pf-agent")
    host.publish(replace(STATUS, problems=(fault, told)))
    answer = host.run("check")
    assert (answer.code, answer.out.splitlines()[:2]) == (2, [fault, told])
    host.publish(replace(STATUS, problems=(fault,)))
    shown = host.run("check").out.splitlines()
    assert shown[0] == fault
    assert told not in shown


def test_suspend_and_resume_without_a_daemon(host: Host) -> None:
    """What is written is what the next daemon follows; both in one namespace, to see it."""
    script = " && ".join(
        [
            f"{shlex.join(command('suspend', '--for', '2h', '--reason', 'the queue moves'))}",
            "cat /var/lib/pf-agent/suspension.json",
            f"{shlex.join(command('resume'))}",
            f"{shlex.join(command('resume'))}",
        ]
    )
    done = host.inside(["sh", "-c", script])
    assert done.stderr == ""
    first, *rest = done.stdout.splitlines()
    assert re.match(r"suspended by \S+ until [-0-9]+ [:0-9]+: the queue moves", first)
    written = json.loads("".join(rest[:-1]).partition("}")[0] + "}")
    assert written["until"] - written["since"] == 7200
    assert rest[-2:][0].endswith("resumed")
    assert rest[-1] == "it was not suspended"


def test_a_second_suspension_says_which_one_it_replaces(lasting: LastingHost) -> None:
    first, second = (
        lasting.run("suspend", *words).out.rstrip("\n")
        for words in (["--for=2h", "--reason=the queue moves"], ["--reason=\x1bnew disks"])
    )
    assert second.partition(" (")[0].endswith(" until resumed: \\x1bnew disks")
    assert second.endswith(f" (replaces the one {first.removeprefix('suspended ')})")


def test_an_instance_is_suspended_and_resumed_alone(lasting: LastingHost) -> None:
    lasting.write(
        "etc/pf-agent/desired.toml",
        DESIRED + '[instances.out]\nconfig_directory = "/etc/out"\n[instances.out.settings]\n',
    )
    kept = "var/lib/pf-agent/instances/out/suspension-alone.json"
    orders = (
        ["suspend", "--instance=out"],
        ["resume", "--instance=-"],
        ["resume", "--instance=out"],
        ["suspend", "--instance=out"],
        ["suspend"],
        ["resume", "--instance=out"],
        ["suspend", "--instance=-"],
        ["resume"],
        ["resume"],
    )
    answers = [lasting.run(*words) for words in orders]
    assert {(answer.code, answer.err) for answer in answers} == {(0, "")}
    assert [re.sub(r"by \S+", "by X", answer.out.rstrip("\n")) for answer in answers] == [
        "out: suspended by X until resumed",
        "it was not suspended",
        "out: resumed",
        "out: suspended by X until resumed",
        "suspended by X until resumed",
        "out: resumed; all instances are suspended, and `pf-agent resume` ends that",
        "suspended by X until resumed",
        "resumed",
        "it was not suspended",
    ]
    assert (lasting.folder / kept).exists()


@pytest.mark.parametrize("verb", ["suspend", "resume"])
@pytest.mark.parametrize("name", ["nobody", "../out", "", "out\x1b"])
def test_there_must_be_an_instance_to_be_suspended(host: Host, verb: str, name: str) -> None:
    answer = host.run(verb, f"--instance={name}")
    assert (answer.code, answer.out) == (2, "")
    assert "not configured" in one_line(answer)


@pytest.mark.parametrize("text", ["", "0", "2x", "-1", "forever"])
def test_a_time_to_suspend_for_is_a_number_and_a_unit(host: Host, text: str) -> None:
    answer = host.run("suspend", f"--for={text}")
    assert answer.code == 2
    assert "expected a duration" in answer.err


def test_to_suspend_for_more_than_a_year_is_to_suspend_for_ever(host: Host) -> None:
    answer = host.run("suspend", "--for=367d")
    assert answer.code == 2
    assert "more than a year; omit --for" in answer.err


SECRET = "Tr0ub4dor&3"


@pytest.mark.parametrize("verb", ["diff", "diff --json", "apply --dry-run", "apply --json"])
def test_no_verb_prints_a_secret(desk: Desk, verb: str) -> None:
    desk.main_cf.write_text(f"relay_pass =\n\n  {SECRET}\na = 2\nstray {SECRET}\n")
    desk.desired.write_text(f'[settings]\na = "1"\nx_token = "{SECRET}"\ny = "x {SECRET}"\n')
    answer = desk.run(*verb.split())
    assert "y" in f"{answer.out}{answer.err}"
    assert SECRET not in f"{answer.out}{answer.err}"
    if "--json" in verb:
        assert answer.json


@pytest.mark.parametrize("line", [f'["a", 5, "{SECRET}"]', f'"{SECRET}', f'{{ a = "{SECRET}" }}'])
def test_no_fault_of_a_file_quotes_a_secret(desk: Desk, line: str) -> None:
    desk.desired.write_text(f"[settings]\nx_token = {line}\n")
    answer = desk.run("diff")
    assert answer.code == 2
    assert "desired.toml:2" in answer.err
    assert SECRET not in answer.err


@pytest.mark.parametrize(
    "words",
    [
        [f"x_token={SECRET}", f"{SECRET} y=1", f"x_token={SECRET}"],
        ["x_token", SECRET],
        ["y", "x_token", f"{SECRET} and more"],
    ],
)
def test_no_complaint_quotes_a_secret_that_was_typed(
    pf_agent: Command, words: Sequence[str]
) -> None:
    answer = pf_agent("set", *words)
    assert "x_token" in answer.err
    assert SECRET not in answer.err


def test_a_traceback_has_no_secret(tmp_path: Path) -> None:
    code = f"""
from pf_agent.cli import main
from pf_agent.words.outgoing import PROCESS
PROCESS.read_settings({{"x_token": {SECRET!r}}})
main.main(["status"])
raise KeyError({SECRET!r})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False
    )
    assert "KeyError: '(hidden)'" in done.stderr
    assert SECRET not in done.stderr.partition("KeyError")[2]
