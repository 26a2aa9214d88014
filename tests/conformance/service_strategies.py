"""Adversarial master.cf files, put together from pools as those of main.cf are (strategies.py)."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.conformance.strategies import Recipe

_NAMES = (
    *("smtp", "submission", "smtps", "relay", "pickup", "smtp", "127.0.0.1:10025", "[::1]:25"),
    *("dovecot-lmtp", "private/policy", "a.b", "x\u00e4", "-o", "{b c}", "n" * 90),
)
_TYPES = ("inet", "unix", "inet", "unix", "pass", "fifo", "unix-dgram")
_FLAGS = ("-", "n", "y", "-")
_WAKEUPS = ("-", "60", "1000?", "0", "-?", "?", "007")
_LIMITS = ("-", "1", "0", "100")
_COMMANDS = ("smtpd", "smtp", "pipe", "spawn", "{smtpd x}", "/usr/bin/x", "-o", "#x")
_OPTIONS = (
    *("-o a=1", "-o syslog_name=postfix/$service_name", "-ob=2", "-v", "-D", "-vob=3", "-o b"),
    *("-o { a = b c }", "-o {a=b}", "-o{ c = {d} e }", "-o { no equals }", "-o {}", "-o { = x }"),
    *("-o process_name=x", "-o smtpd_banner=${a?{x}:{y}}", "-o a=$", "-o x={ y }", "-o =z"),
    *("-o {a = b", "-o {a = b}c", "-o { a\n\t= b }", "-o a=\n", "-o\n  smtpd_x=y", "-omyorigin=x"),
    *("-o", "--", "-", "-o content_filter=", "-o c=\u00e4,b", "-o c=\v\fd\v", "-o a=1,#2", "}"),
    *("-o a=1\0 -o b=2", "-v\0"),
    "-o smtpd_client_restrictions=permit_sasl_authenticated,reject",
    "-o { smtpd_relay_restrictions = permit_mynetworks,\n    reject }",
)
_OPERANDS = (
    *("flags=DRhu", "user=vmail:vmail", "argv=/usr/bin/x", "-f", "${sender}", "{ a b }", "{a"),
    *("{x}y", "argv={ /bin/x -o y }", "-o", "{}", "z=1", "null", "$recipient", "\u2028", "#no"),
)
_GAPS = (" ", " ", "\t", "       ", "\n ", "\n\t", "\r", " \n# comment\n  ", "\n\n  ", "\v")
_PROSE = (
    *("", "# prose", "#", "#  -o lost=1", "# two words", "#  -v", "  ", "\t", "\r"),
    *("# service type  private unpriv  chroot  wakeup  maxproc command + args", "   # x", "#\tx=y"),
    "#service type",
)
_BROKEN = (
    *("short inet n - y - -", "x", "smtp tcp n - y - - smtpd", "smtp inet N - y - - smtpd"),
    *("smtp inet n - yes - - smtpd", "smtp inet n - y 5x - smtpd", "smtp inet n - y - 1? smtpd"),
    *("smtp\vinet n - y - - smtpd", "\0", "a inet n - y\0 - - smtpd", "{a inet n - y - - smtpd"),
    *("smtp inet n - y - \u0661 smtpd", "<<<<<<< HEAD"),
)
_KINDS = (
    *("service", "service", "more", "more", "commented", "service", "prose", "more", "commented"),
    *("service", "more", "prose", "service", "commented", "more", "service", "pipe", "pipe"),
)
_ODD_KINDS = (*2 * _KINDS, "broken", "junk", "stray")
_LINE_BYTES = 16


def _service(recipe: Recipe) -> str:
    fields = (
        *(recipe.of(_NAMES), recipe.of(_TYPES), *(recipe.of(_FLAGS) for _ in range(3))),
        *(recipe.of(_WAKEUPS), recipe.of(_LIMITS)),
    )
    return recipe.of((" ", "\t", "   ")).join([*fields, recipe.of(_COMMANDS)])


def _line(drawn: bytes, kinds: tuple[str, ...]) -> bytes:
    recipe = Recipe(drawn)
    kind = recipe.of(kinds)
    if kind == "junk":
        return drawn[1:]
    if kind in ("prose", "broken"):
        return recipe.of(_PROSE if kind == "prose" else _BROKEN).encode()
    pool = _OPERANDS if kind == "pipe" else _OPTIONS
    more = [recipe.of(_GAPS) + recipe.of(pool) for _ in range(2)]
    if kind == "more":
        return "".join(["  ", *more]).encode()
    if kind == "stray":
        return "".join(["-o", *more]).encode()
    text = "".join([_service(recipe), *more[recipe.of((0, 1, 2)) :]])
    if kind == "commented":
        sign = recipe.of(("#", "#", "# ", "##"))
        text = sign + text.replace("\n", f"\n{sign.strip()}")
    return text.encode()


def _text(drawn: tuple[list[bytes], bytes]) -> bytes:
    lines, layout = drawn
    recipe = Recipe(layout)
    end = recipe.of((b"\n", b"\n", b"\n", b"\r\n"))
    kinds = recipe.of((*4 * (_KINDS,), _ODD_KINDS))
    text = recipe.of((*12 * (b"",), b"\xef\xbb\xbf")) + end.join(_line(x, kinds) for x in lines)
    return text + recipe.of((end, end, b""))


def texts() -> st.SearchStrategy[bytes]:
    """Files of up to 40 lines, most of them without a line that Postfix refuses."""
    line = st.binary(min_size=_LINE_BYTES, max_size=_LINE_BYTES)
    lines = st.lists(line, max_size=6) | st.lists(line, min_size=10, max_size=40)
    return st.tuples(lines, st.binary(min_size=8, max_size=8)).map(_text)
