"""What the package, the unit, the catalog and the pages say is what the code says."""

from __future__ import annotations

import configparser
import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

import pf_agent
from pf_agent import names
from pf_agent.cli import arguments, main
from pf_agent.errors import ExitCode
from pf_agent.model import AgentOptions, DesiredState, DriftKind, Event, Mode, TableRules
from pf_agent.postfix import errands, errands_unit
from pf_agent.reporting import journal
from tests.checkout import CHECKOUT

EVENTS = [event.value for event in Event]
FIELDS = sorted(value for name, value in vars(names).items() if name.startswith("FIELD_"))
# What the reader notes, and tables of keys; they are no keys themselves. A file has `documents` as
# its table `tables`.
NOTED = ("provenance", "place", "kind", "documents", "document", "is_secret")
KEYS = ["services"] + [
    item.name
    for of in (DesiredState, AgentOptions, TableRules)
    for item in dataclasses.fields(of)
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
    assert service["NotifyAccess"] == "exec"
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


def test_all_our_python_runs_isolated() -> None:
    """Whose environment or working directory this is names no module of ours (python(1), -I)."""
    folders = (CHECKOUT / "debian", CHECKOUT / "debian/tests", CHECKOUT / "units")
    files = [path for folder in folders for path in folder.iterdir() if path.is_file()]
    call = re.compile(r"(?<![\w/-])(?:/usr/bin/)?python3(?=[\s\"])(?: -\S+)?")
    others = ("changelog", "control", "copyright")  # there it is the name of a package
    texts = [path.read_text(encoding="utf-8") for path in files if path.name not in others]
    calls = [found for text in texts for found in call.findall(text)]
    assert len(calls) >= 6
    assert [found for found in calls if not re.search(r" -\w*I", found)] == []


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


# What is said of Ubuntu


@pytest.mark.parametrize("row", ["oldest", "noble"])
def test_the_libraries_of_ubuntu_are_those_that_are_tried(row: str) -> None:
    """In the table of README.md, and in who tries them."""
    tried = re.search(rf"(?m)^{row}_libraries=\((.+)\)$", read("tools/test"))
    assert tried is not None
    pairs = [each.split("==") for each in tried[1].split()]
    (line,) = [text for text in read("README.md").splitlines() if text.startswith("| libraries |")]
    cell = line.split("|")[2 if row == "oldest" else 3]
    assert set(cell.strip().split(", ")) == {f"{name} {version}" for name, version in pairs}


# systemd.unit(5), systemd.service(5), systemd.exec(5): what is newer than Ubuntu 22.04's 249.
NEWER_THAN_249 = (
    *("RestartMode", "RestartSteps", "RestartMaxDelaySec", "OpenFile", "ExitType"),
    *("ImportCredential", "LoadCredentialEncrypted", "RestrictFileSystems"),
    *("RestrictNetworkInterfaces", "SetLoginEnvironment", "PrivateUsersEx"),
    *("FileDescriptorStorePreserve", "MemoryPressureWatch", "MemoryKSM", "SurviveFinalKillSignal"),
    *("ConditionMemoryPressure", "ConditionCPUPressure", "StartupAllowedCPUs", "PrivatePIDs"),
    *("ProtectControlGroupsEx", "LiveMount", "DelegateSubgroup", "MemoryZSwapMax"),
)


def test_no_unit_asks_for_more_than_ubuntus_systemd_has() -> None:
    kinds = (".service", ".socket", ".conf")
    units = [path for path in (CHECKOUT / "units").iterdir() if path.suffix in kinds]
    assert {path.suffix for path in units} >= {".service", ".socket"}
    asked = {
        found
        for path in units
        for found in re.findall(r"(?m)^(\w+)=", path.read_text(encoding="utf-8"))
    }
    assert "Upholds" in asked, "new in 249"
    assert asked.isdisjoint(NEWER_THAN_249)


# What apt asks, in other languages


def messages(path: str) -> dict[str, str]:
    """The texts of a PO file and their translations, "" where there is none that may be shown."""
    found = {}
    for block in read(path).split("\n\n"):
        original, _, translated = re.sub(r"(?m)^#.*\n", "", block).partition("\nmsgstr ")
        is_shown = "#, fuzzy" not in block
        found[_quoted(original)] = _quoted(translated) if is_shown else ""
    return found


def _quoted(text: str) -> str:
    parts: list[str] = re.findall(r'"((?:[^"\\]|\\.)*)"', text)
    return "".join(parts)


def test_every_text_that_apt_shows_can_be_translated() -> None:
    """As debconf-updatepo(1) takes them out of the templates."""
    shown = re.findall(r"(?m)^_Description: (.+)$", read("debian/pf-agent.templates"))
    assert len(shown) == 4
    known = messages("debian/po/templates.pot")
    assert {text.replace('"', '\\"') for text in shown} | {"enforce", "observe"} <= known.keys()


def test_apt_asks_in_japanese() -> None:
    wanted = messages("debian/po/templates.pot")
    found = messages("debian/po/ja.po")
    assert found.keys() == wanted.keys()
    assert [text for text, translated in found.items() if not translated] == []
    for text, translated in found.items():
        held = r"\$\{\w+\}|main\.cf|pf-agent"
        assert set(re.findall(held, text)) <= set(re.findall(held, translated)), text
    # debconf takes a comma for the end of a choice.
    assert "," not in found["enforce"] + found["observe"]
    assert found["enforce"].startswith("enforce"), "the word that agent.toml has"
    assert found["observe"].startswith("observe")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("history", ""), ["0/3", "7", "12", "a1b2c3/12"]),
        (("history", "1"), ["12"]),
        (("history", "a"), ["a1b2c3/12"]),
        (("adopt", "--cycle", ""), []),
        (("apply", "--wait", ""), ["yes", "no"]),
        (("history", "--since", "y"), ["yesterday"]),
        (("sus",), ["suspend"]),
        (("explain", "mynet"), ["mynetworks", "mynetworks_style"]),
        (("explain", "subm"), ["submission/inet"]),
        (("explain", "submission/inet/"), ["submission/inet/syslog_name"]),
        (("unset", "subm"), []),
        (("unset", "hash:/e"), ["/etc/t"]),
        (("set", "l"), ["lmdb:/u"]),
        (("explain", "lmdb:"), []),
        (("suspend", "--reason", ""), []),
    ],
)
def test_what_is_completed(words: tuple[str, ...], offered: list[str]) -> None:
    """journalctl and postconf stand in for those of a host, and the former has been lied to."""
    script = f"""
    _init_completion() {{
        words=("${{COMP_WORDS[@]}}") cword=$COMP_CWORD
        cur=${{words[cword]}} prev=${{words[cword - 1]}}
    }}
    # As bash-completion has it: readline takes a colon for the end of a word.
    __ltrim_colon_completions() {{
        [[ $1 != *:* ]] || COMPREPLY=("${{COMPREPLY[@]#"${{1%"${{1##*:}}"}}"}}")
    }}
    journalctl() {{
        printf '{{"__CURSOR":"s=1","PF_AGENT_CYCLE":"%s"}}\\n' 3 '$(echo lie)' '-1' 'x'
        printf '{{"PF_AGENT_LIFE":"%s","PF_AGENT_CYCLE":"%s"}}\\n' \\
            a1b2c3 12 0000e9 12 0000e9 7 0000e9 7
        printf '%s\\n' '{{"MESSAGE":",\\"PF_AGENT_CYCLE\\":\\"99\\"","PF_AGENT_LIFE":"a1b2c3"}}'
    }}
    postconf() {{
        case $1 in
            -M) printf '%s inet n - y - - smtpd\\n' 127.0.0.1:25 submission ;;
            -P) printf '%s\\n' 'submission/inet/syslog_name = postfix/x' ;;
            -n) printf '%s\\n' 'a_maps = proxy:hash:/etc/t, regexp:/r' 'b_maps = {{lmdb:/u}}' ;;
            *) printf '%s\\n' mynetworks mynetworks_style myorigin ;;
        esac
    }}
    source '{CHECKOUT}/units/pf-agent.bash-completion'
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
    _pf_agent "$1"
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", names.PROGRAM, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.split() == offered
