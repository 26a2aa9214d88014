"""The page of cockpit/: what can be held without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pf_agent.bus import agent1
from pf_agent.model import ORDERS, Phase, Status
from pf_agent.words import history, rebuilds
from pf_agent.words.status import status_dict
from tests.checkout import CHECKOUT

PAGE = CHECKOUT / "cockpit"
FILES = sorted(PAGE.iterdir())
TRANSLATION = PAGE / "po.ja.js"
MODULES = [path for path in FILES if path.suffix == ".js" and path != TRANSLATION]
# A literal of JavaScript as the page writes them, on one line.
_LITERAL = r'"((?:[^"\\\n]|\\.)*)"'
_NODE = shutil.which("node")


def text(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in MODULES)


def ids(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def shown() -> set[str]:
    """The English texts, as they stand in the modules; of two forms the first, which is the key."""
    return set(re.findall(rf"(?<![\w$.])(?:_|plural)\(\s*{_LITERAL}", sources()))


def translations() -> dict[str, str]:
    pairs = re.findall(rf"^    {_LITERAL}: \[null, {_LITERAL}\],$", text(TRANSLATION.name), re.M)
    found = dict(pairs)
    assert len(found) == len(pairs), "a text stands twice"
    return found


# What Cockpit reads


def test_the_manifest_is_one() -> None:
    manifest = json.loads(text("manifest.json"))
    assert manifest["menu"].keys() == {"index"}
    assert manifest["preload"] == ["index"], (
        "the mark beside the menu's entry comes without a click"
    )
    assert manifest["conditions"] == [{"path-exists": "/usr/bin/pf-agent"}]
    assert "content-security-policy" not in manifest


def test_the_package_asks_for_the_cockpit_that_the_manifest_asks_for() -> None:
    wanted = json.loads(text("manifest.json"))["requires"]["cockpit"]
    control = (CHECKOUT / "debian/control").read_text(encoding="utf-8")
    assert f"cockpit-bridge (>= {wanted})" in control
    assert f"cockpit-system (>= {wanted})" in control


def test_the_software_centre_finds_the_manifest() -> None:
    (path,) = PAGE.glob("*.metainfo.xml")
    component = ElementTree.parse(path).getroot()
    assert path.name == f"{component.findtext('id')}.metainfo.xml"
    assert component.findtext("launchable") == "pf-agent"
    installed = (CHECKOUT / "debian/cockpit-pf-agent.install").read_text(encoding="utf-8")
    assert "cockpit/*.json usr/share/cockpit/pf-agent\n" in installed


@pytest.mark.parametrize("path", FILES, ids=ids(FILES))
def test_each_file_is_installed(path: Path) -> None:
    lines = (CHECKOUT / "debian/cockpit-pf-agent.install").read_text(encoding="utf-8").splitlines()
    takers = [line for line in lines if fnmatch(f"cockpit/{path.name}", line.split()[0])]
    assert len(takers) == 1


def test_both_packages_have_one_version() -> None:
    control = (CHECKOUT / "debian/control").read_text(encoding="utf-8")
    assert "pf-agent (= ${binary:Version})" in control
    assert not re.search(r"\b[0-9]+\.[0-9]+\.[0-9]+\b", sources()), "the agent tells its version"


def test_the_package_has_no_maintainer_script() -> None:
    names = {path.name for path in (CHECKOUT / "debian").glob("cockpit-pf-agent.*")}
    assert names == {"cockpit-pf-agent.install", "cockpit-pf-agent.docs"}


# What is written


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_a_module_says_its_one_job_first(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert re.fullmatch(r"// [A-Z].{20,98}[.,;:a-z]", first)


@pytest.mark.parametrize("path", MODULES, ids=ids(MODULES))
def test_a_module_stays_small(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    assert not [line for line in lines if line.endswith((" ", "\t")) or "\t" in line]


def test_text_never_becomes_markup() -> None:
    """main.cf is a hostile text; and Cockpit's policy allows no code outside of files."""
    forbidden = (
        *("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser"),
        *("createContextualFragment", "srcdoc", "eval(", "new Function", 'setAttribute("style"'),
        *("javascript:", "setHTML", "parseFromString"),
    )
    everything = sources() + text("index.html")
    assert [word for word in forbidden if word in everything] == []
    assert not re.search(r"<[^>]+ (?:style|on\w+)=", text("index.html"))
    assert re.findall(r"<script(?![^>]* src=)", text("index.html")) == []


def test_nothing_is_fetched_from_elsewhere() -> None:
    everything = sources() + text("index.html") + text("page.css")
    found = set(re.findall(r"\w+://[^\s\"')]+", everything))
    assert found == {"http://www.w3.org/2000/svg"}, "the name of a kind of markup"


