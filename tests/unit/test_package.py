"""What the package, the unit, the catalog and the pages say is what the code says."""

from __future__ import annotations

import configparser
import dataclasses
import re
from pathlib import Path

import pytest

import pf_agent
from pf_agent import names
from pf_agent.cli import arguments, main
from pf_agent.errors import ExitCode
from pf_agent.model import AgentOptions, DesiredState, DriftKind, Event, Mode
from pf_agent.postfix import errands, errands_unit
from pf_agent.reporting import journal
from tests.checkout import CHECKOUT

EVENTS = [event.value for event in Event]
FIELDS = sorted(value for name, value in vars(names).items() if name.startswith("FIELD_"))
# What the reader notes, and no keys.
NOTED = ("provenance", "place")
KEYS = [
    item.name
    for item in (*dataclasses.fields(DesiredState), *dataclasses.fields(AgentOptions))
    if item.name not in NOTED
]


def read(path: str) -> str:
    return (CHECKOUT / path).read_text(encoding="utf-8")


def page(path: str) -> str:
    """A man page's source as its reader sees it: scdoc's backslashes removed."""
    return read(path).replace("\\", "")


def catalog() -> dict[str, str]:
    """units/pf-agent.catalog: MESSAGE_ID -> the entry's text."""
    parts = re.split(r"^-- ([0-9a-f]{32})\n", read("units/pf-agent.catalog"), flags=re.MULTILINE)
    ids, texts = parts[1::2], parts[2::2]
    assert len(ids) == len(set(ids)), "a MESSAGE_ID stands twice"
    return dict(zip(ids, texts, strict=True))


def unit(name: str = "pf-agent.service") -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)  # a filter of system calls has lines
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(read(f"units/{name}"))
    return parser


def verbs(capsys: pytest.CaptureFixture[str]) -> list[str]:
    with pytest.raises(SystemExit):
        main.main(["--help"])
    found = re.findall(r"^ {4}([a-z]+) {2,}\S", capsys.readouterr().out, flags=re.MULTILINE)
    assert "run" in found, "--help lists each verb on a line of its own"
    return found


def test_one_version_everywhere() -> None:
    debian = re.match(r"pf-agent \(([^)]+)\) ", read("debian/changelog"))
    newest = re.search(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert debian
    assert newest
    assert debian[1] == newest[1] == pf_agent.__version__


def test_every_event_has_a_message_id_and_a_catalog_entry() -> None:
    assert set(journal.MESSAGE_IDS) == set(Event)
    assert set(journal.MESSAGE_IDS.values()) == set(catalog())


@pytest.mark.parametrize("event", list(Event), ids=EVENTS)
def test_a_catalog_entry_explains(event: Event) -> None:
    text = catalog()[journal.MESSAGE_IDS[event]]
    header, _, body = text.partition("\n\n")
    assert re.search(r"^Subject: \S", header, flags=re.MULTILINE)
    assert re.search(r"^Documentation: man:pf-agent", header, flags=re.MULTILINE)
    assert body.strip()
    assert set(re.findall(r"@(\w+)@", text)) <= set(FIELDS)


@pytest.mark.parametrize("word", [*EVENTS, *FIELDS, *(kind.value for kind in DriftKind)])
def test_the_command_page_names_events_fields_and_kinds(word: str) -> None:
    plain = re.sub(r"(?<!\w)_|_(?!\w)|\*", "", page("docs/pf-agent.8.scd"))
    assert re.search(rf"(?<![\w-]){word}(?![\w-])", plain)


def test_the_command_page_names_verbs_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    text = page("docs/pf-agent.8.scd")
    for verb in verbs(capsys):
        assert f"*pf-agent* *{verb}*" in text, "the synopsis"
        assert f"\n*{verb}*\n\t" in text, "the description"
    for code in ExitCode:
        assert f"\n*{int(code)}*\n\t" in text


@pytest.mark.parametrize("key", KEYS)
def test_the_file_page_names_every_key(key: str) -> None:
    assert f"\n*{key}*\n\t" in page("docs/pf-agent.toml.5.scd")


@pytest.mark.parametrize("mode", list(Mode))
def test_the_file_page_names_every_mode(mode: Mode) -> None:
    assert f'"{mode.value}"' in page("docs/pf-agent.toml.5.scd")


def test_the_file_page_gives_the_defaults() -> None:
    text = page("docs/pf-agent.toml.5.scd")
    assert f"Default: {AgentOptions().settle_seconds:g}." in text
    assert f"Default: {AgentOptions().look_every_seconds:g}." in text


@pytest.mark.parametrize("event", EVENTS)
def test_the_readme_names_every_event(event: str) -> None:
    assert f"`{event}`" in read("README.md")


def test_the_unit_keeps_its_promises() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["NotifyAccess"] == "main"
    assert service["ExecStart"] == "/usr/bin/pf-agent run"
    assert int(service["WatchdogSec"]) > 0
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == str(int(ExitCode.USAGE))
    assert service["StateDirectory"] == Path(names.STATE_DIRECTORY).name
    assert service["RuntimeDirectory"] == Path(names.RUN_DIRECTORY).name


def test_the_unit_is_ordered_after_postfix_and_not_tied_to_it() -> None:
    section = unit()["Unit"]
    assert names.POSTFIX_UNIT in section["After"].split()
    assert not {"Requires", "Requisite", "BindsTo", "PartOf", "Conflicts"} & set(section)
    assert section["Upholds"] == "pf-agent-errands.socket"


def test_the_other_unit_is_found_and_waited_for() -> None:
    socket, service = unit("pf-agent-errands.socket"), unit("pf-agent-errands.service")
    assert socket["Socket"]["ListenStream"] == names.ERRANDS_SOCKET
    assert socket["Socket"]["SocketMode"] == "0600"
    assert service["Service"]["RuntimeDirectory"] == Path(names.ERRANDS_DIRECTORY).name
    assert service["Service"]["ExecStart"].endswith(f" -I -m {errands_unit.__name__}")
    for part in (socket, service):
        assert part["Unit"]["PartOf"] == "pf-agent.service"
        assert not part.has_section("Install"), "it comes with the agent, and goes with it"
    assert socket["Unit"]["StartLimitIntervalSec"] == "0"
    longest = sum(errands._LOG_PATIENCE + errands._PATIENCE)
    assert longest < int(unit()["Service"]["WatchdogSec"])


def test_debian_takes_the_unit_from_units() -> None:
    link = CHECKOUT / "debian/pf-agent.service"
    assert link.resolve() == (CHECKOUT / "units/pf-agent.service").resolve()


@pytest.mark.parametrize("path", ["debian/pf-agent.install", "debian/pf-agent.docs"])
def test_everything_that_is_installed_exists(path: str) -> None:
    for line in read(path).splitlines():
        assert (CHECKOUT / line.split()[0]).is_file(), line


def test_the_generator_speaks_of_our_unit_and_folder() -> None:
    text = read("units/pf-agent-generator")
    assert "$1/pf-agent.service.d\n" in text
    assert f" {Path(names.MAIN_CF).parent} " in text
    assert (CHECKOUT / "units/pf-agent-generator").stat().st_mode & 0o111


def test_the_completion_knows_every_verb() -> None:
    text = read("units/pf-agent.bash-completion")
    found = re.search(r'local verbs="(.*)"', text)
    assert found is not None
    actions = arguments.parser()._subparsers
    assert actions is not None
    (verbs,) = (action.choices for action in actions._group_actions)
    assert found[1].split() == sorted(verbs or ())
