"""Every way in which people save a file: seen, corrected, and all that is not ours kept."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pf_agent import names
from pf_agent.words import sentences
from tests.machine.nspawn import Machine
from tests.machine.site import AGENT_TOML, MAIN_CF, Site, eventually

RIGHT = b"mynetworks = 127.0.0.0/8 [::1]/128 172.16.0.0/12 [fe80::]/64\n"
WRONG = b"mynetworks = 0.0.0.0/0\n"

# What the scripts below need. They run twice: on a copy first, to learn what they make of it.
_BEGIN = r"""
set -e
dir=$1 file=$1/main.cf
drifted() { sed 's|^mynetworks *=.*|mynetworks = 0.0.0.0/0|' "$file"; }
"""


@dataclass(frozen=True)
class Way:
    """A way of saving, as a shell script, and the kind of drift that it makes."""

    kind: str
    script: str


WAYS = {
    "appended": Way("changed", 'echo "mynetworks = 0.0.0.0/0" >> "$file"'),
    "given twice, the last is right": Way(
        "duplicated", 'sed -i "/^mynetworks =/i mynetworks = 0.0.0.0/0" "$file"'
    ),
    "rewritten in place": Way("changed", 'text=$(drifted); echo "$text" > "$file"'),
    "bytes replaced in place": Way(
        "changed",
        "at=$(grep -bo '^mynetworks = ' \"$file\" | cut -d: -f1);"
        'printf 9 | dd of="$file" bs=1 seek=$((at + 13)) conv=notrunc status=none',
    ),
    "truncated to nothing": Way("absent-file", ': > "$file"'),
    "cut off": Way("absent-file", 'truncate --size=-40 "$file"'),
    "sed -i": Way("changed", 'sed -i "s|^mynetworks *=.*|mynetworks=0.0.0.0/0|" "$file"'),
    "vim, renaming": Way(
        "changed",
        'vi -u NONE -es -c "set backupcopy=no" -c "%s,^mynetworks =.*,mynetworks = ::/0,"'
        ' -c wq "$file" < /dev/null',
    ),
    "vim, in place": Way(
        "changed",
        'vi -u NONE -es -c "set backupcopy=yes" -c "%s,^mynetworks =.*,mynetworks = ::/0,"'
        ' -c wq "$file" < /dev/null',
    ),
    "ex": Way(
        "changed", 'printf "%%s,^mynetworks =.*,mynetworks = ::/0,\nx\n" | ex -u NONE -s "$file"'
    ),
    "postconf -e": Way("changed", 'postconf -c "$dir" -e mynetworks=0.0.0.0/0'),
    "postconf -X": Way("missing", 'postconf -c "$dir" -X myorigin'),
    "mv from elsewhere, long ago": Way(
        "changed",
        'drifted > /root/new; touch -d "2020-01-01 12:00" /root/new; mv /root/new "$file"',
    ),
    "mv from another file system": Way(
        "changed", 'drifted > /dev/shm/new; mv /dev/shm/new "$file"'
    ),
    "cp -p": Way(
        "changed", 'drifted > /root/new; touch -d 2020-01-01 /root/new; cp -p /root/new "$file"'
    ),
    "deleted": Way("absent-file", 'rm "$file"'),
    "deleted and made anew": Way(
        "changed", 'drifted > /root/new; rm "$file"; cat /root/new > "$file"'
    ),
    "chmod 600": Way("mode", 'chmod 600 "$file"'),
    "chmod 666": Way("mode", 'chmod 666 "$file"'),
    "chown nobody": Way("mode", 'chown nobody "$file"'),
    "another line for the value": Way(
        "changed", 'sed -i "/^mynetworks =/a \\\\\\t0.0.0.0/0" "$file"'
    ),
    "a value of several lines": Way(
        "changed", 'sed -i "s|^mynetworks =.*|mynetworks =\\n  10.0.0.0/8\\n\\t0.0.0.0/0|" "$file"'
    ),
}


@pytest.fixture(scope="module")
def site(agent_machine: Machine) -> Site:
    """No restarts but in `_restarting`: Postfix's own start writes its paths into main.cf where it
    finds none, or another than the one that it began with (post-install).
    """
    site = Site.prepared(agent_machine)
    set_options(site, site.closed_window())
    return site


def set_options(site: Site, text: str) -> None:
    site.machine.write_text(AGENT_TOML, text)
    site.machine.run(["systemctl", "reload", "pf-agent"])


@pytest.fixture
def _restarting(site: Site) -> Iterator[None]:
    """Postfix is restarted as corrections ask for it, and runs with the good text to begin with."""
    site.forget_restarts()
    site.end_contest()
    set_options(site, "")
    site.wait_settled()
    # One that started while there was no main.cf has written its paths into the one that came.
    site.put(site.good)
    site.wait_remembered()
    yield
    set_options(site, site.closed_window())


@pytest.fixture(autouse=True)
def _put_back(site: Site) -> Iterator[None]:
    """Whatever a test left standing that is nobody's drift."""
    yield
    if site.read() != site.good:
        site.put(site.good)
    site.wait_right()


