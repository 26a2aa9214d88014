"""One service of master.cf: its fields, options and arguments, and what Postfix refuses."""

from __future__ import annotations

import pytest

from pf_agent.maincf.service import Reading, Service, read


def service(arguments: str = "", fields: str = "smtp inet n - y - - smtpd") -> Service:
    found = read(f"{fields} {arguments}", 7)
    assert found.refused == ""
    assert found.service is not None
    return found.service


def test_the_fields() -> None:
    found = service(fields="[::1]:25 inet n - y 1000? 100 smtpd -v")
    assert found == Service(
        *("[::1]:25", "inet", "n", "-", "y", "1000?", "100", "smtpd"), ("-v",), 7
    )
    assert (found.full_name, found.address, found.port) == ("[::1]:25/inet", "::1", "25")


@pytest.mark.parametrize(
    ("arguments", "options", "others"),
    [
        ("", {}, ()),
        ("-o a=1 -o b=", {"a": "1", "b": ""}, ()),
        ("-oa=1", {"a": "1"}, ()),
        ("-omyorigin=foo", {"myorigin": "foo"}, ()),
        ("-o { a = b c } -o{d={e}}", {"a": "b c", "d": "{e}"}, ()),
        ("-o a=1 -o a=2", {"a": "2"}, ()),
        ("-v -voa=1 -Do b=2", {"a": "1", "b": "2"}, ("-v", "-v", "-D")),
        (
            "flags=R user=x argv=/bin/x -o a=1",
            {},
            ("flags=R", "user=x", "argv=/bin/x", "-o", "a=1"),
        ),
        ("argv={ /bin/x y } { z }", {}, ("argv={ /bin/x y }", "z")),
        ("-o a=1 -- -o b=2", {"a": "1"}, ("--", "-o", "b=2")),
        ("- -o b=2", {}, ("-", "-o", "b=2")),
        ("-o oops -o", {}, ("-o oops", "-o")),
        ("-o =x", {}, ("-o =x",)),
        ("-o a=1,\v2", {"a": "1,\v2"}, ()),
    ],
)
def test_arguments(arguments: str, options: dict[str, str], others: tuple[str, ...]) -> None:
    found = service(arguments)
    assert found.options() == options
    assert found.other_arguments() == others


def test_arguments_are_in_their_simplest_form() -> None:
    assert service("-voa=1 -o { b = c d }").arguments == ("-v", "-o", "a=1", "-o", "b=c d")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("smtp inet n - y - smtpd", "bad field count"),
        ("", "bad field count"),
        ("smtp tcp n - y - - smtpd", 'invalid type field "tcp"'),
        ("smtp inet yes - y - - smtpd", 'invalid private field "yes"'),
        ("smtp inet n Y y - - smtpd", 'invalid unprivileged field "Y"'),
        ("smtp inet n - x - - smtpd", 'invalid chroot field "x"'),
        ("smtp inet n - y 10m - smtpd", 'invalid wakeup field "10m"'),
        ("smtp inet n - y - many smtpd", 'invalid process_limit field "many"'),
        ("smtp inet n - y - 1? smtpd", 'invalid process_limit field "1?"'),
        ("smtp\vinet n - y - - smtpd x", 'invalid type field "n"'),
    ],
)
def test_what_postfix_refuses(text: str, why: str) -> None:
    found = read(text, 1)
    assert found.refused == why
    assert (found.service is None) == (why == "bad field count")


@pytest.mark.parametrize(
    ("arguments", "remark", "options"),
    [
        ("-o {a = b", "missing '}' in \"{a = b\"", {"a": "b"}),
        ("-o {a = b}c", "syntax error after '}' in \"{a = b}c\"", {"a": "b"}),
        ("-o {a b}", "missing '=' after attribute name: \"a b\"", {}),
        ("-o {}", 'missing attribute name: ""', {}),
        ("{a", "missing '}' in \"{a\"", {}),
    ],
)
def test_what_is_wrong_with_arguments(arguments: str, remark: str, options: dict[str, str]) -> None:
    found = read(f"smtp inet n - y - - smtpd {arguments}", 1)
    assert (found.refused, found.remarks) == ("", (remark,))
    assert found.service is not None
    assert found.service.options() == options


def test_braces_keep_a_column_together() -> None:
    assert service(fields="{a b} unix - - - - - smtp").name == "{a b}"
    assert read("{a unix - - - - - smtp", 1) == Reading(None, "bad field count")
