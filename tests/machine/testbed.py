#!/usr/bin/python3
"""A booted machine as a testbed for autopkgtest, which starts this with the command to enter it.

autopkgtest-virt-server(7): autopkgtest runs each command through the one that hook_open() names.
"""

from __future__ import annotations

import sys

sys.path.insert(0, "/usr/share/autopkgtest/lib")

import VirtSubproc


def hook_open() -> None:
    VirtSubproc.auxverb = sys.argv[1:]


def hook_downtmp(path: str | None) -> str:
    return str(VirtSubproc.downtmp_mktemp(path))


def hook_capabilities() -> list[str]:
    return ["isolation-container", "isolation-machine", "root-on-testbed"]


def hook_cleanup() -> None:
    VirtSubproc.downtmp_remove()


if __name__ == "__main__":
    VirtSubproc.main()
