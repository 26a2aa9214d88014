"""Records: the fields that journald gets, and the lines that a console gets.

Who listens here only takes apart what comes: that journald takes these fields and gives them back
is proved on a booted machine.
"""

from __future__ import annotations

import fcntl
import io
import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from pf_agent import names
from pf_agent.model import Event, Record
from pf_agent.reporting.journal import MESSAGE_IDS, Journal, console_of
from pf_agent.words.outgoing import PROCESS

# systemd.journal-fields(7): anything else journald drops without a word.
VALID_NAME = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


class Journald:
    """Who listens where journald would, by its protocol."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(place)
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def journal(self, console: TextIO | None = None) -> Journal:
        return Journal(console, self._place)

    def records(self) -> list[dict[str, bytes]]:
        """What came since the last call."""
        found = []
        with suppress(BlockingIOError):
            while True:
                found.append(record_of(self._received()))
        return found

    def only(self) -> dict[str, bytes]:
        (record,) = self.records()
        return record

    def _received(self) -> bytes:
        data, handles, _flags, _address = socket.recv_fds(self._socket, 1 << 20, 1)
        for handle in handles:
            with open(handle, "rb") as file:
                assert fcntl.fcntl(file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
                assert data == b""
                file.seek(0)
                data = file.read()
        return data


def record_of(data: bytes) -> dict[str, bytes]:
    """The fields of a record (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
    found: dict[str, bytes] = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, plain, value = line.partition(b"=")
        if not plain:
            length = int.from_bytes(data[:8], "little")
            value, data = data[8 : 8 + length], data[8 + length :]
            assert data.startswith(b"\n")
            data = data[1:]
        assert name.decode() not in found, "a field was sent twice"
        found[name.decode()] = value
    return found


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    found = Journald(str(tmp_path / "journald"))
    yield found
    found.close()


def field_names() -> Iterator[str]:
    return (value for name, value in vars(names).items() if name.startswith("FIELD_"))


# --- what journald gets ------------------------------------------------------------------------


def test_every_event_has_a_message_id_of_its_own() -> None:
    assert set(MESSAGE_IDS) == set(Event)
    assert len(set(MESSAGE_IDS.values())) == len(Event)
    for message_id in MESSAGE_IDS.values():
        assert re.fullmatch(r"[0-9a-f]{32}", message_id)


@pytest.mark.parametrize("event", Event)
def test_a_record_of_each_event(event: Event, journald: Journald) -> None:
    journald.journal().emit(Record(event, "a sentence", 12, {names.FIELD_REASON: "why"}))
    record = journald.only()
    assert record.pop("PRIORITY") in (b"6", b"4", b"3")
    assert record == {
        "MESSAGE": b"a sentence",
        "MESSAGE_ID": MESSAGE_IDS[event].encode(),
        "SYSLOG_IDENTIFIER": b"pf-agent",
        "PF_AGENT_EVENT": event.value.encode(),
        "PF_AGENT_CYCLE": b"12",
        "PF_AGENT_REASON": b"why",
    }


def test_priorities_tell_trouble_from_drift_and_from_life(journald: Journald) -> None:
    for event in (Event.ROLLED_BACK, Event.DRIFT_DETECTED, Event.STARTED):
        journald.journal().emit(Record(event, "x"))
    assert [record["PRIORITY"] for record in journald.records()] == [b"3", b"4", b"6"]


def test_a_record_of_no_cycle_has_no_such_field(journald: Journald) -> None:
    journald.journal().emit(Record(Event.STARTED, "x"))
    assert names.FIELD_CYCLE not in journald.only()


def test_every_field_that_has_a_name_reaches_journald(journald: Journald) -> None:
    journald.journal().emit(Record(Event.DRIFT_DETECTED, "x", 1, dict.fromkeys(field_names(), "v")))
    record = journald.only()
    assert set(field_names()) <= record.keys()
    for name in record:
        assert VALID_NAME.fullmatch(name), name


@pytest.mark.parametrize("name", ["lower", "_UNDERSCORE", "1DIGIT", "A-B", "A" * 65, "", "A\n"])
def test_a_name_that_journald_would_drop_is_refused_aloud(name: str, journald: Journald) -> None:
    with pytest.raises(ValueError, match="journal field"):
        journald.journal().emit(Record(Event.STARTED, "x", fields={name: "v"}))
    assert journald.records() == []


def test_a_value_with_line_breaks_forges_no_record(journald: Journald) -> None:
    value = "1\nMESSAGE=forged\n\nPRIORITY=0"
    journald.journal().emit(Record(Event.DRIFT_DETECTED, "x", fields={names.FIELD_ACTUAL: value}))
    record = journald.only()
    assert record[names.FIELD_ACTUAL] == value.encode()
    assert record["MESSAGE"] == b"x"


def test_bytes_that_are_not_utf8_are_sent_as_text(journald: Journald) -> None:
    value = b"caf\xe9 \xc3\xa9".decode("utf-8", "surrogateescape")
    journald.journal().emit(Record(Event.DRIFT_DETECTED, value, fields={names.FIELD_ACTUAL: value}))
    record = journald.only()
    assert record[names.FIELD_ACTUAL] == "caf\\xe9 é".encode()
    assert record["MESSAGE"] == "caf\\xe9 é".encode()


def test_a_long_value_is_cut_at_a_character_and_says_how_long_it_was(journald: Journald) -> None:
    fields = {names.FIELD_ACTUAL: "x" + "é" * 5000, names.FIELD_EXPECTED: "x" * 4000}
    journald.journal().emit(Record(Event.DRIFT_DETECTED, "x", fields=fields))
    record = journald.only()
    assert record[names.FIELD_EXPECTED] == b"x" * 4000
    cut = record[names.FIELD_ACTUAL]
    assert len(cut) < 4096
    assert re.fullmatch(r"xé{1900,}\.\.\. \(10001 bytes\)", cut.decode())


def test_a_diff_may_be_longer_but_not_without_end(journald: Journald) -> None:
    for size in (200_000, 5_000_000):
        journald.journal().emit(
            Record(Event.DRIFT_CORRECTED, "x", fields={names.FIELD_DIFF: "-" * size})
        )
    whole, cut = (record[names.FIELD_DIFF] for record in journald.records())
    assert whole == b"-" * 200_000
    assert len(cut) < 300_000
    assert cut.endswith(b"... (5000000 bytes)")


def test_a_note_is_a_warning_and_no_event(journald: Journald) -> None:
    journald.journal().note("skipped")
    assert journald.only() == {
        "MESSAGE": b"skipped",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"pf-agent",
    }


def test_a_fault_of_ours_carries_its_traceback(journald: Journald) -> None:
    try:
        raise RuntimeError("a bug")
    except RuntimeError as error:
        journald.journal().fault("the cycle failed", error)
    record = journald.only()
    assert record["MESSAGE"] == b"the cycle failed: RuntimeError('a bug')"
    assert record["PRIORITY"] == b"3"
    assert b'raise RuntimeError("a bug")' in record["PF_AGENT_TRACEBACK"]
    assert record.keys() == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "PF_AGENT_TRACEBACK"}