def made_of_a_copy(site: Site, way: Way) -> bytes | None:
    """What the script makes of main.cf, tried on a copy; None where it leaves no file."""
    site.machine.sh("rm -rf /root/copy; cp -a /etc/postfix /root/copy")
    site.machine.run(["sh", "-c", _BEGIN + way.script, "sh", "/root/copy"])
    if site.machine.run(["test", "-e", "/root/copy/main.cf"], check=False).returncode:
        return None
    return site.machine.read_bytes("/root/copy/main.cf")


def displaced_since(site: Site, since: str) -> list[bytes]:
    """The texts that the corrections since then say they displaced."""
    records = site.records("drift-corrected", since)
    paths = [p for r in records for p in r.get(names.FIELD_DISPLACED, "").split("\n") if p]
    return [site.machine.read_bytes(path) for path in paths]


@pytest.mark.parametrize("way", WAYS)
def test_a_way_of_saving_is_undone(site: Site, way: str) -> None:
    site.wait_remembered()
    text = made_of_a_copy(site, WAYS[way])
    assert text != site.good or WAYS[way].kind == "mode"
    since = site.cursor()
    site.machine.run(["sh", "-c", _BEGIN + WAYS[way].script, "sh", "/etc/postfix"])
    site.wait_right()
    kinds = {record[names.FIELD_KIND] for record in site.drift_of(since)}
    assert WAYS[way].kind in kinds
    eventually(lambda: bool(site.records("drift-corrected", since)), "the record of it")
    if text is not None:
        assert text in displaced_since(site, since)


def test_the_template_was_changed_only_where_the_guide_says(site: Site) -> None:
    """A commented setting is set under its comment; a default is commented out, not deleted."""
    wanted = site.desired()
    template = site.machine.read_text("/etc/postfix/main.cf.proto").splitlines()
    good = site.good.decode().splitlines()
    for name in wanted.use_default:
        for line in template:
            assert not line.startswith(f"{name} =") or f"#{line}" in good
    for name, value in wanted.settings.items():
        commented = [i for i, line in enumerate(good) if line.startswith(f"#{name} =")]
        if commented and not any(line.startswith(f"{name} =") for line in template):
            below = good[commented[-1] + 1 : good.index(f"{name} = {value}")]
            assert all(line.startswith("#\t") for line in below), "the comment's own next lines"
    for line in difflib.ndiff(template, good):
        name = line[2:].partition("=")[0].strip().lstrip("#")
        assert line[0] in " ?" or name in wanted.parameters(), line


def test_a_setting_that_was_commented_out_stands_below_its_comment(site: Site) -> None:
    site.machine.run(["sed", "-i", "s/^mynetworks =/#&/", MAIN_CF])
    site.wait_right(site.good.replace(RIGHT, b"#" + RIGHT + RIGHT))


def test_of_two_wrong_values_the_first_is_mended_where_its_comment_stands(site: Site) -> None:
    site.put(site.good.replace(RIGHT, WRONG) + b"mynetworks=::/0\n# the end\n")
    site.wait_right(site.good + b"# the end\n")


def test_given_twice_in_the_same_words_is_no_drift(site: Site) -> None:
    """Postfix says nothing of it, and there is nothing that it could read wrong."""
    since = site.cursor()
    site.put(site.good + RIGHT)
    site.machine.run(["systemctl", "reload", "pf-agent"])
    assert site.read() == site.good + RIGHT
    assert site.drift_of(since) == []


