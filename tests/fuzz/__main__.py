"""Have atheris look for bytes that break a target: python -m tests.fuzz TARGET [OPTION...]"""

from __future__ import annotations

import sys

import atheris  # type: ignore[import-untyped, unused-ignore]

with atheris.instrument_imports(include=["pf_agent", "tests.fuzz", "tomli", "tomlkit"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    """Does not return: libFuzzer ends the process, with 0 where nothing was found."""
    target = TARGETS[sys.argv[1]]
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
