"""The package's own rules, read from its syntax trees: rooms, small functions, docstrings."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import pf_agent
from tests.checkout import CHECKOUT

PACKAGE = Path(pf_agent.__file__).parent
# By room and name: `words.status`. What is in no room is the ground.
TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(
        path.read_text(encoding="utf-8")
    )
    for path in PACKAGE.rglob("*.py")
}
GROUND = frozenset({"__init__", "names", "errors", "model"})

# What each room may import, besides itself and the ground. docs/architecture.md says why.
ROOMS: dict[str, frozenset[str]] = {
    "maincf": frozenset(),
    "config": frozenset({"maincf"}),
    "words": frozenset({"maincf", "config"}),
    "reconcile": frozenset({"maincf", "words"}),
    "activation": frozenset({"maincf", "words"}),
    "files": frozenset({"maincf", "config", "words"}),
    "watch": frozenset(),
    "postfix": frozenset({"maincf", "words"}),
    "bus": frozenset({"words"}),
    "reporting": frozenset({"words"}),
}
EFFECTS = frozenset({"files", "watch", "postfix", "bus", "reporting"})
ROOMS["daemon"] = frozenset(ROOMS)
ROOMS["cli"] = frozenset(ROOMS)
PURE = frozenset({"maincf", "config", "words"})
DECIDES = frozenset({"reconcile", "activation"})

# All that pure code may import from elsewhere: nothing here reads, writes or asks the time.
PURE_LIBRARIES = frozenset(
    [
        "__future__",
        "abc",
        "collections",
        "dataclasses",
        "datetime",
        "difflib",
        "enum",
        "fnmatch",
        "functools",
        "hashlib",
        "ipaddress",
        "json",
        "posixpath",
        "re",
        "shlex",
        "tomli",
        "tomlkit",
        "typing",
        "unicodedata",
    ]
)
# Who decides is handed what touches the machine; clocks are arguments that have a default.
DECIDING_LIBRARIES = PURE_LIBRARIES | {"contextlib", "threading", "time", "weakref"}
# Where pure code would reach for the world without importing anything, or for the clock.
IMPURE_CALLS = frozenset({"open", "print", "input", ".now", ".utcnow", ".today"})

MOST_LINES = 40


def room_of(module: str) -> str:
    """The folder that the module stands in, "" for the ground."""
    return module.rpartition(".")[0]


@cache
def imports(module: str) -> tuple[tuple[str, str], ...]:
    """Each import in the module, those inside functions too: (library, module of ours or "")."""
    found = []
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                library, _, ours = alias.name.partition(".")
                found.append((library, ours))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: write `from pf_agent.room import`"
            library, _, ours = (node.module or "").partition(".")
            for alias in node.names:
                named = ".".join(filter(None, [ours, alias.name]))
                found.append((library, named if named in TREES else ours))
    return tuple(found)


def imported_of_ours(module: str) -> frozenset[str]:
    """The modules of ours that it imports; a room by itself is none."""
    found = {ours for library, ours in imports(module) if library == "pf_agent"}
    return frozenset(found & TREES.keys())


def is_pure(module: str) -> bool:
    """Whether it stands where all is pure, or calls itself pure."""
    first = (ast.get_docstring(TREES[module]) or "").partition("\n")[0]
    return room_of(module) in PURE or first.lower().rstrip(".").endswith("pure")


@cache
def called(module: str) -> frozenset[str]:
    """What the module calls: `open` for a plain name, `.now` for an attribute of anything."""
    heads = [node.func for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)]
    plain = {head.id for head in heads if isinstance(head, ast.Name)}
    return frozenset(plain | {f".{head.attr}" for head in heads if isinstance(head, ast.Attribute)})


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, tree in sorted(TREES.items()):
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield module, node


def test_every_module_is_in_a_room_or_of_the_ground() -> None:
    assert {room_of(module) for module in TREES} == {"", *ROOMS}
    assert {module for module in TREES if not room_of(module)} == GROUND


def test_no_arrow_runs_up() -> None:
    for room, below in ROOMS.items():
        above = list(ROOMS)[list(ROOMS).index(room) :]
        assert not below.intersection(above), room
    assert not any(ROOMS[room] & EFFECTS - {room} for room in EFFECTS | DECIDES)


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_imports_what_its_room_may(module: str) -> None:
    room = room_of(module)
    allowed = ROOMS[room] | {room, ""} if room else {""}
    wrong = {ours for ours in imported_of_ours(module) if room_of(ours) not in allowed}
    assert not wrong


@pytest.mark.parametrize("module", sorted(filter(is_pure, TREES)))
def test_pure_touches_nothing(module: str) -> None:
    assert {library for library, _ in imports(module)} <= PURE_LIBRARIES | {"pf_agent"}
    assert not called(module) & IMPURE_CALLS


@pytest.mark.parametrize("module", sorted(m for m in TREES if room_of(m) in DECIDES))
def test_who_decides_is_handed_what_touches_the_machine(module: str) -> None:
    assert {library for library, _ in imports(module)} <= DECIDING_LIBRARIES | {"pf_agent"}
    assert not called(module) & {"open", "print", "input"}


@pytest.mark.parametrize("module", sorted(m for m in TREES if room_of(m) in EFFECTS))
def test_effects_neither_log_nor_print(module: str) -> None:
    if module == "reporting.journal":
        return
    libraries = {library for library, _ in imports(module)}
    assert not libraries & {"logging", "structlog", "syslog"}
    assert "print" not in called(module)


def test_subprocesses_start_in_one_module() -> None:
    users = {module for module in TREES if "subprocess" in {name for name, _ in imports(module)}}
    assert users == {"postfix.programs"}


# By what text leaves a process, and where that is: all of it comes from words/outgoing.py. The
# command prints where it likes, to streams that cli/main.py has put before the real ones.
WAYS_OUT: dict[str, frozenset[str]] = {
    ".sendto": frozenset({"reporting.native"}),
    "send_record": frozenset({"reporting.journal"}),
    # The journal's is structlog's, the endpoint has what `Sinks` let out, the last asks the kernel.
    ".send": frozenset(
        ["bus.sd_notify", "reporting.journal", "reporting.endpoint", "postfix.netlink"]
    ),
    ".send_fds": frozenset({"reporting.native", "postfix.errands_unit"}),
    ".sendall": frozenset(
        # The gate passes on what GDBus has made of what agent1 let out.
        ["bus.gate", "postfix.errands_unit", "postfix.errands", "postfix.log", "postfix.probe"]
    ),
    ".emit_signal": frozenset({"bus.link"}),
    ".write_status": frozenset({"daemon.shown_status"}),  # what the loop let out already
    "sd_notify": frozenset({"daemon.loop"}),
    "print": frozenset({"reporting.journal", "daemon.progress"}),
}
# What goes these ways is handed on by one of these.
OUTLETS = frozenset(
    [
        *("reporting.journal", "reporting.sinks", "bus.agent1", "daemon.loop"),
        *("postfix.errands_unit", "cli.main", "cli.verbs_look", "cli.verbs_status"),
    ]
)
# Who reads what may hold a secret: main.cf, master.cf, our own files, the command line.
READERS = frozenset(
    [
        *("files.nature", "files.trusted", "files.configuration", "files.store"),
        *("files.wishes_file", "postfix.candidates", "cli.verbs_wish"),
        *("cli.explained_services", "files.other_documents"),
    ]
)
# Who cuts or folds what is told, and looks for secrets before that.
CUTTERS = frozenset({"postfix.judge", "postfix.log", "words.sentences", "cli.tables"})
OUTGOING = "words.outgoing"


def test_text_leaves_by_known_ways_alone() -> None:
    for way, users in WAYS_OUT.items():
        found = {m for m in TREES if way in called(m) and room_of(m) != "cli"}
        assert found == users, f"{way}: have what leaves there come from {OUTGOING}"
    used = {m for m in TREES if OUTGOING in imported_of_ours(m)}
    assert used == OUTLETS | READERS | CUTTERS


def test_json_is_printed_once_it_was_looked_through() -> None:
    """A line of JSON that is looked through as a line may be cut within a string."""
    for module in (module for module in TREES if room_of(module) == "cli"):
        for node in ast.walk(TREES[module]):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("json.dump", "json.dumps"):
                assert ast.unparse(node).startswith("json.dumps(PROCESS.document("), module


def test_no_function_has_a_second_job_inside() -> None:
    long = {
        f"{module}.{node.name}": lines
        for module, node in functions()
        if (lines := (node.end_lineno or 0) - node.lineno + 1) >= MOST_LINES
    }
    assert long == {}


@pytest.mark.parametrize("module", sorted(TREES))
def test_a_module_says_its_one_job_in_its_first_line(module: str) -> None:
    first = (ast.get_docstring(TREES[module]) or "").partition("\n")[0]
    assert first.endswith(".")
    assert len(first.split()) > 3


def patched(tree: ast.AST) -> Iterator[str]:
    """What a test puts something else in place of: the first part of each name."""
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if node.func.attr == "setattr":
            target = node.args[0]
            while isinstance(target, ast.Attribute):
                target = target.value
            yield ast.unparse(target).strip("\"'").partition(".")[0]


def test_no_test_patches_what_is_ours() -> None:
    """A limit is an argument with a default; only a call of Python's own may be made to fail."""
    found = {
        (str(path.relative_to(CHECKOUT)), name)
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        if "setattr" in (text := path.read_text(encoding="utf-8"))
        for name in patched(ast.parse(text))
    }
    assert {name for _, name in found} <= {"os", "time", "threading"}, found
    assert ("tests/unit/files/test_power.py", "os") in found, "else it looks at nothing"


def test_the_rules_see_what_they_forbid() -> None:
    """A rule that looks at nothing would pass for ever."""
    assert {"open", ".Popen"} <= called("postfix.programs")
    assert "subprocess" in {library for library, _ in imports("postfix.programs")}
    assert {"daemon.parts", "activation.ports", "names"} <= imported_of_ours("daemon.instance")
    assert "print" in called("reporting.journal")
    assert is_pure("activation.steps")
    assert not is_pure("activation.activation")


def test_status_starts_without_what_it_does_not_need() -> None:
    code = "import sys; from pf_agent.cli.main import main; main(['status']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    loaded = set(done.stdout.split())
    assert {"pf_agent.cli.main", "pf_agent.cli.verbs_status"} <= loaded
    heavy = {"asyncio", "ctypes", "gi", "structlog", "systemd", "tomli", "watchdog"}
    ours = {"config.desired", "maincf.document", "maincf.values"}
    assert not loaded & {*heavy, *(f"pf_agent.{module}" for module in ours)}