def test_a_default_is_commented_out_not_deleted(site: Site) -> None:
    site.machine.sh(f"printf 'mailq_path =\\n\\t/bin/true\\n' >> {MAIN_CF}")
    site.wait_right(site.good + b"#mailq_path =\n#\t/bin/true\n")


def test_a_comment_within_a_value_stays(site: Site) -> None:
    site.put(site.good.replace(RIGHT, b"mynetworks = ::1\n# and all others\n  0.0.0.0/0\n"))
    site.wait_right(site.good.replace(RIGHT, RIGHT + b"# and all others\n"))


@pytest.mark.parametrize("line", ["no equals sign", "no equals sign\n\tmore of it", "= value"])
def test_a_line_that_postfix_cannot_read_is_commented_out(site: Site, line: str) -> None:
    since = site.cursor()
    site.put(site.good.replace(RIGHT, f"{line}\n".encode() + RIGHT))
    commented = "".join(f"#{part}\n" for part in line.split("\n")).encode()
    site.wait_right(site.good.replace(RIGHT, commented + RIGHT))
    (record,) = site.drift_of(since)
    assert record[names.FIELD_KIND] == "unreadable"
    assert record[names.FIELD_ACTUAL] == sentences.printable(line)
    assert record[names.FIELD_LINE] == str(site.line_of("mynetworks"))


def test_everything_that_is_not_ours_is_kept(site: Site) -> None:
    top = b"# a note \t\n\t\n \nmy_own = a,\n# within\n\tb  \nRelayHost=x\n#\n"
    end = b"\n\n   \n# the end\nrelay_domains=$mydomain\n  "
    middle = site.good.replace(RIGHT, b"my_other =  two   words \n" + WRONG + b"##\n")
    site.put(top + middle + end)
    site.wait_right(top + middle.replace(WRONG, RIGHT) + end)


def test_acl_and_extended_attributes_are_kept(site: Site) -> None:
    site.machine.run(["setfacl", "-m", "u:games:r", MAIN_CF])
    site.machine.run(["setfattr", "-n", "user.note", "-v", "mine", MAIN_CF])
    site.machine.sh(f"echo mynetworks=::/0 >> {MAIN_CF}")
    site.wait_right()
    assert "user:games:r--" in site.machine.run(["getfacl", "-pc", MAIN_CF]).stdout
    assert 'user.note="mine"' in site.machine.run(["getfattr", "-d", MAIN_CF]).stdout


# Ways that take the old file away first: for a moment there is none.
_AWAY = {
    "vim, renaming": (
        'vi -u NONE -es -c "set backupcopy=no" -c "%s,^my_own = .*,my_own = $number," -c wq'
        ' "$file" < /dev/null'
    ),
    "mv from another file system": 'edited > /dev/shm/new; mv /dev/shm/new "$file"',
    "deleted and made anew": 'edited > /root/new; rm "$file"; cat /root/new > "$file"',
}
_AGAIN_AND_AGAIN = """
set -e
file=$1
edited() { sed "s/^my_own = .*/my_own = $number/" "$file"; }
for number in $(seq 40); do
    SCRIPT
    tries=0
    until sleep 0.1; grep -qx "my_own = $number" "$file"; do
        tries=$((tries + 1))
        [ $tries -lt 50 ] || { echo "edit $number is lost"; exit 1; }
    done
done
"""


@pytest.mark.parametrize("way", _AWAY)
def test_an_edit_of_what_is_not_ours_is_kept_however_it_is_saved(site: Site, way: str) -> None:
    site.put(site.good + b"my_own = 0\n")
    script = _AGAIN_AND_AGAIN.replace("SCRIPT", _AWAY[way])
    site.machine.run(["sh", "-c", script, "sh", MAIN_CF])
    assert b"my_own = 40\n" in site.read().splitlines(keepends=True)


# Links, and the folder itself


