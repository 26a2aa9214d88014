"""Which paths the watch has to hear of, and how long that stays so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pf_agent.model import Reason
from pf_agent.watch.links import read_link
from pf_agent.watch.places import Files, Places, way_to


def places_in(root: Path) -> Places:
    files = Files(f"{root}/etc/postfix/main.cf", (f"{root}/etc/aliases",))
    return Places.of({"-": files}, f"{root}/etc/pf-agent", read_link)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/postfix").mkdir(parents=True)
    (tmp_path / "etc/pf-agent/desired.toml.d").mkdir(parents=True)
    for name in ("postfix/main.cf", "aliases"):
        (tmp_path / "etc" / name).touch()
    return tmp_path


def test_a_change_matters_by_its_path(root: Path) -> None:
    places = places_in(root)
    assert places.why(f"{root}/etc/postfix/main.cf") == (Reason.MAIN_CF, "-")
    assert places.why(f"{root}/etc/aliases") == (Reason.ALIASES, None)
    assert places.why(f"{root}/etc/pf-agent/agent.toml") == (Reason.CONFIGURATION, None)
    assert places.why(f"{root}/etc/passwd") is None


@pytest.mark.parametrize("name", ["etc", "etc/postfix", "etc/aliases", "etc/pf-agent"])
def test_they_hold_until_a_name_on_the_way_is_a_link(root: Path, name: str) -> None:
    places = places_in(root)
    assert places.still_hold(os.path.islink)
    path, moved = root / name, root / "moved"
    path.rename(moved)
    assert places.still_hold(os.path.islink), "what is gone leads nowhere else"
    path.symlink_to(moved)
    assert not places.still_hold(os.path.islink)
    behind = places_in(root)
    assert behind.named != places.named
    path.unlink()
    assert not behind.still_hold(os.path.islink), "a link that is gone may have led anywhere"
    moved.rename(path)
    assert places_in(root) == places


def test_main_cf_itself_may_be_a_link(root: Path) -> None:
    main_cf = root / "etc/postfix/main.cf"
    main_cf.rename(root / "target")
    main_cf.symlink_to(root / "target")
    places = places_in(root)
    assert places.still_hold(os.path.islink)
    assert places.main_cfs == (str(main_cf),)


@pytest.mark.parametrize(
    ("path", "way"),
    [
        ("/etc/x", ["/etc/x"]),
        ("/etc//./y/../x", ["/etc/x"]),
        ("/etc/one", ["/etc/one", "/srv/two", "/srv/at/end"]),
        ("/etc/folder/x/y", ["/etc/folder", "/srv/x/y"]),
        ("/etc/above/x", ["/etc/above", "/x"]),
        ("/etc/loop", [*["/etc/loop"] * 40, "/etc/loop"]),
    ],
)
def test_the_way_to_what_a_name_means(path: str, way: list[str]) -> None:
    links = {
        "/etc/one": "../srv/two",
        "/srv/two": "at/end",
        "/etc/folder": "/srv",
        "/etc/above": "../..",
        "/etc/loop": "loop",
    }
    assert way_to(path, links.get) == way


def test_a_document_is_heard_of_by_all_that_read_it(root: Path) -> None:
    main_cf, aliases, table = (f"{root}/etc/{n}" for n in ("postfix/main.cf", "aliases", "table"))
    other = f"{root}/etc/other"
    mine = Files(main_cf, (aliases,), documents=(aliases, table, other))
    theirs = Files(f"{root}/out/main.cf", (), tables=(table, f"{table}.db"))
    for instances in ({"-": mine, "out": theirs}, {"out": theirs, "-": mine}):
        places = Places.of(instances, f"{root}/etc/pf-agent", read_link)
        assert places.why(table) == (Reason.DOCUMENT, None)
        assert places.why(aliases) == (Reason.DOCUMENT, None)
        assert places.why(other) == (Reason.DOCUMENT, "-")
        assert places.why(f"{table}.db") == (Reason.NAMED, "out")


def test_a_link_that_leads_to_a_document_matters_as_it_does(root: Path) -> None:
    link, target = root / "etc/link", root / "etc/target"
    target.touch()
    link.symlink_to(target)
    files = Files(f"{root}/etc/postfix/main.cf", (), documents=(str(link),))
    places = Places.of({"-": files}, f"{root}/etc/pf-agent", read_link)
    assert places.why(str(link)) == places.why(str(target)) == (Reason.DOCUMENT, "-")
