"""apt installs pf-agent from the repository that tools/apt-repo makes, and from no forged one.

The repository is made on the host, as a publisher does, and served over HTTP inside the machine.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pf_agent import __version__
from tests.checkout import CHECKOUT
from tests.documents import blocks, commands
from tests.machine.nspawn import Machine
from tests.machine.site import QUIET

URL = "http://127.0.0.1:8077"
SERVED = "/srv/served"
KEYRING = "pf-agent-archive-keyring.gpg"
INDEX = "dists/stable/main/binary-all"
POOL = "pool/stable/main/p/pf-agent"


class Publisher:
    """Somebody with keys who makes a repository on the host."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700)
        self._env = {**os.environ, "GNUPGHOME": str(home)}

    def gpg(self, *arguments: str) -> str:
        command = ["gpg", "--batch", "--yes", "--passphrase", "", *arguments]
        return self._run(command, check=True).stdout

    def key(self, kind: str) -> str:
        """Make a key; the address to call it by."""
        address = f"{kind}@example.test"
        self.gpg("--quick-generate-key", address, kind, "sign", "never")
        return address

    def make(
        self, folder: Path, *options: str, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = [str(CHECKOUT / "tools/apt-repo"), "--output", str(folder), "--url", URL]
        return self._run([*command, *options], check=check)

    def sign(self, folder: Path, key: str) -> None:
        """Sign a Release that was edited by hand."""
        release = folder / "dists/stable/Release"
        for mode, name in (("--clear-sign", "InRelease"), ("--detach-sign", "Release.gpg")):
            target = str(release.with_name(name))
            self.gpg("--local-user", key, "--armor", mode, "--output", target, str(release))

    def end(self) -> None:
        self._run(["gpgconf", "--kill", "all"], check=True)

    def _run(self, command: list[str], check: bool) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, env=self._env, capture_output=True, text=True, timeout=120, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done


@pytest.fixture(scope="module")
def publisher(host: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Publisher]:
    found = Publisher(tmp_path_factory.mktemp("publisher") / "gnupg")
    yield found
    found.end()


@pytest.fixture(scope="module")
def key(publisher: Publisher) -> str:
    return publisher.key("ed25519")


@pytest.fixture(scope="module")
def repository(
    publisher: Publisher, key: str, deb: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("repository") / "served"
    publisher.make(folder, "--key", key, "--valid-days", "30", str(deb))
    return folder


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """For a test that changes it."""
    subprocess.run(["cp", "-a", str(repository), str(tmp_path)], check=True)
    return tmp_path / repository.name


@pytest.fixture(scope="module")
def client(machine: Machine, repository: Path) -> Machine:
    """A host that knows the key and the place, and a web server."""
    machine.run(["mkdir", SERVED])
    server = ["python3", "-u", "-m", "http.server", "8077", "--bind", "127.0.0.1", "-d", SERVED]
    machine.run(["systemd-run", "-q", "--unit=web", *server])
    machine.copy_in([repository / KEYRING], "/etc/apt/keyrings")
    machine.copy_in([repository / "pf-agent.sources"], "/etc/apt/sources.list.d")
    machine.wait_until(f"python3 -c 'import urllib.request as u; u.urlopen(\"{URL}\")'")
    return machine


@pytest.fixture
def serve(client: Machine) -> Callable[[Path], Machine]:
    """Serve a repository to a client that never saw another one."""

    def serve(folder: Path) -> Machine:
        client.sh(f"rm -rf {SERVED} /var/lib/apt/lists/* /var/cache/apt/*.bin")
        client.copy_in([folder], str(Path(SERVED).parent))
        client.run(["apt-get", "clean"])
        return client

    return serve


def update(machine: Machine) -> tuple[int, str]:
    """`apt-get update`: its exit code and all that it said."""
    command = ["apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update"]
    done = machine.run(command, check=False)
    return done.returncode, done.stdout + done.stderr


def is_offered(machine: Machine) -> bool:
    """Whether apt would install pf-agent, without a word of who trusts it."""
    command = ["apt-get", "-q", "--simulate", "install", "pf-agent"]
    return machine.run(command, check=False).returncode == 0


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# What is forged is refused


def test_an_index_without_a_signature_is_refused(
    serve: Callable[[Path], Machine], copy: Path
) -> None:
    (copy / "dists/stable/InRelease").unlink()
    (copy / "dists/stable/Release.gpg").unlink()
    machine = serve(copy)
    code, said = update(machine)
    assert code == 100
    assert "is not signed" in said
    assert not is_offered(machine)


@pytest.mark.parametrize(
    ("signed", "taken_away"), [("InRelease", "Release"), ("Release", "InRelease")]
)
def test_an_index_that_was_changed_after_signing_is_refused(
    serve: Callable[[Path], Machine], copy: Path, signed: str, taken_away: str
) -> None:
    """The signature is in InRelease, or beside Release in Release.gpg: apt takes either."""
    (copy / "dists/stable" / taken_away).unlink()
    replace(copy / "dists/stable" / signed, "Label: pf-", "Label: fp-")
    machine = serve(copy)
    code, said = update(machine)
    assert code == 100
    assert "signature" in said.lower() or "not signed" in said
    assert not is_offered(machine)


def test_another_key_is_refused(
    serve: Callable[[Path], Machine], copy: Path, publisher: Publisher
) -> None:
    publisher.sign(copy, publisher.key("nistp256"))
    machine = serve(copy)
    code, said = update(machine)
    assert code == 100
    assert "not signed" in said
    assert not is_offered(machine)


def test_an_expired_index_is_refused(
    serve: Callable[[Path], Machine], copy: Path, publisher: Publisher, key: str
) -> None:
    release = copy / "dists/stable/Release"
    lines = release.read_text().splitlines(keepends=True)
    dates = {"Date": "Wed, 01 Jan 2020 00:00:00", "Valid-Until": "Fri, 31 Jan 2020 00:00:00"}
    changed = [
        f"{name}: {dates[name]} +0000\n" if (name := line.partition(":")[0]) in dates else line
        for line in lines
    ]
    assert changed != lines
    release.write_text("".join(changed))
    publisher.sign(copy, key)
    machine = serve(copy)
    code, said = update(machine)
    assert code == 100
    assert "is expired" in said
    assert not is_offered(machine)


def test_a_list_of_packages_that_was_changed_is_refused(
    serve: Callable[[Path], Machine], copy: Path
) -> None:
    """Of the right size; the compressed ones are not there, so that apt takes this one."""
    for path in filter(Path.is_file, (copy / INDEX).rglob("*")):
        data = path.read_bytes()
        if b"\nVersion: " in data:
            path.write_bytes(re.sub(rb"(\nVersion: )\d", rb"\g<1>9", data))
        else:
            path.unlink()
    machine = serve(copy)
    code, said = update(machine)
    assert code == 100
    assert "Hash Sum mismatch" in said
    assert not is_offered(machine)


def test_a_package_that_was_changed_is_refused(
    serve: Callable[[Path], Machine], copy: Path
) -> None:
    (deb,) = (copy / POOL).iterdir()
    data = bytearray(deb.read_bytes())
    data[-100] ^= 1
    deb.write_bytes(data)
    machine = serve(copy)
    assert update(machine)[0] == 0
    command = ["apt-get", "-q", "install", "-y", "pf-agent"]
    done = machine.run(command, check=False, timeout=180)
    assert done.returncode == 100
    assert "Hash Sum mismatch" in done.stdout + done.stderr
    assert machine.run(["dpkg-query", "-W", "pf-agent"], check=False).returncode == 1


def test_a_host_without_the_key_refuses(serve: Callable[[Path], Machine], repository: Path) -> None:
    machine = serve(repository)
    machine.run(["mv", f"/etc/apt/keyrings/{KEYRING}", "/root"])
    code, _ = update(machine)
    machine.run(["mv", f"/root/{KEYRING}", "/etc/apt/keyrings"])
    assert code == 100
    assert not is_offered(machine)


# What is not


def test_a_key_of_rsa4096_is_taken(
    serve: Callable[[Path], Machine], publisher: Publisher, deb: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    publisher.make(folder, "--key", publisher.key("rsa4096"), str(deb))
    machine = serve(folder)
    good = machine.read_bytes(f"/etc/apt/keyrings/{KEYRING}")
    machine.copy_in([folder / KEYRING], "/etc/apt/keyrings")
    code, said = update(machine)
    machine.write_bytes(f"/etc/apt/keyrings/{KEYRING}", good)
    assert code == 0, said
    assert is_offered(machine)


def test_apt_installs_from_it_without_a_warning(
    serve: Callable[[Path], Machine], repository: Path
) -> None:
    """By the commands that docs/repository.md gives to hosts."""
    machine = serve(repository)
    machine.sh(f"rm /etc/apt/keyrings/{KEYRING} /etc/apt/sources.list.d/pf-agent.sources")
    said = ""
    for command in commands(blocks("docs/repository.md")[-2]):
        text = command.text.replace("https://packages.example.org", URL)
        done = machine.run(["sh", "-c", text], timeout=180, env=QUIET)
        if text.startswith("apt-get"):  # apt-helper tells of its sandbox
            said += done.stdout + done.stderr
    assert [line for line in said.splitlines() if line[:2] in ("W:", "E:", "N:")] == []
    shown = machine.run(["dpkg-query", "-W", "-f", "${Version}", "pf-agent"]).stdout
    assert shown.startswith(__version__)
    policy = machine.run(["apt-cache", "policy", "pf-agent"]).stdout
    assert f"500 {URL} stable/main all Packages" in policy
    machine.wait_until("systemctl is-active pf-agent && pf-agent diff")
    asked = machine.sh("journalctl -u web -o cat --no-pager")
    assert "/by-hash/SHA256/" in asked, "else a host may meet half of an update"


# What the publisher sees


def test_a_second_run_keeps_what_hosts_may_be_fetching(
    publisher: Publisher, key: str, copy: Path, deb: Path
) -> None:
    """Of the index before, and of no older one; and of every version."""
    first = hashes(copy)
    publisher.make(copy, "--key", key, str(newer(deb, copy.parent, "1.0.1")))
    second = hashes(copy)
    assert first < second
    publisher.make(copy, "--key", key, str(newer(deb, copy.parent, "1.0.2")))
    assert hashes(copy) & first == set()
    assert second - first < hashes(copy)
    assert len(list((copy / POOL).iterdir())) == 3
    assert (copy / INDEX / "Packages").read_text().count("Package: pf-agent\n") == 3


def test_a_version_has_one_content(
    publisher: Publisher, key: str, copy: Path, deb: Path, tmp_path: Path
) -> None:
    before = (copy / "dists/stable/InRelease").read_bytes()
    other = newer(deb, tmp_path, __version__)
    done = publisher.make(copy, "--key", key, str(other), check=False)
    assert done.returncode == 2
    assert "is there with other contents; give the package a new version" in done.stderr
    assert (copy / "dists/stable/InRelease").read_bytes() == before


@pytest.mark.parametrize(("kind", "said"), [("rsa2048", "too weak"), ("nobody", "no secret key")])
def test_a_key_that_apt_would_refuse_is_refused(
    publisher: Publisher, deb: Path, tmp_path: Path, kind: str, said: str
) -> None:
    name = publisher.key(kind) if kind != "nobody" else kind
    done = publisher.make(tmp_path / "served", "--key", name, str(deb), check=False)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "served").exists()


def hashes(folder: Path) -> set[str]:
    return {path.name for path in (folder / INDEX / "by-hash/SHA256").iterdir()}


def newer(deb: Path, scratch: Path, version: str) -> Path:
    """The same package with another version and other bytes."""
    unpacked, made = scratch / f"unpacked-{version}", scratch / f"pf-agent_{version}.deb"
    subprocess.run(["dpkg-deb", "-R", str(deb), str(unpacked)], check=True)
    control = unpacked / "DEBIAN/control"
    lines = control.read_text().splitlines()
    changed = [f"Version: {version}" if line.startswith("Version:") else line for line in lines]
    control.write_text("\n".join([*changed, "Origin: another"]) + "\n")
    subprocess.run(["dpkg-deb", "-Znone", "-b", str(unpacked), str(made)], check=True)
    return made