# --- a journal that hangs -----------------------------------------------------------------------


def fill(journald: Journald) -> tuple[Journal, int]:
    """A journal that journald does not read, with more records than its socket takes."""
    journal, count = journald.journal(), 0
    while journal.catch_up():
        journal.emit(Record(Event.DRIFT_DETECTED, f"record {count}"))
        count += 1
    return journal, count


def numbers(records: list[dict[str, bytes]]) -> list[int]:
    return [int(record["MESSAGE"].split()[1]) for record in records]


def test_a_journal_that_reads_nothing_holds_nobody_up_and_gets_all_in_order(
    journald: Journald,
) -> None:
    journal, count = fill(journald)
    for number in range(count, count + 10):
        journal.emit(Record(Event.DRIFT_DETECTED, f"record {number}"))
    found = journald.records()
    while not journal.catch_up() or len(found) < count + 10:
        found += journald.records()
    assert numbers(found) == list(range(count + 10))


def test_a_record_too_long_for_a_datagram_waits_in_its_turn(journald: Journald) -> None:
    journal, count = fill(journald)
    diff = {names.FIELD_DIFF: "-" * 250_000}
    journal.emit(Record(Event.DRIFT_CORRECTED, f"record {count}", fields=diff))
    journal.emit(Record(Event.ACTIVATED, f"record {count + 1}"))
    found = journald.records()
    while not journal.catch_up() or len(found) < count + 2:
        found += journald.records()
    assert numbers(found) == list(range(count + 2))
    assert found[-2][names.FIELD_DIFF] == b"-" * 250_000


def test_what_was_lost_is_counted_and_told_where_it_is_missing(journald: Journald) -> None:
    journal, count = fill(journald)
    for number in range(count, count + 1500):
        journal.emit(Record(Event.DRIFT_DETECTED, f"record {number}"))
    found = journald.records()
    while not journal.catch_up():
        found += journald.records()
    found += journald.records()
    (place,) = (i for i, record in enumerate(found) if b"records were lost" in record["MESSAGE"])
    lost = int(found[place]["MESSAGE"].split()[0])
    assert found[place]["PRIORITY"] == b"3"
    before, after = numbers(found[:place]), numbers(found[place + 1 :])
    assert [*before, *after] == [*range(len(before)), *range(len(before) + lost, count + 1500)]


