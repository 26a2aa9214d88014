"""Postfix's own programs: judge a candidate, and tell what Postfix must greet with.

Every subprocess of the agent starts here, in `run`: by an absolute path, without a shell, with a
clean environment, in a process group of its own that is killed as a whole, within a time limit.
"""

from __future__ import annotations

import errno
import os
import selectors
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import IO, NamedTuple

from pf_agent.errors import HostError
from pf_agent.maincf import master_cf
from pf_agent.maincf.document import COOL_SECONDS, MainCf, decoded
from pf_agent.maincf.master_cf import Service
from pf_agent.maincf.secrets import secrets, without
from pf_agent.model import Greeting, Judgement, MailLog
from pf_agent.postfix import complaints, port_25, questions
from pf_agent.postfix.master import lives
from pf_agent.postfix.own_addresses import own_addresses

POSTCONF = "/usr/sbin/postconf"
POSTMAP = "/usr/sbin/postmap"

_COMMAND_SECONDS = 30.0
# Where a value is made to be expanded to gigabytes, a judgement has no end by itself.
_JUDGE_SECONDS = 10.0
# smtpd has no verdict where a table makes it wait; it is not worth more of the correction's time.
_SMTPD_SECONDS = 2.0
# What master reads itself: the `-o` options of a service do not change it.
_MASTER_NAMES = ("inet_interfaces", "inet_protocols", "master_service_disable")
_SMTP_PORT = 25
_CLEAN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_CANDIDATE = "judge-"
_PIPE_BYTES = 1 << 16
# Three times what it prints of a main.cf as large as may be. One that never ends its output must
# not take the agent's memory.
_MOST_BYTES = 64 << 20
# Of all arguments of a program; execve(2) takes no more than twice that for one.
_MOST_ARGUMENTS = 1 << 16
_MOST_MASTER_CF = 1 << 20  # Debian's has 7 kB
# What keeps a program from being started.
_CURES = {
    errno.ENOENT: "install the package postfix",
    errno.EMFILE: "see LimitNOFILE= in systemd.exec(5)",
    errno.ENFILE: "raise fs.file-max",
    errno.EAGAIN: "see TasksMax= in systemd.resource-control(5)",
    errno.ENOMEM: "free memory",
    errno.EIO: "look at the disk",
}