def test_each_import_is_there_and_each_module_used() -> None:
    imported = {"page.js"}
    for path in MODULES:
        source = path.read_text(encoding="utf-8")
        for names, module in re.findall(r'import \{([^}]+)\} from "\./([\w.]+)"', source):
            imported.add(module)
            for name in (each.strip() for each in names.split(",")):
                assert re.search(
                    rf"^export (?:async )?(?:const|function|class) {re.escape(name)}\b",
                    text(module),
                    re.M,
                ), f"{path.name}: {name} of {module}"
                uses = re.sub(r"import \{[^}]+\} from.*", "", source)
                assert re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", uses), (
                    f"{path.name}: {name}"
                )
    assert imported == set(ids(MODULES))


# Says of each module why it cannot be parsed, or "".
_PARSE = """
const { readFileSync } = await import("node:fs");
const { SourceTextModule } = await import("node:vm");
const said = path => {
    try {
        new SourceTextModule(readFileSync(path, "utf8"), { identifier: path });
        return "";
    } catch (error) {
        return String(error.stack);
    }
};
console.log(JSON.stringify(process.argv.slice(1).map(said)));
"""


@pytest.fixture(scope="module")
def parsed() -> dict[Path, str]:
    """What node, started once, says of each module's syntax."""
    if _NODE is None:
        pytest.skip("node is not installed; browsers of the machine tests try it")
    paths = [*MODULES, TRANSLATION]
    command = [_NODE, "--no-warnings", "--experimental-vm-modules", "--input-type=module"]
    command += ["--eval", _PARSE, "--", *map(str, paths)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return dict(zip(paths, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("path", [*MODULES, TRANSLATION], ids=ids([*MODULES, TRANSLATION]))
def test_the_syntax_is_right(parsed: dict[Path, str], path: Path) -> None:
    assert parsed[path] == ""


# What it knows of the agent


def test_it_knows_each_phase() -> None:
    phases = re.search(r"^const PHASES = \{\n(.*?)^\};", text("state.js"), re.M | re.S)
    assert phases is not None
    keys = re.findall(r'^    "?([a-z-]+)"?: \{$', phases[1], re.M)
    assert sorted(keys) == sorted(phase.value for phase in Phase)


def test_it_knows_each_outcome() -> None:
    outcomes = re.search(r"^const OUTCOMES = \{\n(.*?)^\};", text("cycles.js"), re.M | re.S)
    assert outcomes is not None
    keys = set(re.findall(r'^    "?([A-Za-z ]+)"?: \{', outcomes[1], re.M))
    orders = {event.value for event in ORDERS}
    tables = rebuilds._OUTCOMES.values()
    assert keys == {*history._OUTCOMES.values(), "observed", *orders, *tables}


def test_it_has_the_names_of_the_bus() -> None:
    assert f'NAME = "{agent1.NAME}"' in text("agent.js")
    assert f'PATH = "{agent1.PATH}"' in text("agent.js")
    asked = set(re.findall(r'"(org\.pfagent\.[a-z]+)"', text("rights.js")))
    assert asked == set(agent1.ACTIONS.values())
    for method in agent1.ACTIONS:
        assert f'["{method}", ' in text("orders.js")


# Other languages


def test_each_text_has_its_translation_and_none_is_left_over() -> None:
    label = json.loads(text("manifest.json"))["menu"]["index"]["label"]
    assert translations().keys() == shown() | {label}


def test_a_text_that_is_put_together_cannot_be_translated() -> None:
    calls = re.findall(r"(?<![\w$.])(?:_|plural)\((?!\s*\")[^)]*", sources())
    own = [call for call in calls if not call.startswith(("_(template", "plural(one"))]
    assert own == []


def test_a_translation_has_what_its_text_has() -> None:
    for english, japanese in translations().items():
        held = r"\$[0-9]|main\.cf|pf-agent|polkit|mode = |/etc/[\w./-]+\w"
        assert set(re.findall(held, english)) <= set(re.findall(held, japanese)), english
        assert japanese


def test_what_stands_in_for_the_status_has_each_member_that_is_shown() -> None:
    """Where the file cannot be read, and for a moment at the start, the bus tells it."""
    shown = re.findall(r"\b(?:status|inner)\.(\w+)", sources())
    members = set(status_dict(Status(Phase.IN_SYNC, 0.0), 0.0)).intersection(shown)
    assert len(members) > 10
    found = text("agent.js").partition("function ofProperties")[2].partition("};")[0]
    assert members <= set(re.findall(r"^ +(\w+): ", found, re.MULTILINE))
