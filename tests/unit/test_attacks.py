"""The attacks in tests/machine/attacks/: each that is written is tried, and by whom is said."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.checkout import CHECKOUT
from tests.machine.attacks.attack import Who
from tests.machine.attacks.table import ATTACKS
from tests.machine.test_attacks import TRIED

INSIDE = CHECKOUT / "tests" / "machine" / "attacks" / "inside"


def written() -> Iterator[str]:
    """MODULE.FUNCTION of each attack: what takes `won` alone, and is not for its module only."""
    for path in sorted(INSIDE.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and [a.arg for a in node.args.args] == ["won"]:
                yield f"{path.stem}.{node.name}"


def test_each_attack_that_is_written_is_tried() -> None:
    assert {attack.does for attack in ATTACKS} == set(written())


def test_there_are_forty_at_least_by_a_user_by_postfix_and_from_the_network() -> None:
    assert len(set(written())) >= 40
    assert {attack.who for attack in ATTACKS} == set(Who)
    assert len({str(attack) for attack in ATTACKS}) == len(ATTACKS)


def test_those_in_the_machine_tests_are_some_of_them() -> None:
    assert set(TRIED) <= {str(attack) for attack in ATTACKS}
