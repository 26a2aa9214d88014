"""How the names that users meet are made."""

from __future__ import annotations

import pytest

from pf_agent.names import instance_unit


@pytest.mark.parametrize(
    ("template", "instance", "unit"),
    [
        ("postfix.service", "-", "postfix@-.service"),
        ("postfix.service", "postfix-out", "postfix@postfix-out.service"),
        ("pf-agent-notify@.service", "12", "pf-agent-notify@12.service"),
        ("org.example.page@.service", "postfix-out:12", "org.example.page@postfix-out:12.service"),
    ],
)
def test_the_unit_of_an_instance(template: str, instance: str, unit: str) -> None:
    assert instance_unit(template, instance) == unit
