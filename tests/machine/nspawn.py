"""Throw-away Debian machines: a real systemd, booted by systemd-nspawn over an overlay.

Nothing outlives a machine: mounts, control groups, processes and the overlay are held by hold.sh,
which releases them when the harness closes it or dies. Root only; the standard library only.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.checkout import CHECKOUT
from tests.machine.groups import control_groups, joining
from tests.machine.image import cache_dir
from tests.machine.journal import Journal

_HOLD = Path(__file__).with_name("hold.sh")
_CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
# Of a file that has no end, or is a terabyte of nothing.
_MOST_SEEN = 1 << 26
_numbers = itertools.count(1)


def _environment(env: Mapping[str, str] | None) -> dict[str, str]:
    """Return a command's environment in the machine, with nothing of the host's."""
    return {**_CLEAN, "LANG": "C.UTF-8", **(env or {})}


class MachineError(Exception):
    """A machine did not do what was asked: it did not boot, or a wait timed out."""


class CommandFailed(MachineError):
    """A command in a machine exited with a code other than 0."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        super().__init__(
            f"{shlex.join(done.args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
        self.done = done


class Machine:
    """One machine. Use it as a context manager: entering boots it, leaving removes every trace.

    Its files survive kill() and boot(), as on a disk. They are in a layer of its own over the given
    ones, the uppermost first.
    """

    def __init__(self, *layers: Path) -> None:
        self.name = f"pf-agent-{os.getpid()}-{next(_numbers)}"
        self._layers = layers
        self._groups = control_groups(self.name)
        self._run_groups = control_groups(f"{self.name}.run")
        self._folder = Path()
        self._holder: subprocess.Popen[bytes] | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0
        self.followed = Journal(self)

    def __enter__(self) -> Machine:
        runs = cache_dir() / "machines"
        runs.mkdir(parents=True, exist_ok=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{self.name}.", dir=runs))
        try:
            self._hold()
            self.boot()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Power

    def boot(self, timeout: float = 60.0) -> None:
        """Switch the machine on and wait until its systemd has started everything.

        Raises MachineError after `timeout` seconds, with the end of the console's output.
        """
        if self._nspawn is not None:
            raise MachineError(f"{self.name} runs already")
        assert self._holder is not None, "a closed machine cannot boot"
        command = [
            *("nsenter", f"--target={self._holder.pid}", "--mount", f"--wdns={self._folder}"),
            *("systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"),
            # A real machine's root may ask which process writes a file (fanotify(7)).
            "--system-call-filter=fanotify_init fanotify_mark name_to_handle_at",
            *("--private-network", "--settings=no", "--link-journal=no", "--resolv-conf=off"),
            *("--timezone=off", "--console=pipe", f"--machine={self.name}", "--hostname=mail"),
            *("-D", str(self._folder / "root")),
        ]
        with open(self._console, "ab") as console:
            self._nspawn = subprocess.Popen(
                joining(self._groups, command),
                env=_CLEAN,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        deadline = time.monotonic() + timeout
        self._leader = self._wait_for_leader(deadline)
        self._wait_for_systemd(deadline)
        self.run(["ip", "link", "set", "lo", "up"])

    def kill(self) -> None:
        """Cut the power: every process of the machine gets SIGKILL at once. Its files stay."""
        if self._nspawn is None:
            return
        # The first process of a pid namespace takes all others with it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader or self._nspawn.pid, signal.SIGKILL)
        self._ended(timeout=30)

    def shutdown(self, timeout: float = 120.0) -> None:
        """Shut the machine down properly, as `systemctl poweroff` does."""
        if self._nspawn is not None:
            self.followed.close()
            self._nspawn.terminate()
            self._ended(timeout)

    def close(self) -> None:
        """Kill the machine and release all that it took from the host."""
        holder, self._holder = self._holder, None
        try:
            self.kill()
            self.followed.close()
        finally:
            if holder is not None:
                holder.communicate(timeout=60)

    @property
    def is_running(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    @property
    def leader(self) -> int:
        """The pid, on the host, of the machine's first process; 0 while it is switched off."""
        return self._leader

    @property
    def files(self) -> Path:
        """The machine's root directory as seen by the host; if it is off, only its disk."""
        if self.is_running:
            return Path(f"/proc/{self._leader}/root")
        assert self._holder is not None, "a closed machine has no files"
        return Path(f"/proc/{self._holder.pid}/root{self._folder}/root")

    @property
    def upper(self) -> Path:
        """The machine's own layer of its disk; complete when it is switched off."""
        return self._folder / "upper"

    def at(self, path: str) -> Path:
        """Return the host's path for a path of the machine; links lead where they do inside."""
        root = self.files
        found, left = root, [*reversed(Path(path).parts[1:])]
        while left:
            step = left.pop()
            if left and (found / step).is_symlink():
                target = (found / step).readlink()
                found = root if target.is_absolute() else found
                left += reversed(target.parts[target.is_absolute() :])
            else:
                found = (found if found == root else found.parent) if step == ".." else found / step
        return found

    # Commands and files

    def run(
        self,
        command: Sequence[str],
        *,
        input: str | bytes | None = None,
        check: bool = True,
        timeout: float = 120.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the machine as root, in a clean environment, from /root.

        Output is text; bytes that are not UTF-8 come back as surrogates. Raises CommandFailed
        for an exit code other than 0 if `check`, subprocess.TimeoutExpired after `timeout` seconds.
        """
        done = self._run(command, input, timeout, env or {})
        text = subprocess.CompletedProcess(
            list(command),
            done.returncode,
            *(data.decode("utf-8", "surrogateescape") for data in (done.stdout, done.stderr)),
        )
        if check and text.returncode:
            raise CommandFailed(text)
        return text

    def sh(self, script: str, *, check: bool = True, timeout: float = 120.0) -> str:
        """Run a shell script in the machine; return what it printed on standard output."""
        return self.run(["sh", "-c", script], check=check, timeout=timeout).stdout

    def entering(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """Return the command line that runs a command in the machine, for the caller to start."""
        words = [f"{name}={value}" for name, value in _environment(env).items()]
        return self._entering(["env", "-i", *words, *command])

    def _entering(self, command: Sequence[str]) -> list[str]:
        """Return the same, with the caller's environment.

        Most of a test's cost is starting programs, and this is one less.
        """
        if not self.is_running:
            raise MachineError(f"{self.name} is switched off")
        enter = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net"]
        enter += ["--pid", "--cgroup", "--root", "--wdns=/root", "--"]
        return joining(self._run_groups, [*enter, *command])

    def run_offline(self, script: str, timeout: float = 180.0) -> str:
        """Run a shell script on the files of a machine that is off; return all output.

        As in an image build there is no systemd, no D-Bus and no network. Raises MachineError with
        the output for an exit code other than 0.
        """
        if self._nspawn is not None or self._holder is None:
            raise MachineError(f"{self.name} is not switched off")
        command = [
            *("nsenter", f"--target={self._holder.pid}", "--mount", f"--wdns={self._folder}"),
            *("systemd-nspawn", "--quiet", "--pipe", "--as-pid2", "--register=no", "--keep-unit"),
            *("--private-network", "--settings=no", "--resolv-conf=off", "--timezone=off"),
            *(f"--machine={self.name}", "--hostname=mail", "-D", str(self._folder / "root")),
            *("timeout", "--kill-after=2", str(timeout), "sh", "-c", script),
        ]
        done = subprocess.run(
            joining(self._groups, command),
            env=_CLEAN,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout + 30,
            check=False,
        )
        said = done.stdout.decode("utf-8", "surrogateescape")
        if done.returncode:
            raise MachineError(f"{script}: exit code {done.returncode}\n{said}")
        return said

    def start(self, command: Sequence[str], **popen: Any) -> subprocess.Popen[bytes]:
        """Start a command in the machine and return at once; `popen` are Popen's own arguments."""
        return subprocess.Popen(self.entering(command), **popen)

    def wait_until(self, script: str, timeout: float = 90.0) -> None:
        """Wait until a shell script exits with 0; raise MachineError with its last output."""
        # Repeated inside: entering the machine costs more than most questions. A question may start
        # Python: the longer it takes, the less often it is asked.
        loop = f"n=2; until (\n{script}\n)\ndo sleep 0.$n; [ $n = 9 ] || n=$((n + 1)); done"
        try:
            self.run(["sh", "-c", loop], timeout=timeout)
        except subprocess.TimeoutExpired as late:
            said = b"".join(text[-2000:] for text in (late.stdout, late.stderr) if text)
            words = f"not within {timeout} s: {script}\n{said.decode('utf-8', 'replace')}"
            raise MachineError(words) from None

    def peek(self, path: str) -> tuple[os.stat_result, bytes]:
        """Return a regular file's stat and content, read from the host without running a program.

        Raises OSError if it is something else, or does not exist.
        """
        looking = os.open(self.at(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(looking, "rb") as file:
            found = os.fstat(looking)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{path}: not a regular file")
            return found, file.read(_MOST_SEEN)

    def read_bytes(self, path: str) -> bytes:
        """Return a file's contents. Raises CommandFailed."""
        return os.fsencode(self.run(["cat", "--", path]).stdout)

    def read_text(self, path: str) -> str:
        """Return a file's contents as text, bytes that are not UTF-8 as surrogates."""
        return self.run(["cat", "--", path]).stdout

    def write_bytes(self, path: str, data: bytes) -> None:
        """Rewrite a file in place, as a shell's `>` does; its directory is created if missing."""
        script = 'mkdir -p -- "$(dirname -- "$1")" && cat > "$1"'
        self.run(["sh", "-c", script, "sh", path], input=data)

    def write_text(self, path: str, text: str) -> None:
        """Rewrite a file in place with text; surrogates become the bytes they represent."""
        self.write_bytes(path, os.fsencode(text))

    def copy_in(self, sources: Sequence[Path], folder: str) -> None:
        """Copy files and directories of the host into a directory of the machine."""
        self.run(["mkdir", "-p", "--", folder])
        for source in sources:
            packed = subprocess.run(
                [
                    *("tar", "-c", "--owner=root", "--group=root", "--exclude=__pycache__"),
                    "-C",
                    str(source.parent),
                    source.name,
                ],
                stdout=subprocess.PIPE,
                check=True,
            )
            self.run(["tar", "-x", "-C", folder], input=packed.stdout)

    def copy_checkout(self, folder: str) -> None:
        """Copy this checkout, without what was built or cached in it."""
        kept = [path for path in CHECKOUT.iterdir() if not path.name.startswith(".")]
        self.copy_in([path for path in kept if path.name not in ("build", "dist")], folder)

    def journal(self, *arguments: str) -> list[dict[str, Any]]:
        """Return the records that journalctl selects by these arguments, oldest first."""
        self.run(["journalctl", "--sync"])
        lines = self.run(["journalctl", "-o", "json", "--all", *arguments]).stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    # Packages

    def serve_apt(self, debs: Sequence[Path]) -> None:
        """Make these .deb files a local apt repository of the machine, and its only one."""
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "apt"
            folder.mkdir()
            for deb in debs:
                (folder / deb.name).write_bytes(deb.read_bytes())
            index = subprocess.run(
                ["dpkg-scanpackages", "--multiversion", "."],
                cwd=folder,
                capture_output=True,
                check=True,
            )
            (folder / "Packages").write_bytes(index.stdout)
            self.sh("rm -rf /srv/apt")
            self.copy_in([folder], "/srv")
        self.write_text(
            "/etc/apt/sources.list.d/local.list", "deb [trusted=yes] file:/srv/apt ./\n"
        )
        self.run(["apt-get", "-q", "update"])

    def apt_install(self, *packages: str) -> str:
        """Install packages as `apt-get install -y` does; return its output."""
        return self._maintain(["apt-get", "-q", "install", "-y", *packages])

    def install_postfix(self, answer: str) -> None:
        """Purge Postfix and install it again with this answer to its question.

        For example "Internet Site": main.cf is then what Debian's maintainer script makes of it.
        """
        self._maintain(["dpkg", "--purge", "postfix"])
        self.run(
            ["debconf-set-selections"],
            input=f"postfix postfix/main_mailer_type select {answer}\n"
            "postfix postfix/mailname string mail.example.test\n",
        )
        self.install_kept("postfix")

    def install_kept(self, folder: str) -> None:
        """Install the packages in a directory of /srv: image.py lists them."""
        self._maintain(["sh", "-c", f"dpkg --install /srv/{folder}/*.deb"])

    # Inside

    def _maintain(self, command: Sequence[str]) -> str:
        return self.run(command, timeout=180, env={"DEBIAN_FRONTEND": "noninteractive"}).stdout

    @property
    def _console(self) -> Path:
        return self._folder / "console"

    def _hold(self) -> None:
        groups = [str(group) for group in (*self._groups, *self._run_groups)]
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--propagation=private",
                str(_HOLD),
                str(self._folder),
                ":".join(map(str, self._layers)),
                *groups,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise MachineError("the overlay or the control groups could not be made; see above")

    def _wait_for_leader(self, deadline: float) -> int:
        """Return the pid, on the host, of the machine's first process once it is systemd."""
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        while time.monotonic() < deadline and self._nspawn.poll() is None:
            for child in children.read_text().split():
                # One that ends while it is read is "no such process", not "no such file".
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    status = Path(f"/proc/{child}/status").read_text()
                    fields = dict(line.split(":", 1) for line in status.splitlines())
                    if fields["Name"].strip() == "systemd" and fields["NSpid"].split()[-1] == "1":
                        return int(child)
            time.sleep(0.02)
        raise self._no_boot()

    def _wait_for_systemd(self, deadline: float) -> None:
        is_up = ["systemctl", "is-system-running", "--wait"]
        while self.is_running and (left := deadline - time.monotonic()) > 0:
            # It fails at once if the bus is not there yet.
            state = self.run(is_up, check=False, timeout=left).stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.05)
        raise self._no_boot()

    def _no_boot(self) -> MachineError:
        lines = self._console.read_text(errors="replace").splitlines()[-30:]
        return MachineError("\n".join([f"{self.name} did not boot; its console:", *lines]))

    def _ended(self, timeout: float) -> None:
        nspawn, self._nspawn, self._leader = self._nspawn, None, 0
        assert nspawn is not None
        try:
            nspawn.wait(timeout)
        except subprocess.TimeoutExpired:
            nspawn.kill()
            nspawn.wait()
            raise MachineError(f"{self.name} did not end within {timeout} s") from None

    def _run(
        self,
        command: Sequence[str],
        data: str | bytes | None,
        seconds: float,
        env: Mapping[str, str],
    ) -> subprocess.CompletedProcess[bytes]:
        # timeout(1) ends the command inside: killing nsenter from here would leave it running.
        limited = ["timeout", "--kill-after=2", str(seconds), *command]
        done = subprocess.run(
            self._entering(limited),
            env=_environment(env),
            input=os.fsencode(data) if data is not None else b"",
            capture_output=True,
            timeout=seconds + 10,
            check=False,
        )
        if done.returncode in (124, 137) and self.is_running:
            raise subprocess.TimeoutExpired(list(command), seconds, done.stdout, done.stderr)
        return done
