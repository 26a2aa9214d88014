"""The documents name all there is, lead to files that exist, and hide no command from the tests."""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath

import pytest

from pf_agent import names
from pf_agent.cli import main
from pf_agent.errors import ExitCode
from pf_agent.model import (
    ORDERS,
    Applied,
    Drift,
    DriftKind,
    Event,
    LastDrift,
    Outcome,
    Phase,
    Result,
    Status,
    Suspension,
)
from pf_agent.words import history, orders
from pf_agent.words.fields import applied_dict, drift_dict
from pf_agent.words.history import Entry
from pf_agent.words.rebuilds import rebuild_dict, rebuilds
from pf_agent.words.status import status_dict
from tests.checkout import CHECKOUT
from tests.documents import (
    FILE,
    KINDS,
    NOT_RUN,
    RUN,
    Block,
    blocks,
    commands,
    documents,
    prose_of,
    text_of,
)

OPERATORS = [
    f"docs/{name}.md"
    for name in (
        "first-steps",
        "adopting",
        "keeping",
        "living-with-others",
        "events",
        "monitoring",
        "json",
        "status-file",
        "repository",
        "uninstalling",
    )
]
# What no machine runs, and why: it needs a checkout, an archive, a terminal, a program that is not
# in the machine, or does not end.
NOT_RUN_ANYWHERE = {
    "README.md": [
        "sudo tools/demo",
        "sudo tools/demo --page",
        "sudo tools/test",
        "tools/deb",
        "sudo apt install ./dist/pf-agent_*_all.deb",
    ],
    "docs/cockpit.md": ["sudo tools/demo --page", "apt-get install -y cockpit-pf-agent"],
    "docs/contributing.md": [
        "sudo tools/test lint",
        "sudo tools/test unit",
        ".cache/venv/bin/python -m pytest -q tests/unit/reconcile",
        ".cache/lint/bin/ruff check",
        ".cache/lint/bin/ruff format",
        ".cache/lint/bin/mypy",
        "sudo DEB_BUILD_OPTIONS=nocheck DEB_BUILD_PROFILES=nocheck tools/deb",
        "sudo python3 -m tests.machine --installed trixie",
        "sudo python3 -m tests.machine bookworm python3 -m pytest -q tests/unit/postfix",
        "sudo PF_AGENT_RELEASES=trixie .cache/venv/bin/python -m pytest -q"
        " tests/machine/test_wish.py",
        "sudo PF_AGENT_RELEASES=trixie .cache/venv/bin/python -m pytest -q --pdb"
        " tests/machine/test_wish.py",
        "tools/release --check",
        "tools/release",
        "tools/deb",
        "tools/reproducible",
        "lintian --fail-on error,warning dist/pf-agent_*.changes",
    ],
    "docs/first-steps.md": ["apt install ./pf-agent_*_all.deb"],
    # tests/machine/test_keeping.py runs it, with a cycle of its own.
    "docs/keeping.md": ["pf-agent adopt --cycle 17 mynetworks"],
    "docs/monitoring.md": [
        "curl http://127.0.0.1:9825/metrics",
        "promtool check rules pf-agent.rules.yml",
        "busctl monitor org.pfagent.Agent1",
    ],
    # tests/machine/test_repository.py runs those of the hosts, from a repository of its own.
    "docs/repository.md": [
        'gpg --quick-generate-key "Packages <packages@example.org>" ed25519 sign never',
        "tools/deb",
        "tools/apt-repo --output /srv/packages --url https://packages.example.org"
        " --key packages@example.org --valid-days 30",
        "rsync -a --exclude InRelease --exclude 'Release*' /srv/packages/ web:/var/www/packages/",
        "rsync -a --delete-after /srv/packages/ web:/var/www/packages/",
        "/usr/lib/apt/apt-helper download-file"
        " https://packages.example.org/pf-agent-archive-keyring.gpg"
        " /etc/apt/keyrings/pf-agent-archive-keyring.gpg",
        "/usr/lib/apt/apt-helper download-file https://packages.example.org/pf-agent.sources"
        " /etc/apt/sources.list.d/pf-agent.sources",
        "apt-get update",
        "apt-get install -y pf-agent",
    ],
}
ALL = "\n".join(map(text_of, documents()))


def all_keys() -> list[str]:
    """Every key of the three files, by pf-agent.toml(5), which other tests hold to the code."""
    page = text_of("docs/pf-agent.toml.5.scd").replace("\\", "")
    return re.findall(r"^\*([a-z_]+)\*$", page, flags=re.MULTILINE)