class Postfix:
    """The Postfix that obeys the main.cf in `directory`; candidates lie below `run_directory`."""

    def __init__(self, directory: str, run_directory: str) -> None:
        self._directory = directory
        self._run_directory = run_directory
        self._defaults: dict[str, str] = {}
        self._defaults_of: tuple[int, int] | None = None

    def judge(self, text: bytes) -> Judgement:
        """Have Postfix's own programs read `text` in a private folder; raises HostError.

        Three at once, 8 ms (docs/judging.md has the figures). `postconf -x` judges grammar,
        `$` and names, any postmap call the global values (mail_params_init() in
        global/mail_params.c), a stand-alone smtpd all that it would die of before it greets. What
        other daemons read, no program judges before they run: values.py does. aliases.py looks for
        the files of the aliases.
        """
        main_cf = MainCf.parse(text)
        with self._candidate(text) as (folder, master):
            said = complaints.Folders(folder, self._directory)
            answers = run(self._questions(main_cf, folder, master))
        if any(answer.mute for answer in answers):
            self._prove_sound(answers)
        syntax, *others = answers
        told = _teller(main_cf)
        if syntax.failed:
            return Judgement(told(complaints.reason(syntax.complaint, said)))
        effective = _settings(said.named(syntax.output))
        faults = questions.faults(main_cf, effective, os.path.exists)
        lines = said.lines(syntax.complaint)
        for answer in others[1:] if not others[0].failed else ():
            heard = said.lines(answer.complaint)
            lines += questions.told_by_smtpd(heard, effective, faults, os.path.exists)
        reasons = [complaints.reason(a.complaint, said) for a in others if a.failed]
        fatal = next((why for why in reasons if not questions.served_nobody(why)), "")
        warnings = self._warnings(main_cf, [line for line in lines if line != fatal])
        return Judgement(
            told(fatal),
            tuple(map(told, warnings)),
            tuple(replace(fault, reason=told(fault.reason)) for fault in faults),
        )

    def greeting(self) -> Greeting | None:
        """Return what port 25 must say, where Postfix has an SMTP service there; else None.

        master.cf names it, and `master_service_disable` may switch it off, as it does in a new
        instance of postmulti(1). The `-o` options of the service count. Raises HostError.
        """
        listed, told = self._ask(["-M"], ["-x", *_MASTER_NAMES])
        found = questions.settings(told)
        running = master_cf.enabled(master_cf.parse(listed), found["master_service_disable"])
        service = master_cf.on_port_25(running)
        if service is None:
            return None
        outer = inner = self._settings_of(service)
        smtpd = master_cf.behind(service, running, outer["smtpd_service_name"])
        if smtpd is not service:
            inner = self._settings_of(smtpd)
        interfaces, protocols = found["inet_interfaces"], found["inet_protocols"]
        asked = port_25.address(service.address, interfaces, protocols)
        return Greeting(
            asked,
            _SMTP_PORT,
            " ".join(inner["smtpd_banner"].split()),
            proxy=port_25.wants_proxy(service.program, outer),
            tls=port_25.demands_tls(inner),
            stranger=port_25.stranger(
                asked,
                service.address or interfaces,
                protocols,
                inner["mynetworks"],
                own_addresses(),
            ),
            wrapped=port_25.is_wrapped(service.program, outer),
        )

    def _settings_of(self, service: Service) -> dict[str, str]:
        """What the service is told, its options over main.cf. Raises HostError."""
        options = [word for setting in service.overrides() for word in ("-o", setting)]
        (told,) = self._ask(["-x", *options, *port_25.NAMES])
        return questions.settings(told)

    def lives(self) -> bool:
        """Tell whether Postfix's master runs, whoever started it. Raises HostError.

        It is looked for at the queue that main.cf names now.
        """
        (told,) = self._ask(["-xh", "queue_directory"])
        return lives(told.strip())

    def mail_log(self) -> MailLog:
        """Where it logs, by the main.cf that is there; the default where that cannot be told."""
        try:
            (told,) = self._ask(["-x", "maillog_file", "syslog_name", "mail_owner"])
        except HostError:
            return MailLog()
        found = questions.settings(told)
        return MailLog(found["maillog_file"], found["syslog_name"], found["mail_owner"])

    def default_of(self, name: str) -> str | None:
        """Return the installed Postfix's default of a parameter, None for one that it has not.

        Raises HostError.
        """
        return self._known().get(name)

    def tidy(self) -> None:
        """Remove the candidates that a crash left: whose process is no more, or has our pid.

        Call it before the first judgement. Raises HostError.
        """
        try:
            for name in os.listdir(self._run_directory):
                pid = name.removeprefix(_CANDIDATE).partition("-")[0]
                is_candidate = name.startswith(_CANDIDATE) and pid.isdecimal()
                if is_candidate and (pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}")):
                    _remove(os.path.join(self._run_directory, name))
        except OSError as error:
            raise HostError(f"{error.filename}: {error.strerror}; mend the folder") from error

    @contextmanager
    def _candidate(self, text: bytes) -> Iterator[tuple[str, str]]:
        """A private folder with `text` for main.cf; and the text of master.cf. Raises HostError.

        /run is small, and anybody's program may fill it. The drift must not stand for that.
        """
        with ExitStack() as stack:
            try:
                found = stack.enter_context(self._filled(text, self._run_directory))
            except OSError:
                try:
                    found = stack.enter_context(self._filled(text, None))
                except OSError as error:
                    place = f"{self._run_directory}, and {tempfile.gettempdir()}"
                    raise HostError(f"{place}: {error.strerror}; free space") from error
            yield found

    @contextmanager
    def _filled(self, text: bytes, place: str | None) -> Iterator[tuple[str, str]]:
        prefix = f"{_CANDIDATE}{os.getpid()}-"
        folder = tempfile.mkdtemp(prefix=prefix, dir=place)
        try:
            candidate = os.path.join(folder, "main.cf")
            with open(candidate, "wb") as file:
                file.write(text)
            cool = time.time() - COOL_SECONDS
            os.utime(candidate, (cool, cool))
            # Names made of a service's name (smtp_destination_...) are known by master.cf alone.
            master = _read(os.path.join(self._directory, "master.cf"))
            if master is not None:
                with open(os.path.join(folder, "master.cf"), "wb") as file:
                    file.write(master)
            yield folder, decoded(master or b"")
        finally:
            for _ in range(2):  # where one call fails, the next may not; systemd removes the rest
                shutil.rmtree(folder, ignore_errors=True)

    def _questions(self, main_cf: MainCf, folder: str, master: str) -> list[Order]:
        orders = [
            Order([POSTCONF, "-c", folder, "-x"], seconds=_JUDGE_SECONDS),
            Order(
                [POSTMAP, "-c", folder, "-q", "x", "static:y"], questions.UNLOGGED, _JUDGE_SECONDS
            ),
        ]
        smtpd = self._smtpd(main_cf, master, folder)
        return [*orders, smtpd] if smtpd is not None else orders

    def _prove_sound(self, answers: Sequence[Answer]) -> None:
        """Raise HostError where a program fails in the same way on an empty main.cf.

        One that crashed, or found no library while its package is being replaced, says nothing of
        the text: that must not be refused for it.
        """
        with self._candidate(b"") as (folder, master):
            controls = run(self._questions(MainCf.parse(b""), folder, master))
        for answer, control in zip(answers, controls, strict=False):
            if answer.mute and control.mute:
                raise _broken(control.program, control.mute)

    def _smtpd(self, main_cf: MainCf, master: str, folder: str) -> Order | None:
        """How to ask smtpd; None where master.cf runs none, or it cannot be told which it is.

        It is the installed Postfix's own: a text does not say which program root runs.
        """
        explicit = main_cf.parameters()
        disabled = explicit.get("master_service_disable", "")
        service = master_cf.smtp_server(master_cf.enabled(master_cf.parse(master), disabled))
        if service is None:
            return None
        installed = self._known()["daemon_directory"]
        program = os.path.join(installed, "smtpd")
        is_own = explicit.get("daemon_directory", installed) == installed
        if not is_own or not os.access(program, os.X_OK):
            return None
        arguments = questions.smtpd_arguments(service, explicit, self._directory)
        if sum(map(len, arguments)) > _MOST_ARGUMENTS:
            return None
        environment = {"MAIL_CONFIG": folder, **questions.UNLOGGED}
        return Order([program, *arguments], environment, _SMTPD_SECONDS, is_optional=True)

    def _warnings(self, main_cf: MainCf, lines: Sequence[str]) -> list[str]:
        places = {
            logical.parameter.name: logical.line
            for logical in main_cf.logical_lines
            if logical.parameter is not None
        }
        known = self._known() if complaints.has_unknown(lines) else ()
        return complaints.warnings(lines, places, known)

    def _known(self) -> Mapping[str, str]:
        """The parameters of the installed Postfix with their defaults, asked for once."""
        now = _version(POSTCONF)
        if not self._defaults or now != self._defaults_of:
            self._defaults = _settings(self._ask(["-d"])[0])
            self._defaults_of = now
        return self._defaults

    def _ask(self, *asked: Sequence[str]) -> list[str]:
        answers = run([Order([POSTCONF, "-c", self._directory, *words]) for words in asked])
        for answer in answers:
            if answer.mute:
                raise _broken(POSTCONF, answer.mute)
            if answer.failed:
                why = complaints.unquoted(complaints.bounded(complaints.reason(answer.complaint)))
                raise HostError(f"postconf: {why}")
        return [answer.output for answer in answers]


