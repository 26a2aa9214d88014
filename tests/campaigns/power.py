"""The power is cut at every step of a correction, on ext4, XFS and btrfs: no half main.cf."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from pf_agent.files.exchange import MainCfFile
from pf_agent.files.renameat2 import swap_or_move
from pf_agent.files.store import FileStore
from pf_agent.model import DesiredState, Result
from pf_agent.reconcile.look import Look
from pf_agent.reconcile.ports import Policy
from pf_agent.reconcile.reconcile import reconcile

# The options of mkfs and mount, and the least size of an image in MiB.
FILE_SYSTEMS = {
    "ext4": (("-F", "-q"), "loop", 64),
    "xfs": (("-f", "-q"), "loop,nouuid", 320),
    "btrfs": (("-f", "-q"), "loop", 128),
}
RIGHT = b"mynetworks = 127.0.0.0/8\n" + b"# a comment\n" * 2500
WRONG = RIGHT.replace(b"127.0.0.0/8", b"0.0.0.0/0")
DESIRED = DesiredState({"mynetworks": "127.0.0.0/8"}, frozenset())
# After each of these calls the disk may be as it is then for ever.
_CALLS = ("fsync", "rename", "link", "unlink", "write", "ftruncate", "utime")
_SECONDS = 60.0


class Unmountable(Exception):
    """This machine cannot make or mount the file system."""


@dataclass(frozen=True)
class Cut:
    """The power was cut after a call; `fault` is "" where the disk was then as it must be."""

    call: str
    was_right: bool
    fault: str


def main() -> int:
    """Return 0 only where no fault was found."""
    parser = argparse.ArgumentParser(prog="tools/campaign power", description=__doc__)
    parser.add_argument("--only", action="append", choices=FILE_SYSTEMS, help="one; default: all")
    faults = 0
    for kind in parser.parse_args().only or FILE_SYSTEMS:
        for is_ahead in (False, True):
            way = "lies ready" if is_ahead else "is laid when it is needed"
            found = cuts(kind, is_ahead)
            counts = Counter("right" if cut.was_right else "as it was" for cut in found)
            print(f"power: {kind}, the text {way}: {len(found)} cuts, {dict(counts)}", flush=True)
            for cut in found:
                if cut.fault:
                    faults += 1
                    print(f"power: {kind}: {cut.call}: {cut.fault}", flush=True)
    print(f"power: {faults} faults")
    return 1 if faults else 0


def cuts(kind: str, is_ahead: bool) -> list[Cut]:
    """Correct main.cf on such a file system, and check the disk after each call.

    `is_ahead`: the right text lies ready. Raises Unmountable.
    """
    with tempfile.TemporaryDirectory(prefix="pf-agent-power-") as folder:
        disk = Path(folder, "disk")
        _make(kind, disk)
        images: list[tuple[str, Path]] = []

        def cut(call: str) -> None:
            images.append((call, Path(folder, f"cut-{len(images)}")))
            _run("cp", "--sparse=always", str(disk), str(images[-1][1]))

        with _mounted(kind, disk) as root:
            _correct(root, is_ahead, cut)
        return [_look(kind, *image) for image in images]


def _correct(root: Path, is_ahead: bool, cut: Callable[[str], None]) -> None:
    state = FileStore(str(root / "state"), str(root / "run"))
    state.prepare()
    main_cf = root / "postfix" / "main.cf"
    main_cf.parent.mkdir()
    main_cf.write_bytes(RIGHT)
    main_cf.chmod(0o644)
    host = MainCfFile(str(main_cf), swap=_then("renameat2", swap_or_move, cut))
    state.keep_last_good(RIGHT)
    state.keep_ran_with(RIGHT)
    os.sync()
    if is_ahead:
        host.lay_ahead(host.read())
    with main_cf.open("wb") as file:
        file.write(WRONG)
        file.flush()
        os.fsync(file.fileno())  # this file alone: what lies ready is to be safe by itself
    with _cutting(cut):
        outcome = reconcile(Look(host, DESIRED, Policy(), state, lambda _record: None))
    assert outcome.result is Result.CORRECTED
    assert main_cf.read_bytes() == RIGHT
    host.lay_no_more()


@contextmanager
def _cutting(cut: Callable[[str], None]) -> Iterator[None]:
    """Have `cut` called after each call that changes what the disk has."""

    patches = [mock.patch.object(os, n, _then(n, getattr(os, n), cut)) for n in _CALLS]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _then(name: str, call: Callable[..., Any], cut: Callable[[str], None]) -> Callable[..., Any]:
    """The call, and `cut` after it."""

    def called(*given: Any, **named: Any) -> Any:
        found = call(*given, **named)
        cut(name)
        return found

    return called


def _look(kind: str, call: str, image: Path) -> Cut:
    """Mount what the disk was like, as after a power cut, and see what is on it."""
    with _mounted(kind, image) as root:
        text = (root / "postfix" / "main.cf").read_bytes()
        beside = (root / "postfix").glob(".main.cf.pf-agent-*")
        kept = [path.read_bytes() for path in (*beside, *(root / "state" / "displaced").iterdir())]
    image.unlink()
    if text not in (RIGHT, WRONG):
        return Cut(call, False, f"main.cf is neither text, but {len(text)} bytes: {text[:40]!r}")
    if text == RIGHT and WRONG not in kept:
        return Cut(call, True, "what was displaced is nowhere")
    return Cut(call, text == RIGHT, "")


def _make(kind: str, image: Path) -> None:
    options, _, size = FILE_SYSTEMS[kind]
    with image.open("wb") as file:
        file.truncate(size << 20)
    _run(f"mkfs.{kind}", *options, str(image))


@contextmanager
def _mounted(kind: str, image: Path) -> Iterator[Path]:
    root = image.with_name(f"{image.name}.root")
    root.mkdir(exist_ok=True)
    _run("mount", "-t", kind, "-o", FILE_SYSTEMS[kind][1], str(image), str(root))
    try:
        yield root
    finally:
        _run("umount", str(root))


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except FileNotFoundError as error:
        raise Unmountable(f"no {command[0]}") from error
    except subprocess.CalledProcessError as error:
        raise Unmountable(f"{' '.join(command)}: {error.stderr.strip()}") from error


if __name__ == "__main__":
    sys.exit(main())
