"""What a process that is the owner of a source does: builds, and installs where it is to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

import pf_agent
from pf_agent.maincf.indexed import Draft, Table, drafted
from pf_agent.model import OnWarning
from pf_agent.postfix.postmap import Job

# The real ones are run by tests/machine/test_table_owners.py.
_POSTMAP = """#!/bin/sh
if [ "$3" = -s ]; then exec cat "${4#*:}.db"; fi
grep -q bad "${3#*:}" &&
    echo "postmap: warning: ${3#*:}, line 1: expected format: key whitespace value" >&2
exec cp "${3#*:}" "${3#*:}.db"
"""
_RUN = """
import sys
from pf_agent.daemon.as_owner import main
print(main(*sys.argv[1:]))
"""


class World:
    def __init__(self, folder: Path) -> None:
        self.folder, self.programs = folder / "etc", folder / "sbin"
        for made in (self.folder, self.programs):
            made.mkdir()
        (self.programs / "postmap").write_text(_POSTMAP)
        (self.programs / "postmap").chmod(0o755)
        self.source, self.index = self.folder / "t", self.folder / "t.db"
        self.canary = folder / "canary"
        self.canary.write_text("untouched")

    def run(
        self, is_to_put: bool, rule: OnWarning = OnWarning.KEEP, to: IO[bytes] | None = None
    ) -> Draft:
        job = Job("/etc", Table("hash", str(self.source)), str(self.source), str(self.folder), rule)
        said = json.dumps(job._replace(is_to_put=is_to_put))
        done = subprocess.run(
            [sys.executable, "-c", _RUN, said, str(self.programs)],
            env={**os.environ, "PYTHONPATH": str(Path(pf_agent.__file__).parents[1])},
            stdin=to or subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return drafted(json.loads(done.stdout))


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.source.write_text("a b\n")
    return world


def test_it_is_installed_where_it_is_to_be(world: World) -> None:
    found = world.run(is_to_put=True)
    assert (found.trouble, found.after, found.is_put) == ("", 1, True)
    assert world.index.read_text() == "a b\n"
    assert sorted(os.listdir(world.folder)) == ["t", "t.db"]


def test_else_it_is_handed_over(world: World) -> None:
    with (world.folder / "over").open("w+b") as over:
        found = world.run(is_to_put=False, to=over)
        over.seek(0)
        assert over.read() == b"a b\n"
    assert not found.is_put
    assert not world.index.exists()


@pytest.mark.parametrize(("rule", "is_put"), [(OnWarning.KEEP, False), (OnWarning.BUILD, True)])
def test_the_rule_holds_for_it_too(world: World, rule: OnWarning, is_put: bool) -> None:
    world.source.write_text("bad\n")
    found = world.run(is_to_put=True, rule=rule)
    assert found.warnings == 1
    assert (found.is_put, world.index.exists()) == (is_put, is_put)


@pytest.mark.parametrize("what", ["source", "folder"])
def test_no_link_is_followed_to_the_source(world: World, what: str) -> None:
    link = world.source if what == "source" else world.folder
    link.rename(f"{link}.real")
    link.symlink_to(f"{link}.real")
    found = world.run(is_to_put=True)
    assert "there is a link where others than root may put one" in found.trouble
    assert not world.index.exists()


def test_a_link_in_the_place_of_the_index_is_left(world: World) -> None:
    world.index.symlink_to(world.canary)
    found = world.run(is_to_put=True)
    assert found.trouble.startswith(f"{world.index}: it is no regular file")
    assert world.canary.read_text() == "untouched"


def test_a_link_in_the_place_of_the_new_file_goes(world: World) -> None:
    (world.folder / ".t.db.new").symlink_to(world.canary)
    assert world.run(is_to_put=True).is_put
    assert world.canary.read_text() == "untouched"
    assert sorted(os.listdir(world.folder)) == ["t", "t.db"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_a_third_is_left(world: World) -> None:
    os.chown(world.source, 20815, 20816)
    assert "it belongs to another user than its directory" in world.run(is_to_put=True).trouble