def all_verbs(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    return re.findall(r"^ {4}([a-z]+) {2,}\S", capsys.readouterr().out, flags=re.MULTILINE)


def test_every_event_has_its_section_and_no_section_is_about_another() -> None:
    headings = re.findall(r"^## (.+)$", text_of("docs/events.md"), flags=re.MULTILINE)
    found = [event for heading in headings for event in heading.split(", ")]
    assert sorted(found) == sorted(event.value for event in Event)


def test_every_verb_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = all_verbs(capsys)
    assert "history" in verbs
    assert [verb for verb in verbs if f"| `pf-agent {verb}" not in text_of("README.md")] == []


def test_every_key_is_named() -> None:
    keys = all_keys()
    assert {"settings", "window", "textfile", "unit"} <= set(keys)
    assert [key for key in keys if not re.search(rf"\b{key}\b", ALL)] == []


def test_every_exit_code_is_named() -> None:
    for code in ExitCode:
        assert f"\n| {code.value} | " in text_of("README.md")


@pytest.mark.parametrize("path", documents())
def test_every_link_leads_to_a_file(path: str) -> None:
    folder = PurePosixPath(path).parent
    for target in re.findall(r"\]\(([^)]+)\)", prose_of(path)):
        if not target.startswith("https://"):
            assert (CHECKOUT / folder / target.partition("#")[0]).is_file(), target


@pytest.mark.parametrize("path", documents())
def test_every_block_is_of_a_known_kind(path: str) -> None:
    assert {block.kind for block in blocks(path)} <= KINDS
    assert "```" not in prose_of(path)
    assert not re.search(r"\n\n(?: {4}|\t)\S", prose_of(path)), "a block without a fence"


@pytest.mark.parametrize("path", documents())
def test_what_no_machine_runs_is_listed(path: str) -> None:
    found = [c.bare for b in blocks(path) if b.kind == NOT_RUN for c in commands(b)]
    assert found == NOT_RUN_ANYWHERE.get(path, [])


@pytest.mark.parametrize("path", documents())
def test_a_command_is_one_line_for_root(path: str) -> None:
    for block in blocks(path):
        if block.kind == RUN:
            assert list(commands(block))
            for command in commands(block):
                assert not command.text.startswith(("$ ", "sudo ", " "))
                assert not command.text.endswith("\\")


def test_a_command_may_promise_another_exit_code_than_0() -> None:
    text = "pf-agent diff   # exits with 3 on drift\n\n# a comment\npf-agent check\n"
    found = [dataclasses.astuple(command) for command in commands(Block(RUN, text, 1))]
    assert found == [("pf-agent diff   # exits with 3 on drift", 3), ("pf-agent check", 0)]


def test_a_block_that_begins_with_a_path_is_that_file() -> None:
    path = "/etc/pf-agent/agent.toml"
    assert Block(FILE, f'# {path}\nmode = "observe"\n', 1).path == path
    assert Block(FILE, f"# {path}, shortened\n", 1).path == ""
    assert Block("text", f"# {path}\n", 1).path == ""


@pytest.mark.parametrize("path", OPERATORS)
def test_a_page_for_operators_is_short_and_linked(path: str) -> None:
    assert text_of(path).count("\n") < 80
    assert f"]({path})" in text_of("README.md")


def test_the_documents_are_installed() -> None:
    installed = text_of("debian/pf-agent.docs").split()
    assert {*OPERATORS, "README.md", "SECURITY.md"} <= set(installed)


def test_an_order_and_a_rebuild_have_the_members_of_a_cycle() -> None:
    (past,) = history.cycles([Entry(0.0, Event.DRIFT_DETECTED, "", {names.FIELD_CYCLE: "1"})])
    (order,) = orders.orders([Entry(0.0, Event.SET, "", {})])
    (rebuild,) = rebuilds([Entry(0.0, Event.TABLE_REBUILT, "", {})])
    members = history.cycle_dict(past, "1").keys()
    assert members == orders.order_dict(order).keys() == rebuild_dict(rebuild).keys()


def json_members() -> dict[str, set[str]]:
    """What the code prints, by the heading under which docs/json.md tells of it."""
    drift = Drift("a", DriftKind.CHANGED, "1", "2", 1)
    status = Status(
        Phase.IN_SYNC, 0.0, last=LastDrift(1, 0.0, ()), suspension=Suspension(0.0, None, "", "")
    )
    found = status_dict(status, 0.0)
    past = history.cycles([Entry(0.0, Event.DRIFT_DETECTED, "", {names.FIELD_CYCLE: "1"})])
    given = {event.value for event in ORDERS}
    rebuild = rebuild_dict(rebuilds([Entry(0.0, Event.TABLE_REBUILT, "", {})])[0])
    outcome = Outcome(Result.CORRECTED, "")
    applied = {*applied_dict(Applied("-", outcome, "")), *drift_dict(drift)}
    return {
        "Members": {*found, *found["last_drift"], *found["suspension"]},
        "diff and apply": {*applied, "instances", *(kind.value for kind in DriftKind)},
        "history": {*given, *history.cycle_dict(past[0], "1"), *rebuild["table"]},
    }


@pytest.mark.parametrize(
    ("page", "heading"),
    [("status-file", "Members"), ("json", "diff and apply"), ("json", "history")],
)
def test_every_member_of_the_json_is_told_of(page: str, heading: str) -> None:
    section = text_of(f"docs/{page}.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([\w.-]+)`", section))
    assert json_members()[heading] <= told


@pytest.mark.parametrize("path", [*OPERATORS, "README.md", "SECURITY.md", "units/pf-agent.catalog"])
def test_no_advice_shows_what_anybody_wrote_into_the_journal(path: str) -> None:
    """Without -u or _UID=0 a forged record is shown, with our own text beside it."""
    said = "\n".join(line for line in text_of(path).splitlines() if not line.startswith("# "))
    commands = re.findall(r"journalctl [^`\n\"#|]*", said)
    assert [c for c in commands if not re.search(r"_UID=0| -\w*u ", f"{c} ")] == []


def test_the_mail_shows_only_what_root_wrote() -> None:
    lines = text_of("units/mail-root").splitlines()
    asking = [
        line for line in lines if "journalctl -" in line and not line.lstrip().startswith("#")
    ]
    assert [line for line in asking if "_UID=0" not in line and "--sync" not in line] == []
    assert len(asking) >= 3