@pytest.mark.parametrize("target", ["/root/target", "/etc/postfix/target", "/nowhere"])
def test_a_symbolic_link_makes_way_for_the_file(site: Site, target: str) -> None:
    site.wait_remembered()
    text, since = site.good.replace(RIGHT, WRONG), site.cursor()
    if target != "/nowhere":
        site.machine.write_bytes(target, text)
    site.machine.run(["ln", "-sf", target, MAIN_CF])
    site.wait_right()
    if target != "/nowhere":
        assert site.machine.read_bytes(target) == text
    drift = [(r[names.FIELD_KIND], r[names.FIELD_ACTUAL]) for r in site.drift_of(since)]
    assert ("mode", "symbolic link") in drift


@pytest.mark.parametrize("link", ["/etc/postfix/other-name", "/root/other-name"])
def test_a_write_through_another_hard_link_is_seen(site: Site, link: str) -> None:
    site.machine.run(["ln", "-f", MAIN_CF, link])
    site.machine.sh(f"echo mynetworks=0.0.0.0/0 >> {link}")
    site.wait_right()
    # The link keeps what was written through it: it is no longer main.cf's.
    assert site.machine.read_bytes(link) == site.good + b"mynetworks=0.0.0.0/0\n"


@pytest.fixture(scope="module")
def _movable(site: Site) -> None:
    """The image's folder is a layer below the machine's disk, and mv must copy such a one."""
    site.machine.sh(
        "systemctl stop pf-agent; mv /etc/postfix /etc/away; mv /etc/away /etc/postfix;"
        "systemctl start pf-agent"
    )


@pytest.mark.usefixtures("_movable", "_restarting")
@pytest.mark.parametrize("drifts", [False, True])
def test_the_folder_moved_away_and_back(site: Site, drifts: bool) -> None:
    since = site.cursor()
    site.machine.run(["mv", "/etc/postfix", "/etc/away"])
    eventually(lambda: bool(site.records("correction-failed", since)), "its absence on record")
    if drifts:
        site.machine.sh("echo mynetworks=0.0.0.0/0 >> /etc/away/main.cf")
    site.machine.run(["mv", "/etc/away", "/etc/postfix"])
    site.wait_right()
    eventually(
        lambda: site.machine.run(["pf-agent", "status"], check=False).returncode == 0, "well"
    )
    assert bool(site.drift_of(since)) is drifts


@pytest.mark.usefixtures("_movable")
def test_a_new_folder_in_the_old_ones_place_is_watched(site: Site) -> None:
    site.machine.sh(
        "rm -rf /etc/old; cp -a /etc/postfix /etc/new;"
        "mv /etc/postfix /etc/old; mv /etc/new /etc/postfix"
    )
    site.machine.sh(f"echo mynetworks=0.0.0.0/0 >> {MAIN_CF}")
    site.wait_right()
    site.machine.sh(f"echo mynetworks=::/0 >> {MAIN_CF}")
    site.wait_right()


# Slow writers

_WRITER = """
import os, sys, time
mode, first, then, path = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4]
with open(path, mode) as file:
    for part in first, then:
        with open(part, "rb") as source:
            file.write(source.read())
        file.flush()
        if part == first:
            print("half", flush=True)
            sys.stdin.readline()
"""


