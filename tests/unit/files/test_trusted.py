"""Files that others may change are not obeyed; what is no file does not hold the agent up."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pf_agent import names
from pf_agent.errors import ConfigError
from pf_agent.files.trusted import is_guarded, owners_of, read_source, require_guarded, way_out

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file in a folder of a folder; pytest's own folders above are root's."""
    folder = tmp_path / "etc" / "pf-agent"
    folder.mkdir(parents=True)
    for each in (folder.parent, folder):
        each.chmod(0o755)
    file = folder / "desired.toml"
    file.write_text("[settings]\n")
    file.chmod(0o644)
    return file


def refused(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_source(str(path), True)
    (problem,) = caught.value.problems
    return problem


def test_a_file_of_ours_is_read(file: Path) -> None:
    assert read_source(str(file), True).text == b"[settings]\n"


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o664])
@pytest.mark.parametrize("up", [0, 1, 2])
def test_what_others_may_write_to_is_refused(file: Path, mode: int, up: int) -> None:
    target = [file, *file.parents][up]
    target.chmod(mode | (0o111 if up else 0))
    assert refused(file) == f"{target}: writable by others; keep the file where only root can write"
    # Whose a file is that somebody names himself, he knows.
    assert read_source(str(file), False).text == b"[settings]\n"
    target.chmod(0o755 if up else 0o644)
    assert read_source(str(file), True).text == b"[settings]\n"


def test_a_sticky_folder_is_none_that_others_can_change(file: Path) -> None:
    file.parent.chmod(0o1777)
    assert read_source(str(file), True).text == b"[settings]\n"


@ROOT_ONLY
@pytest.mark.parametrize("up", [0, 1, 2])
def test_what_belongs_to_another_is_refused(file: Path, up: int) -> None:
    target = [file, *file.parents][up]
    os.chown(target, 65534, -1)
    problem = refused(file)
    # It may be somebody's home: nobody is told to change that one's owner.
    way_out = "keep the file where only root can write"
    assert problem == f"{target}: it belongs to uid 65534, not to root; {way_out}"


def test_a_link_is_judged_by_both_its_places(file: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    target = outside / "kept.toml"
    target.write_text("a = 1\n")
    target.chmod(0o644)
    file.unlink()
    file.symlink_to(target)
    assert read_source(str(file), True).text == b"a = 1\n"
    outside.chmod(0o777)
    assert refused(file).startswith(f"{outside}: writable by others")
    outside.chmod(0o755)
    file.parent.chmod(0o777)
    assert refused(file).startswith(f"{file.parent}: writable by others")


def test_a_fifo_does_not_hold_us_up(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)
    assert refused(file) == f"{file}: it is not a regular file; make it a readable file"


def test_an_endless_file_is_refused(file: Path) -> None:
    file.unlink()
    file.symlink_to("/dev/zero")
    assert "it is not a regular file" in refused(file)


def test_a_huge_file_is_refused(file: Path) -> None:
    with open(file, "wb") as huge:
        huge.truncate(1 << 40)
    assert re.search(r": it is larger than \d+ bytes; ", refused(file))


def test_a_file_that_is_not_there_is_told(file: Path) -> None:
    file.unlink()
    assert refused(file) == f"{file}: No such file or directory; make it a readable file"


def test_the_folders_are_told_apart_by_owner_and_mode(file: Path) -> None:
    before = owners_of([str(file)])
    assert owners_of([str(file)]) == before
    file.parent.chmod(0o777)
    assert owners_of([str(file)]) != before
    assert owners_of(["/nonexistent/folder/file"])[0][0] == "/"


def test_a_place_for_a_new_file_is_judged_by_the_folders_above_it(file: Path) -> None:
    new = file.parent / "desired.d" / "50-local.toml"
    require_guarded(str(new))
    new.parent.mkdir(mode=0o755)
    require_guarded(str(new))
    new.parent.chmod(0o775)
    with pytest.raises(ConfigError, match=f"{new.parent}: writable by others"):
        require_guarded(str(new))


def test_the_way_out_changes_only_what_is_the_configurations_own() -> None:
    elsewhere = f"{names.CONFIG_DIRECTORY}-of-somebody"
    assert way_out(f"{names.CONFIG_DIRECTORY}/x.toml", "chown root") == (
        f"chown root {names.CONFIG_DIRECTORY}/x.toml"
    )
    for path in (elsewhere, "/home/eve/x.toml", "/"):
        assert way_out(path, "chown root") == "keep the file where only root can write"


def test_whether_a_file_is_obeyed_can_be_asked_before_it_is_there(file: Path) -> None:
    later = file.with_name("later.toml")
    for path in (file, later):
        assert is_guarded(str(path))
    link = file.with_name("link.toml")
    link.symlink_to(file)
    assert is_guarded(str(link))
    file.chmod(0o666)
    assert not is_guarded(str(link))
    file.chmod(0o644)
    file.parent.chmod(0o777)
    for path in (file, later, link):
        assert not is_guarded(str(path))