def test_at_the_end_a_journal_that_hangs_has_some_time_and_no_more(
    journald: Journald, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, count = fill(journald)
    journal.settle(0.1)
    said = capsys.readouterr().err
    assert said.startswith("<3>pf-agent: 1 record was lost: ")
    found = journald.records()
    journal.settle(30.0)
    assert capsys.readouterr().err == ""
    assert numbers(found + journald.records()) == list(range(count))


# --- what a console gets -----------------------------------------------------------------------


def test_a_console_shows_each_record_as_one_line(journald: Journald) -> None:
    console = io.StringIO()
    journal = journald.journal(console)
    journal.emit(Record(Event.DRIFT_DETECTED, 'a is "2"', 1, {names.FIELD_DIFF: "-a\n+b\n"}))
    journal.note("skipped")
    assert console.getvalue() == 'pf-agent: drift-detected: a is "2"\npf-agent: note: skipped\n'
    assert len(journald.records()) == 2


def test_a_line_is_on_the_console_at_once(journald: Journald, tmp_path: Path) -> None:
    with open(tmp_path / "console", "w", encoding="utf-8") as console:
        journald.journal(console).note("now")
        assert (tmp_path / "console").read_text() == "pf-agent: note: now\n"


def test_a_console_shows_the_traceback_of_a_fault(journald: Journald) -> None:
    console = io.StringIO()
    journald.journal(console).fault("the cycle failed", RuntimeError("a bug"))
    first, *rest = console.getvalue().rstrip().splitlines()
    assert first == "pf-agent: note: the cycle failed: RuntimeError('a bug')"
    assert rest[-1] == "RuntimeError: a bug"


def test_no_message_steers_the_terminal(journald: Journald) -> None:
    console = io.StringIO()
    journald.journal(console).emit(
        Record(Event.CONFIG_REJECTED, "x\x1b[2J\n\udcffpf-agent: forged")
    )
    (line,) = console.getvalue().splitlines()
    assert "\x1b" not in line
    line.encode()


def test_without_a_console_nothing_is_printed(
    journald: Journald, capsys: pytest.CaptureFixture[str]
) -> None:
    journald.journal().emit(Record(Event.STARTED, "x"))
    assert capsys.readouterr() == ("", "")


def test_where_the_journal_will_not_take_it_stderr_does(
    journald: Journald, capsys: pytest.CaptureFixture[str]
) -> None:
    journald.close()
    journald.journal().emit(Record(Event.STARTED, "x"))
    said = capsys.readouterr().err
    # "<3>" is the level, for whoever reads our stderr (sd-daemon(3)).
    assert said.startswith("<3>pf-agent: started: x (")
    assert "Connection refused" in said
    assert said.count("\n") == 1


def test_a_console_that_shows_it_needs_no_word_about_the_journal(
    journald: Journald, capsys: pytest.CaptureFixture[str]
) -> None:
    journald.close()
    console = io.StringIO()
    journald.journal(console).emit(Record(Event.STARTED, "x"))
    assert console.getvalue() == "pf-agent: started: x\n"
    assert capsys.readouterr().err == ""


def test_a_console_that_is_gone_stops_neither_the_agent_nor_the_journal(
    journald: Journald, tmp_path: Path
) -> None:
    closed = io.StringIO()
    closed.close()
    journald.journal(closed).emit(Record(Event.STARTED, "x"))
    with open("/dev/full", "w", encoding="utf-8") as full:
        journald.journal(full).emit(Record(Event.STARTED, "x"))
        # What could not be written must not be tried again when the file is closed.
        with pytest.raises(OSError, match="No space left"):
            full.close()
    assert len(journald.records()) == 2


def test_a_console_that_nobody_reads_holds_nobody_up_and_gets_all_in_order(
    journald: Journald,
) -> None:
    there, here = os.pipe()
    with open(there, encoding="utf-8") as reader, open(here, "w", encoding="utf-8") as console:
        journal = journald.journal(console)
        count = 0
        while journal.catch_up():
            journal.note(f"{count} {'é' * 3000}")
            journald.records()
            count += 1
        journal.note("the last")
        for number in range(count):
            assert reader.readline() == f"pf-agent: note: {number} {'é' * 3000}\n"
            journal.catch_up()
        assert reader.readline() == "pf-agent: note: the last\n"


# --- which of both -----------------------------------------------------------------------------


def test_a_stream_that_systemd_tied_to_the_journal_is_no_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "stream", "w", encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.delenv("JOURNAL_STREAM", raising=False)
        assert console_of(stream) is stream
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert console_of(stream) is None
        # Inherited, and stderr was sent elsewhere since.
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino + 1}")
        assert console_of(stream) is stream


def test_a_stream_without_a_file_is_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    stream = io.StringIO()
    assert console_of(stream) is stream


# --- secrets -------------------------------------------------------------------------------------


def test_no_field_and_no_line_has_a_secret_that_was_read(journald: Journald) -> None:
    PROCESS.read_main_cf(b"relay_pass =\n  Tr0ub4dor&3\n")
    said = "main.cf: unused parameter: x=Tr0ub4dor&3"
    console = io.StringIO()
    journal = journald.journal(console)
    fields = {f"PF_AGENT_{name}": said for name in ("LOG", "DIFF", "REASON", "WARNINGS", "NEW")}
    journal.emit(Record(Event.ROLLED_BACK, said, 1, fields))
    journal.note(said)
    try:
        raise KeyError("Tr0ub4dor&3")
    except KeyError as error:
        journal.fault("an error", error)
    told = journald.records()
    assert len(told) == 3
    assert all(b"(hidden)" in record["MESSAGE"] for record in told)
    assert "Tr0ub4dor&3" not in f"{told}{console.getvalue()}"
