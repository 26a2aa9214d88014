"""The corpus of master.cf files, and what real Postfix said of each.

`python -m tests.conformance.master_corpus ROOT` asks the Postfix of a Debian root again and writes
the answers; root only.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.checkout import CORPUS
from tests.conformance.truth import Printed, Services, Truth

FOLDER = CORPUS / "master"
FILES = sorted(FOLDER.glob("*.cf"))
_TRUTH = FOLDER / "truth.json"
# Of what postconf logs, these are about master.cf; others tell of unused parameters.
_OF_MASTER_CF = (b"postconf: fatal: ", b"postconf: warning: master.cf: ")


def stored() -> dict[str, Services]:
    """Return the answers by the file's name."""
    found: dict[str, Any] = json.loads(_TRUTH.read_text("ascii"))
    return {name: _from_json(answer) for name, answer in found.items()}


def kept(answer: Services) -> Services:
    """Return an answer as it is stored: without what is random, or not about master.cf."""
    log = tuple(line for line in answer.entries.log if line.startswith(_OF_MASTER_CF))
    entries = Printed(0 if answer.parameters else 1, answer.entries.output, log)
    parameters = None if answer.parameters is None else replace(answer.parameters, log=())
    return Services(answer.lines, entries, parameters)


def _from_json(answer: dict[str, Any]) -> Services:
    parameters = answer["parameters"]
    return Services(
        tuple(answer["lines"]),
        Printed(int(parameters is None), _bytes(answer["entries"]), _bytes(answer["log"])),
        None if parameters is None else Printed(0, _bytes(parameters), ()),
    )


def _bytes(lines: list[str]) -> tuple[bytes, ...]:
    return tuple(line.encode("latin-1") for line in lines)


def _to_json(answer: Services) -> dict[str, Any]:
    def text(lines: tuple[bytes, ...]) -> list[str]:
        return [line.decode("latin-1") for line in lines]

    return {
        "lines": answer.lines,
        "entries": text(answer.entries.output),
        "log": text(answer.entries.log),
        "parameters": None if answer.parameters is None else text(answer.parameters.output),
    }


def main() -> None:
    """Ask, and write down the answers."""
    with Truth(Path(sys.argv[1])) as truth:
        answers = {path.stem: kept(truth.services(path.read_bytes())) for path in FILES}
    lines = [f"{json.dumps(name)}: {json.dumps(_to_json(a))}" for name, a in answers.items()]
    _TRUTH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="ascii")


if __name__ == "__main__":
    main()
