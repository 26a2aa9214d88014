"""The metrics' two ways out: the textfile, and HTTP on loopback."""

from __future__ import annotations

import http.client
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pf_agent.config.saved import digests
from pf_agent.errors import HostError
from pf_agent.files.whole import write_textfile
from pf_agent.model import DesiredState, Event, Phase, Place, Record, Status
from pf_agent.reporting.exposition import OPEN_METRICS, PLAIN
from pf_agent.reporting.metrics import Endpoint, Metrics

STATUS = Status(Phase.IN_SYNC, 1_800_000_000.0, parameters=1, version="1.2.3", pid=1)
DESIRED = DesiredState({"mynetworks": "127.0.0.0/8"}, frozenset({"sendmail_path"}))
CORRECTED = Record(Event.DRIFT_CORRECTED, "corrected: mynetworks", 1)


@pytest.fixture
def textfile(tmp_path: Path) -> Path:
    return tmp_path / "pf-agent.prom"


def listening(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    return socket.create_server((host.strip("[]"), int(port)), family=family)


def metrics_to(textfile: Path | str, listen: str = "") -> Metrics:
    told = digests({"-": DESIRED})
    return Metrics(str(textfile), listen, lambda: told, listening, write_textfile)


def corrections(path: Path) -> int:
    (line,) = (x for x in path.read_text().splitlines() if x.startswith("pf_agent_corrections_"))
    return int(line.split()[-1])


# --- the textfile ---------------------------------------------------------------------------------


def test_the_textfile_is_whole_and_for_everybody(textfile: Path) -> None:
    before = os.umask(0o077)
    try:
        metrics_to(textfile).publish(STATUS)
    finally:
        os.umask(before)
    text = textfile.read_text()
    assert text.startswith("# HELP pf_agent_up ")
    assert text.endswith("\n")
    assert stat.S_IMODE(textfile.stat().st_mode) == 0o644
    assert os.listdir(textfile.parent) == [textfile.name]


def test_what_happened_is_written_at_the_next_turn(textfile: Path) -> None:
    metrics = metrics_to(textfile)
    metrics.publish(STATUS)
    assert corrections(textfile) == 0
    metrics.note(CORRECTED)
    metrics.publish(STATUS)
    assert corrections(textfile) == 1


def test_a_change_of_phase_is_written_and_a_turn_that_changed_nothing_is_not(
    textfile: Path,
) -> None:
    metrics = metrics_to(textfile)
    metrics.publish(STATUS)
    first = textfile.stat().st_ino
    metrics.publish(replace(STATUS, next_look=5.0))
    assert textfile.stat().st_ino == first
    metrics.publish(replace(STATUS, instances={"out": replace(STATUS, phase=Phase.STALLED)}))
    assert 'pf_agent_phase{postfix_instance="out",phase="stalled"} 1' in textfile.read_text()


def test_a_stopped_agent_leaves_word(textfile: Path) -> None:
    metrics = metrics_to(textfile)
    metrics.publish(STATUS)
    metrics.close()
    text = textfile.read_text()
    assert "pf_agent_up 0\n" in text
    assert "in_sync" not in text


def test_a_missing_folder_is_told_of_once(tmp_path: Path) -> None:
    metrics = metrics_to(tmp_path / "nowhere" / "pf-agent.prom")
    with pytest.raises(HostError, match=r"pf-agent\.prom: .*; install prometheus-node-exporter"):
        metrics.publish(STATUS)
    metrics.note(CORRECTED)
    metrics.publish(STATUS)


def test_a_fault_that_comes_back_is_told_of_again(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    metrics = metrics_to(folder / "pf-agent.prom")
    for is_there in (False, True, False):
        if is_there:
            folder.mkdir()
        elif folder.exists():
            (folder / "pf-agent.prom").unlink()
            folder.rmdir()
        metrics.note(CORRECTED)
        if is_there:
            metrics.publish(STATUS)
            assert corrections(folder / "pf-agent.prom") == 2
        else:
            with pytest.raises(HostError):
                metrics.publish(STATUS)


def test_no_link_is_followed(tmp_path: Path, textfile: Path) -> None:
    other = tmp_path / "other"
    other.write_text("kept")
    textfile.symlink_to(other)
    (tmp_path / ".pf-agent.prom.new").symlink_to(other)
    write_textfile(str(textfile), b"x 1\n")
    assert other.read_text() == "kept"
    assert not textfile.is_symlink()
    assert textfile.read_bytes() == b"x 1\n"


# --- HTTP -----------------------------------------------------------------------------------------


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    served = Endpoint(listening("127.0.0.1:0"))
    yield served
    served.close()


def asked(
    port: int, method: str = "GET", path: str = "/metrics", accept: str = "*/*"
) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers={"Accept": accept})
        answer = connection.getresponse()
        return answer.status, answer.getheader("Content-Type", ""), answer.read()
    finally:
        connection.close()


def test_a_scrape_gets_the_format_that_it_asks_for(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"plain", OPEN_METRICS: b"open"}
    assert asked(endpoint.port) == (200, PLAIN, b"plain")
    # As Prometheus 2.42 asks.
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    assert asked(endpoint.port, accept=accept) == (200, OPEN_METRICS, b"open")


def test_there_is_nothing_else(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: b"plain", OPEN_METRICS: b"open"}
    assert asked(endpoint.port, path="/")[0] == 404
    assert asked(endpoint.port, path="/metrics/../etc/shadow")[0] == 404
    for method in ("HEAD", "POST", "PUT", "DELETE"):
        assert asked(endpoint.port, method)[0] == 501


def test_before_the_first_look_there_is_nothing_to_say(endpoint: Endpoint) -> None:
    assert asked(endpoint.port)[0] == 503


def test_a_client_that_says_nothing_or_hangs_up_stops_nobody(
    endpoint: Endpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint.texts = {PLAIN: b"x" * 10_000_000, OPEN_METRICS: b"open"}
    with socket.create_connection(("127.0.0.1", endpoint.port)) as hasty:
        hasty.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    with socket.create_connection(("127.0.0.1", endpoint.port)):
        assert len(asked(endpoint.port)[2]) == 10_000_000
    endpoint.raise_fault()
    assert capfd.readouterr() == ("", "")


def test_what_goes_wrong_while_it_is_served_reaches_the_loop(endpoint: Endpoint) -> None:
    endpoint.texts = {PLAIN: "no bytes"}  # type: ignore[dict-item]
    with pytest.raises((http.client.HTTPException, OSError)):
        asked(endpoint.port)
    assert asked(endpoint.port, path="/")[0] == 404  # the one before is over
    with pytest.raises(HostError, match="could not be answered"):
        endpoint.raise_fault()
    endpoint.raise_fault()


def test_http_alone_and_its_end() -> None:
    metrics = metrics_to("", "127.0.0.1:0")
    assert metrics.endpoint is not None
    port = metrics.endpoint.port
    metrics.publish(STATUS)
    status, _, body = asked(port)
    assert status == 200
    assert b"pf_agent_up 1\n" in body
    metrics.close()
    with pytest.raises(ConnectionRefusedError):
        asked(port)


def test_ipv6() -> None:
    try:
        served = Endpoint(listening("[::1]:0"))
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    try:
        with socket.create_connection(("::1", served.port), timeout=30) as client:
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.0 503 ")
    finally:
        served.close()


# --- the digest -----------------------------------------------------------------------------------


def test_the_digest_is_of_what_is_desired_and_not_of_where_it_stands() -> None:
    moved = replace(DESIRED, provenance={"mynetworks": Place("elsewhere.toml", 9)})
    other = replace(DESIRED, settings={"mynetworks": "10.0.0.0/8"})
    (first, second, third) = (digests({"-": state})["-"] for state in (DESIRED, moved, other))
    assert first == second != third
    assert len(first) == 16