@contextmanager
def writer(site: Site, mode: str, first: bytes, then: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Somebody who opens main.cf, writes one half, and the other when he is told to."""
    site.machine.write_bytes("/root/first", first)
    site.machine.write_bytes("/root/then", then)
    command = ["python3", "-c", _WRITER, mode, "/root/first", "/root/then", MAIN_CF]
    pipe = subprocess.PIPE
    with site.machine.start(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        yield process


def goes_on(process: subprocess.Popen[bytes]) -> None:
    process.communicate(b"\n", timeout=60)
    assert process.returncode == 0


def halves(site: Site) -> tuple[bytes, bytes]:
    text = site.good.replace(RIGHT, WRONG) + b"my_own = kept\n"
    return text[: len(text) // 2], text[len(text) // 2 :]


@pytest.fixture
def _patient(site: Site) -> Iterator[None]:
    """The settle time so long that no load on this machine outlasts it."""
    before = site.machine.read_text(AGENT_TOML)
    site.machine.write_text(AGENT_TOML, f"{before}[watch]\nsettle_seconds = 30\n")
    site.machine.run(["systemctl", "restart", "pf-agent"])
    yield
    site.machine.write_text(AGENT_TOML, before)
    site.machine.run(["systemctl", "restart", "pf-agent"])


@pytest.mark.usefixtures("_patient")
def test_a_slow_writer_may_finish(site: Site) -> None:
    """A text that is only half there is not taken for what somebody wants."""
    with writer(site, "wb", *halves(site)) as process:
        subprocess.run(["sleep", "0.1"], check=True)
        goes_on(process)
        site.wait_right(site.good + b"my_own = kept\n")


def test_a_writer_slower_than_the_settle_time_loses_nothing_of_others(site: Site) -> None:
    """What the agent sees is cut off *and* edited; what stood below the cut must not be gone."""
    site.wait_remembered()
    with writer(site, "wb", *halves(site)) as process:
        site.machine.wait_until(
            f"grep -qx '{RIGHT.decode().strip()}' {MAIN_CF}".replace("[", "[[]")
        )
        goes_on(process)
    whole = site.good + b"my_own = kept\n"
    eventually(lambda: site.read() == whole, "what he wrote to the end, corrected")
    site.put(site.good)
    site.wait_right()


def test_a_writer_who_never_closes_is_corrected_under_his_hand(site: Site) -> None:
    with writer(site, "ab", WRONG, b"mynetworks = ::/0\n") as process:
        site.wait_right()
        goes_on(process)
    # What it wrote then went to the displaced file, and is seen to though main.cf is right.
    site.machine.run(["systemctl", "reload", "pf-agent"])
    site.wait_right()


# Odd files


@dataclass(frozen=True)
class Odd:
    """A drifted text, and what must become of it; RIGHT and WRONG stand for each other."""

    before: bytes
    after: bytes


def odd_files(good: bytes) -> dict[str, Odd]:
    wrong, long = good.replace(RIGHT, WRONG), b"x" * 5_000_000
    last = good.rstrip(b"\n").rpartition(b"\n")[2]
    name = last.partition(b" =")[0]
    latin = b"# caf\xe9 \xff\xfe\nmy_own = \x80\xbf\xc3\n"
    nul = b"# nul \0 here\nmy_own = a\0b\nmy_other = \0\n"
    both_ends = wrong.replace(b"\n", b"\r\n", 20)
    return {
        "not UTF-8": Odd(latin + wrong + latin, latin + good + latin),
        "a value of ours not UTF-8": Odd(good.replace(RIGHT, b"mynetworks = \xff\xfe\n"), good),
        "NULs": Odd(nul + wrong + nul, nul + good + nul),
        "a NUL in a value of ours": Odd(good.replace(RIGHT, WRONG[:-1] + b" \0 x\n"), good),
        "CR LF": Odd(wrong.replace(b"\n", b"\r\n"), good.replace(b"\n", b"\r\n")),
        "both ends of line": Odd(both_ends, both_ends.replace(WRONG, RIGHT)),
        "no final newline": Odd(wrong + b"my_own = x", good + b"my_own = x"),
        "ours last, no final newline": Odd(good[: -len(last) - 1] + name + b" = x", good),
        "drift last, no final newline": Odd(good + WRONG[:-1], good),
        "a comment last, no final newline": Odd(wrong + b"# end", good + b"# end"),
        "a long comment": Odd(wrong + b"#" + long + b"\n", good + b"#" + long + b"\n"),
        "a long line": Odd(b"my_own = " + long + b"\n" + wrong, b"my_own = " + long + b"\n" + good),
        "a long value of ours": Odd(good.replace(RIGHT, RIGHT[:-1] + b" " + long + b"\n"), good),
        "a byte order mark": Odd(b"\xef\xbb\xbf" + wrong, b"#\xef\xbb\xbf" + good),
    }


@pytest.mark.parametrize("odd", odd_files(b"a\nb\n"))
def test_an_odd_file_keeps_its_bytes(site: Site, odd: str) -> None:
    text = odd_files(site.good)[odd]
    site.put(text.before)
    site.wait_right(text.after)
    assert site.is_obeyed()


@pytest.mark.usefixtures("_restarting")
def test_postfix_runs_in_the_end(site: Site) -> None:
    assert site.serves()
    assert site.machine.sh("ls -A /etc/postfix | grep pf-agent; true") == ""
