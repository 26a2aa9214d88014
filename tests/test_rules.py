"""The package's own rules, read from its syntax trees: rings, small functions, docstrings."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pf_agent

PACKAGE = Path(pf_agent.__file__).parent
TREES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.glob("*.py")}

PURE = frozenset(
    ["model", "errors", "names", "main_cf", "toml_lines", "toml_table", "desired", "options"]
    + ["desired_json", "history", "exposition", "tally"]
    + ["drift", "masking", "pacing", "render", "status_json", "values", "lists", "parameters"]
    + ["aliases", "dropin", "complaints", "judgement", "services", "places"]
    + [
        "wishes",
        "verdict",
        "things",
        "phase",
        "unit_changes",
        "port_25",
        "replies",
        "mentions",
        "kept_wishes",
    ]
)
EFFECTS = frozenset(
    ["files", "regular_file", "postfix_lock", "sandbox"]
    + ["postfix", "exchange", "systemd", "smtp", "notify", "signals", "journal", "state", "watch"]
    + ["trust", "memory"]
    + ["writer", "metrics", "notice", "errands", "postfix_log"]
    + ["own_files", "status_file"]
    + ["authority", "bus_link", "presence", "unit_log", "dpkg", "postalias"]
    + ["own_addresses", "postfix_master"]
)
# No effects module imports another, but these: what is below says why in its docstring.
BELOW = {
    "exchange": frozenset(["files", "regular_file", "postfix_lock", "sandbox"]),
    "postfix": frozenset(["own_addresses", "postfix_master"]),
    "regular_file": frozenset(["files"]),
    "postfix_lock": frozenset(["files"]),
    "state": frozenset(["files", "own_files", "sandbox"]),
    "metrics": frozenset(["sandbox"]),
    "own_files": frozenset(["files", "sandbox"]),
    "status_file": frozenset(["own_files"]),
    "unit_log": frozenset(["postfix_log"]),
    "dpkg": frozenset(["postfix"]),
    "postalias": frozenset(["postfix"]),
}
DRIVE = frozenset(
    ["plan", "correction", "reconcile", "activation", "alias_database", "aside", "apply", "daemon"]
    + ["cli", "configuration", "instance", "rollback", "sinks", "subject", "suspension", "tables"]
    + ["verbs_act", "verbs_look", "verbs_run", "verbs_past", "verbs_status", "verbs_wish", "wish"]
    + ["arguments", "bus", "errands_unit", "lean"]
    + [
        "steps",
        "inquiry",
        "in_force",
        "parts",
        "at_hand",
        "swap",
        "activation_ports",
        "ports",
        "judge",
        "outlets",
    ]
)

# All that a pure module may import from elsewhere: nothing here reads, writes or asks the time.
PURE_LIBRARIES = frozenset(
    ["__future__", "collections", "dataclasses", "datetime", "difflib", "enum", "functools"]
    + ["fnmatch", "hashlib", "ipaddress", "json", "posixpath", "re", "tomli", "tomlkit", "typing"]
)
# Where pure code would reach for the world without importing anything, or for the clock.
IMPURE_CALLS = frozenset({"open", "print", "input", ".now", ".utcnow", ".today"})

MOST_LINES = 40


def imports(module: str) -> Iterator[tuple[str, str]]:
    """Each import in the module, those inside functions too: (library, module of ours or "")."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                library, _, ours = alias.name.partition(".")
                yield library, ours
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}.py:{node.lineno}: write `from pf_agent import`"
            library, _, ours = (node.module or "").partition(".")
            if node.module == "pf_agent":
                for alias in node.names:
                    yield library, alias.name
            else:
                yield library, ours


def imported_of_ours(module: str) -> frozenset[str]:
    found = {ours for library, ours in imports(module) if library == "pf_agent"}
    return frozenset(found & TREES.keys())


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


def test_every_module_is_in_one_ring() -> None:
    rings = [*PURE, *EFFECTS, *DRIVE]
    assert sorted(rings) == sorted(TREES.keys() - {"__init__"})


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_imports_pure(module: str) -> None:
    assert imported_of_ours(module) <= PURE


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_touches_nothing(module: str) -> None:
    assert {library for library, _ in imports(module)} <= PURE_LIBRARIES | {"pf_agent"}
    assert not called(module) & IMPURE_CALLS


@pytest.mark.parametrize("module", sorted(EFFECTS))
def test_effects_import_pure(module: str) -> None:
    assert imported_of_ours(module) <= PURE | BELOW.get(module, frozenset())


@pytest.mark.parametrize("module", sorted(EFFECTS - {"journal"}))
def test_effects_neither_log_nor_print(module: str) -> None:
    libraries = {library for library, _ in imports(module)}
    assert not libraries & {"logging", "structlog", "syslog"}
    assert "print" not in called(module)


def test_subprocesses_start_in_one_module() -> None:
    users = {module for module in TREES if "subprocess" in {name for name, _ in imports(module)}}
    assert users == {"postfix"}


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


def test_the_rules_see_what_they_forbid() -> None:
    """A rule that looks at nothing would pass for ever."""
    assert {"open", ".Popen"} <= called("postfix")
    assert "subprocess" in {library for library, _ in imports("postfix")}
    assert {"parts", "activation_ports", "names"} <= imported_of_ours("instance")
    assert "print" in called("journal")


def test_status_starts_without_what_it_does_not_need() -> None:
    code = "import sys; from pf_agent.cli import main; main(['status']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    loaded = set(done.stdout.split())
    assert {"pf_agent.cli", "pf_agent.verbs_status"} <= loaded
    heavy = {"asyncio", "ctypes", "gi", "structlog", "systemd", "tomli", "watchdog"}
    assert not loaded & (heavy | {"pf_agent.desired", "pf_agent.main_cf", "pf_agent.values"})
