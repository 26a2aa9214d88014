"""tools/release: one version in three files, and the tag that has its name."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.checkout import CHECKOUT

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(shutil.which("git") is None, reason="no git to tag with"),
]

FILES = {
    "agent/pf_agent/__init__.py": '"""A package."""\n\n__version__ = "1.2.3"\n',
    "debian/changelog": "pf-agent (1.2.3) unstable; urgency=medium\n\n  * More.\n",
    "CHANGELOG.md": "# Changelog\n\n## [1.2.3] - 2026-11-30\n\n### Added\n\n- A wonder.\n\n"
    "## [1.2.2] - 2026-11-29\n\n- An older one.\n",
}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "tools").mkdir()
    shutil.copy(CHECKOUT / "tools" / "release", tmp_path / "tools")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    for name, value in (("name", "A"), ("email", "a@example.org")):
        git(tmp_path, "config", f"user.{name}", value)
    return tmp_path


def release(checkout: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [checkout / "tools" / "release", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def test_the_tag_has_the_version_and_what_is_new_in_it(checkout: Path) -> None:
    assert release(checkout, "--check") == (0, "v1.2.3\n")
    assert git(checkout, "tag") == ""
    assert release(checkout)[0] == 0
    told = git(checkout, "for-each-ref", "--format=%(contents)", "refs/tags/v1.2.3")
    assert told.rstrip() == "pf-agent 1.2.3\n\n### Added\n\n- A wonder."


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("agent/pf_agent/__init__.py", "1.2.3", "1.2.4", "debian/changelog is not of 1.2.4"),
        ("agent/pf_agent/__init__.py", "__version__", "version", "has no __version__"),
        ("debian/changelog", "unstable", "UNRELEASED", "still UNRELEASED"),
        ("debian/changelog", "1.2.3", "1x2x3", "not of 1.2.3"),
        ("CHANGELOG.md", "2026-11-30", "Unreleased", 'no entry "## [1.2.3] - YYYY-MM-DD"'),
        ("CHANGELOG.md", "1.2.3", "1.2.30", 'no entry "## [1.2.3] - YYYY-MM-DD"'),
    ],
)
def test_what_is_not_one_version_is_no_release(
    checkout: Path, name: str, old: str, new: str, said: str
) -> None:
    (checkout / name).write_text(FILES[name].replace(old, new))
    git(checkout, "commit", "-qam", "changed")
    code, told = release(checkout)
    assert (code, git(checkout, "tag")) == (1, "")
    assert said in told


def test_only_what_is_committed_is_released(checkout: Path) -> None:
    (checkout / "more").touch()
    code, told = release(checkout)
    assert (code, git(checkout, "tag")) == (1, "")
    assert "not committed" in told


def test_a_release_is_tagged_once(checkout: Path) -> None:
    assert release(checkout)[0] == 0
    code, told = release(checkout)
    assert code == 1
    assert "the tag v1.2.3 exists" in told