def _teller(main_cf: MainCf) -> Callable[[str], str]:
    """How what is said of main.cf may be told: without its secrets, and at no great length."""
    hidden = secrets(main_cf.parameters().items())
    return lambda words: complaints.bounded(without(words, hidden))


def _settings(output: str) -> dict[str, str]:
    """What postconf prints of all parameters. Raises HostError where it is not that."""
    found = questions.settings(output)
    if "mail_version" not in found:
        raise _broken(POSTCONF, "it printed no parameters")
    return found


def _read(path: str) -> bytes | None:
    """Return a file's bytes; None where there is none, or what no Postfix program could run with.

    A FIFO would hold us up until somebody writes to it, an endless file take our memory.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST_MASTER_CF:
            return None
        leads_elsewhere = found.st_nlink > 1 or os.path.islink(path)
        if leads_elsewhere and not found.st_mode & stat.S_IROTH:
            return None  # what Postfix says of it goes on record
        return os.read(handle, _MOST_MASTER_CF)
    finally:
        os.close(handle)


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def _version(program: str) -> tuple[int, int] | None:
    try:
        found = os.stat(program)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


class Order(NamedTuple):
    """A program to run. `is_optional`: where it does not end in time, it has said nothing."""

    command: Sequence[str]
    environment: Mapping[str, str] = {}
    seconds: float = _COMMAND_SECONDS
    is_optional: bool = False


class Answer(NamedTuple):
    """What a program wrote; `failed`: it ended, and not well.

    `mute` is how it ended where that was not well, and without a word of Postfix's own on why.
    """

    program: str
    failed: bool
    output: str
    complaint: str
    mute: str = ""


def _pipe(ours: ExitStack, its: ExitStack) -> tuple[IO[bytes], IO[bytes]]:
    """A pipe: the end to read from and the one to write to, each closed with its stack."""
    reading, writing = os.pipe()
    return ours.enter_context(open(reading, "rb")), its.enter_context(open(writing, "wb"))


class _Running:
    """A program that runs, and what it has written so far."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.deadline = time.monotonic() + order.seconds
        self.is_doomed = False
        self.given_up = ""
        self._searched = 0
        # Not Popen's own pipes: where it cannot get both, it leaves the first one open for ever.
        with ExitStack() as ours, ExitStack() as its:
            try:
                (output, to_output), (self._stderr, to_stderr) = (
                    _pipe(ours, its) for _ in range(2)
                )
                self._process = subprocess.Popen(
                    order.command,
                    stdin=subprocess.DEVNULL,
                    stdout=to_output,
                    stderr=to_stderr,
                    cwd="/",
                    env={**_CLEAN, **order.environment},
                    start_new_session=True,
                )
            except OSError as error:
                cure = _CURES.get(error.errno or 0, "look at what stands there")
                raise HostError(f"{order.command[0]}: {error.strerror}; {cure}") from error
            self.written = {output: bytearray(), self._stderr: bytearray()}
            ours.pop_all()

    def hear(self, pipe: IO[bytes]) -> bool:
        """Take what stands in `pipe`; tell whether more may come."""
        heard = os.read(pipe.fileno(), _PIPE_BYTES)
        written = self.written[pipe]
        written += heard
        if len(written) > _MOST_BYTES:
            self.give_up(f"more than {_MOST_BYTES} bytes of output")
            return False
        if pipe is self._stderr:
            whole_lines = written.rfind(b"\n") + 1
            if complaints.FATAL.search(written, self._searched, whole_lines):
                # The reason is there; what is left is the second of sleep of msg_fatal().
                self._kill()
                self.is_doomed = True
            self._searched = whole_lines
        return bool(heard)

    def give_up(self, why: str = "") -> None:
        """Hear no more of it; where no reason is given, since its time is over."""
        self._kill()
        self.given_up = why or f"no end after {self.order.seconds:.0f} s"

    def answer(self) -> Answer:
        """What it came to. What is optional and was given up has said nothing."""
        program = self.order.command[0]
        # One that has closed its pipes may go on all the same.
        if not self.given_up and not self._ends_in_time():
            self.give_up()
        if self.given_up and self.order.is_optional:
            return Answer(program, False, "", "")
        if self.given_up:
            name = os.path.basename(program)
            complaint = f"{name}: fatal: {self.given_up}, {name} was killed\n"
            return Answer(program, True, "", complaint, self.given_up)
        output, complaint = (
            text.decode("utf-8", "backslashreplace") for text in self.written.values()
        )
        code = self._process.returncode
        has_said_why = complaints.FATAL.search(self.written[self._stderr])
        mute = "" if code == 0 or has_said_why else _ending(code, complaint)
        if code < 0 and not self.is_doomed:
            complaint += _killed(program, -code)
        return Answer(program, code != 0, output, complaint, mute)

    def _ends_in_time(self) -> bool:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(self.deadline - time.monotonic(), 0.0))
        return self._process.returncode is not None

    def _kill(self) -> None:
        # Until it was waited for, the number is its own. What it started goes with it.
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Leave nothing of it behind."""
        self._kill()
        self._process.wait()
        for pipe in self.written:
            pipe.close()


def _ending(code: int, complaint: str) -> str:
    """How a program ended of which nothing else is known."""
    how = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    last = complaint.strip().rpartition("\n")[2]
    return f"{how}, {last}" if last else how


def _broken(program: str, how: str) -> HostError:
    return HostError(
        f"{program}: it does not work, whatever main.cf says: {how}; install postfix again"
    )


def _killed(program: str, number: int) -> str:
    """What a program that crashed would have said: postconf does where a value needs itself."""
    name = os.path.basename(program)
    return (
        f"\n{name}: fatal: {name} was ended by {signal.Signals(number).name}; does a value of"
        " main.cf stand for itself?\n"
    )


def run(orders: Sequence[Order]) -> list[Answer]:
    """Run programs side by side; one that does not end in time has failed.

    Raises HostError where one is missing.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        running = []
        for order in orders:
            program = _Running(order)
            stack.callback(program.end)
            running.append(program)
            for pipe in program.written:
                selector.register(pipe, selectors.EVENT_READ, (program, pipe))
        while open_pipes := [key.data for key in selector.get_map().values()]:
            left = min(program.deadline for program, _ in open_pipes) - time.monotonic()
            for key, _ in selector.select(max(left, 0.0)):
                program, pipe = key.data
                if not program.hear(pipe):
                    selector.unregister(pipe)
                    open_pipes.remove((program, pipe))
            # What is optional is not waited for where the verdict is there without it.
            is_decided = any(program.is_doomed for program in running)
            for program, pipe in open_pipes:
                if program.deadline < time.monotonic() or (
                    is_decided and program.order.is_optional and not program.is_doomed
                ):
                    program.give_up()
                    selector.unregister(pipe)
        return [program.answer() for program in running]
