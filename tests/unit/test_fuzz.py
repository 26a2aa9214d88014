"""The fuzz targets without a fuzzer: corpus, damaged state files, work that stays linear."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checkout import CHECKOUT
from tests.fuzz.targets import STRANGERS, TARGETS, places_of

pytest.importorskip("tomlkit")

CORPUS = CHECKOUT / "tests" / "fuzz" / "corpus"
SEEDS = sorted((CORPUS / "state").glob("seed-*.json"))
# What a hostile file is made of, over and over: each has hurt some parser of its kind.
MAIN_CF = (
    b"a = 1\n", b" x\n", b"#\n", b"\\\n", b"a =\n", b"\r\n", b"\0", b"b = 1\n 2\n#\n", b"a", b" ",
    b"a = ${b", b"x1 = {{", b"=\n", b"\xff\n", b"biff = yes\n\n",
)  # fmt: skip
SOURCE = (
    b"a x\n", b"a: x\n", b" x\n", b"#a x\n", b"#a: x\n", b"\\", b'"', b"(", b"[", b"\r\n",
    b"\0", b",", b"b x\n 2\n#\n", b"\\\"", b"\xff\n", b"a", b"()", b":", b"a<", b'a: "',
)  # fmt: skip
MASTER_CF = (
    b"a inet n - y - - smtpd\n", b" -o a=1\n", b" -o {", b" {a = b}\n",
    b"#a inet n - y - - x\n#  -v\n", b"# -o\n", b"#\n", b"#{\n", b"a", b" ", b"{",
    b"}", b"-o", b"\0", b"\xff\n", b"\n",
)  # fmt: skip
TOML = (
    b"a = [\n", b"[[a]]\n", b'"', b"'''", b"\\", b"a.", b"[", b"{a=", b"#\n", b"\n", b"a = 1\n",
    b"[settings]\n", b"\xc3\xa9", b"0", b'x = ["', b",",
)  # fmt: skip
# Twice the bytes may take twice the steps; what is done once makes it a little less.
MOST_GROWTH = 2.6
STEPS_BELOW_WHICH_IT_IS_NOISE = 3000


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_breaks_nothing(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    for file in files:
        TARGETS[name](file.read_bytes())


@pytest.mark.parametrize("seed", SEEDS, ids=lambda path: path.stem)
def test_whatever_value_of_a_state_file_is_damaged_it_is_read(seed: Path) -> None:
    data = seed.read_bytes()
    for place in range(len(list(places_of(json.loads(data[3:]))))):
        for stranger in range(len(STRANGERS)):
            TARGETS["state"](data[:1] + bytes([place, stranger]) + data[3:])


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=200))
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


def steps(name: str, data: bytes) -> int:
    """The calls and returns of all functions, of C also, that a target takes: its work."""
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        TARGETS[name](data)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("piece", MAIN_CF)
@pytest.mark.parametrize("name", ["main_cf", "words"])
def test_the_work_grows_with_the_size_alone(name: str, piece: bytes) -> None:
    for first in (b"\1", b"\2"):
        once, twice = (steps(name, first + piece * count) for count in (400, 800))
        assert twice < STEPS_BELOW_WHICH_IT_IS_NOISE or twice <= MOST_GROWTH * once


@pytest.mark.parametrize("piece", SOURCE)
@pytest.mark.parametrize("name", ["table", "aliases_file"])
def test_the_work_on_sources_grows_with_the_size_alone(name: str, piece: bytes) -> None:
    for first in (b"\1", b'\2"', b"\1a: "):
        once, twice = (steps(name, first + piece * count) for count in (400, 800))
        assert twice < STEPS_BELOW_WHICH_IT_IS_NOISE or twice <= MOST_GROWTH * once


@pytest.mark.parametrize("piece", MASTER_CF)
def test_the_work_on_master_cf_grows_with_the_size_alone(piece: bytes) -> None:
    for first in (b"", b"a inet n - y - - smtpd", b"#a unix - n n - - pipe {"):
        once, twice = (steps("master_cf", first + piece * count) for count in (400, 800))
        assert twice < STEPS_BELOW_WHICH_IT_IS_NOISE or twice <= MOST_GROWTH * once


@pytest.mark.parametrize("piece", TOML)
def test_the_work_on_toml_grows_with_the_size_alone(piece: bytes) -> None:
    for first in (b"", b"[settings]\n", b"use_default = ["):
        once, twice = (steps("toml", first + piece * count) for count in (400, 800))
        assert twice < STEPS_BELOW_WHICH_IT_IS_NOISE or twice <= MOST_GROWTH * once
