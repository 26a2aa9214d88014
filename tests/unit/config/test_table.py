"""The reader of TOML tables: lines of keys, checked values, wording of problems."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pf_agent.config.table import Source, Table, parse, quoting, shown, shown_key
from pf_agent.errors import ConfigError
from pf_agent.model import Place


def table(text: str) -> Table:
    return parse(Source("f.toml", text.encode()))


def refusal(text: bytes | str) -> str:
    raw = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse(Source("f.toml", raw))
    (problem,) = caught.value.problems
    return problem


class TestPlaces:
    TEXT = '''\
# a = 0
a = 1   # b = 2
[one]
a = """
b = 3
\\""" c = 4
""""
"b" = [ # ] d = 5
  "]", '[',
  # ] e = 6
  'c = 7',
]
'x y' = \'\'\'
[two]
\'\'\'\'
"\\u0063" = "\\"# [x]"   # "

  [ two . 'th.ree' ]
a = {x = 1, y = [2,
  3]}
b = {x = 1, y.z = "}"}
d . e . f = "\\\\"
last = 1'''

    @pytest.mark.parametrize(
        ("path", "line"),
        [
            (["a"], 2),
            (["one"], 3),
            (["one", "a"], 4),
            (["one", "b"], 8),
            (["one", "x y"], 13),
            (["one", "c"], 16),
            (["two"], 18),
            (["two", "th.ree"], 18),
            (["two", "th.ree", "a"], 19),
            (["two", "th.ree", "b"], 21),
            (["two", "th.ree", "b", "x"], 21),
            (["two", "th.ree", "d"], 22),
            (["two", "th.ree", "d", "e"], 22),
            (["two", "th.ree", "last"], 23),
        ],
    )
    def test_key_has_the_line_where_it_stands(self, path: list[str], line: int) -> None:
        inner = table(self.TEXT)
        for key in path[:-1]:
            inner = inner.table(key)
        assert path[-1] in list(inner)
        assert inner.place(path[-1]) == Place("f.toml", line)

    def test_key_in_an_inline_table_over_several_lines_has_no_line(self) -> None:
        inner = table(self.TEXT).table("two").table("th.ree").table("a")
        assert inner.place("x") == Place("f.toml", None)

    def test_key_deeper_than_any_file_of_ours_needs_has_no_line(self) -> None:
        inner = table("[a.b.c.d]\ne.f.g = 1\ne.f.h = 2\n")
        for key in "abcdef":
            inner = inner.table(key)
        assert list(inner) == ["g", "h"]
        assert inner.place("h") == Place("f.toml", None)

    def test_of_an_array_of_tables_the_first_header_counts(self) -> None:
        assert table("\n[[a]]\nx = 1\n[[a]]\nx = 2\n").place("a") == Place("f.toml", 2)

    def test_crlf_counts_as_one_line_break(self) -> None:
        assert table("a = 1\r\n\r\n[b]\r\nc = 2\r\n").table("b").place("c").line == 4

    def test_byte_order_mark_is_no_part_of_the_first_key(self) -> None:
        assert list(table("\ufeffa = 1\n")) == ["a"]

    def test_very_deep_key_takes_no_quadratic_memory(self) -> None:
        deep = table(".".join(["a"] * 900) + " = 1\nb = 2\n")
        assert deep.place("b").line == 2

    VALUES = (
        "1",
        '"x = 1 # y"',
        "'[z]'",
        '"""\nq = 1\n"""',
        '"""a""\n\\"""\nq = 1"""""',
        "'''\n[q]\nr = \"'''",
        "[\n  1, # ]\n\n  [2],\n]",
        '[ "]", \'[\', """\n]""" ]',
        "{x = 1, y = '}'}",
        "2026-01-01T00:00:00Z",
    )
    FILLERS = ("", "\n", '# k0 = 1 [t] """ \' [\n', "  \n\t# '''\n")
    SPELLINGS = ("{}", '"{}"', "'{}'", "  {} ", "\t'{}'\t")

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(VALUES),
                st.sampled_from(FILLERS),
                st.sampled_from(SPELLINGS),
                st.sampled_from(["", "[{}]\n", " [ '{}' ] # ]\n", '["{}"]\n']),
                st.sampled_from(["", '  # """ [\'', "\t"]),
            ),
            max_size=8,
        )
    )
    def test_any_mix_of_statements(self, statements: list[tuple[str, str, str, str, str]]) -> None:
        text = ""
        places: list[tuple[str | None, str, int]] = []
        header: str | None = None
        for number, (value, filler, spelling, heading, comment) in enumerate(statements):
            text += filler
            if heading:
                header = f"t{number}"
                text += heading.format(header)
            places.append((header, f"k{number}", text.count("\n") + 1))
            text += spelling.format(f"k{number}") + f" = {value}{comment}\n"
        top = table(text)
        for header, key, line in places:
            inner = top if header is None else top.table(header)
            assert inner.place(key) == Place("f.toml", line)


class TestSyntax:
    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            (
                "\na = mail.example.org\n",
                "f.toml:2: not valid TOML: Invalid value (column 5); text needs quotes",
            ),
            (
                "a = 10.0.0.0/8\n",
                "f.toml:1: not valid TOML: Expected newline or end of document after a statement "
                "(column 9); text needs quotes",
            ),
            (
                'a = [\n  "x"\n  "y"\n]\n',
                "f.toml:3: not valid TOML: Unclosed array (column 3); "
                "put commas between the items and ] at the end",
            ),
            (
                "a = [1,\n\n",
                "f.toml:1: not valid TOML: Invalid value (end of file); the value is not complete",
            ),
            (
                '\na = """x\n',
                "f.toml:2: not valid TOML: Unterminated string (end of file); "
                "end the string with the quote it began with",
            ),
            (
                'a = "x\n',
                "f.toml:1: not valid TOML: Illegal character '\\n' (column 7); "
                "end the string with the quote it began with",
            ),
            (
                "b = 1\na = 'x\nb = 1\n# end\n",
                'f.toml:2: not valid TOML: Expected "\'" (end of file); '
                "end the string with the quote it began with",
            ),
            (
                "b = 1\n\n[t]\na = [ # ]\n  [1],\n  2\n# end\n",
                "f.toml:4: not valid TOML: Unclosed array (end of file); "
                "put commas between the items and ] at the end",
            ),
            (
                "# \x01\n",
                "f.toml:1: not valid TOML: Found invalid character '\\x01' (column 3); "
                "remove the control character",
            ),
            (
                "= 1\n",
                "f.toml:1: not valid TOML: Invalid statement (column 1); "
                "write key = value; odd names need quotes",
            ),
            (
                'a = {b = "\\ud800"}\n',
                "f.toml:1: not valid TOML: Escaped character is not a Unicode scalar value "
                "(column 17); see pf-agent.toml(5)",
            ),
        ],
    )
    def test_problem_names_line_and_way_out(self, text: str, problem: str) -> None:
        assert refusal(text) == problem

    @pytest.mark.parametrize(
        ("text", "place", "way_out"),
        [
            # tomli writes these in other words from version to version.
            ("a = 1\n\na = 2", "f.toml:3", "each key and each [table] may appear once"),
            ("[a]\n[b]\n[a]\n", "f.toml:3", "each key and each [table] may appear once"),
            ("a b = 1\n", "f.toml:1", "write key = value; odd names need quotes"),
            ("a\n", "f.toml:1", "write key = value; odd names need quotes"),
            ("\n[a\n", "f.toml:2", "close the [table] with ]"),
            ('a = "\\."\n', "f.toml:1", "write \\\\ for a backslash, or use single quotes"),
        ],
    )
    def test_wording_of_any_tomli_gets_the_way_out(
        self, text: str, place: str, way_out: str
    ) -> None:
        problem = refusal(text)
        assert problem.startswith(f"{place}: not valid TOML: ")
        assert problem.endswith(f"; {way_out}")

    def test_bytes_that_are_not_utf8(self) -> None:
        problem = "f.toml:3: byte 0xe4 is not UTF-8; save the file as UTF-8"
        assert refusal(b"a = 1\n\n# M\xe4rz\n") == problem

    def test_integer_of_thousands_of_digits(self) -> None:
        problem = "f.toml: not valid TOML: an integer is too long; put it in quotes"
        assert refusal("a = " + "9" * 5000) == problem

    def test_array_nested_too_deeply(self) -> None:
        assert refusal("a = " + "[" * 50_000) == (
            "f.toml: arrays are nested too deeply; write flat ones"
        )


class TestString:
    def test_values(self) -> None:
        top = table('a = "x"\n')
        assert (top.string("a"), top.string("b"), top.problems) == ("x", None, ())

    @pytest.mark.parametrize(
        ("value", "rest"),
        [
            ("5", 'got 5; write "5"'),
            ("1.5", 'got 1.5; write "1.5"'),
            ("true", 'got true; write "true"'),
            ('["x"]', "got an array; write one string"),
            ("{}", "got a table; write one string"),
            ("2026-01-01", "got a date or time; put it in quotes"),
            (hex(2**64), "got an integer of more than 64 bits; put it in quotes"),
        ],
    )
    def test_wrong_type(self, value: str, rest: str) -> None:
        top = table(f"\na = {value}\n")
        assert top.string("a") is None
        assert top.problems == (f"f.toml:2: a: expected a string, {rest}",)


class TestStrings:
    def test_values(self) -> None:
        top = table('a = ["x", "y"]\n')
        assert (top.strings("a"), top.strings("b"), top.problems) == (("x", "y"), (), ())

    def test_no_array(self) -> None:
        top = table('a = "x"\nb = 5\n')
        assert top.strings("a") == top.strings("b") == ()
        assert top.problems == (
            'f.toml:1: a: expected an array of strings, got "x"; write ["x"]',
            "f.toml:2: b: expected an array of strings, got 5; write [...]",
        )

    def test_each_wrong_item_is_named_and_the_others_handed_out(self) -> None:
        top = table('a = ["x", 5, "y", ["z"]]\n')
        assert top.strings("a") == ("x", "y")
        assert top.problems == (
            'f.toml:1: a: expected an array of strings, but item 2 is 5; write "5"',
            "f.toml:1: a: expected an array of strings, but item 4 is an array; write one string",
        )


class TestNumber:
    def test_values(self) -> None:
        top = table("a = 1\nb = 0.5\nlow = 0.1\nhigh = 60\n")
        read = [top.number(key, 0.1, 60, 9.0) for key in ("a", "b", "low", "high", "absent")]
        assert read == [1.0, 0.5, 0.1, 60.0, 9.0]
        assert all(isinstance(number, float) for number in read)
        assert top.problems == ()

    @pytest.mark.parametrize(
        ("value", "rest"),
        [
            ('"1s"', 'expected a number, got "1s"; write 1.0'),
            ('" 2.5 "', 'expected a number, got " 2.5 "; write 2.5'),
            ('"5m"', 'expected a number, got "5m"; write 9.0'),
            ('"61"', 'expected a number, got "61"; write 9.0'),
            ("true", "expected a number, got true; write 9.0"),
            ("[" + hex(16**5000) + "]", "expected a number, got an array; write 9.0"),
            ("0.01", "0.01 is out of range; write a number from 0.1 to 60"),
            ("61", "61 is out of range; write a number from 0.1 to 60"),
            ("inf", "inf is out of range; write a number from 0.1 to 60"),
            ("nan", "nan is out of range; write a number from 0.1 to 60"),
            (
                hex(16**5000),
                "an integer of more than 64 bits is out of range; write a number from 0.1 to 60",
            ),
        ],
    )
    def test_unusable(self, value: str, rest: str) -> None:
        top = table(f"a = {value}\n")
        assert top.number("a", 0.1, 60, 9.0) == 9.0
        assert top.problems == (f"f.toml:1: a: {rest}",)


class TestChoice:
    def test_values(self) -> None:
        top = table('a = "right"\n')
        read = [top.choice(key, ["left", "right"], "left") for key in ("a", "b")]
        assert read == ["right", "left"]
        assert top.problems == ()

    @pytest.mark.parametrize(
        ("value", "rest"),
        [
            ('"rigth"', 'got "rigth"; write a = "right"'),
            ('"up"', 'got "up"; write a = "left"'),
            ("1", 'got 1; write a = "left"'),
            ("[]", 'got an array; write a = "left"'),
        ],
    )
    def test_unusable(self, value: str, rest: str) -> None:
        top = table(f"a = {value}\n")
        assert top.choice("a", ["left", "right"], "left") == "left"
        assert top.problems == (f'f.toml:1: a: expected "left" or "right", {rest}',)


class TestTable:
    def test_absent_table_is_empty(self) -> None:
        top = table("")
        assert list(top.table("a")) == []
        assert top.problems == ()

    def test_inner_problems_name_their_table_and_come_in_the_order_of_lines(self) -> None:
        top = table("c = 1\n[a.'b.c']\nd = 1\n")
        top.table("a").table("b.c").string("d")
        top.string("c")
        assert top.problems == (
            'f.toml:1: c: expected a string, got 1; write "1"',
            'f.toml:3: [a."b.c"] d: expected a string, got 1; write "1"',
        )

    @pytest.mark.parametrize(("value", "found"), [("5", "5"), ("[{}]", "an array")])
    def test_no_table(self, value: str, found: str) -> None:
        top = table(f"a.b = {value}\n")
        assert list(top.table("a").table("b")) == []
        assert top.problems == (
            f"f.toml:1: [a] b: expected a table, got {found}; "
            "write [a.b] on a line of its own, its keys below",
        )


class TestUnknownKeys:
    def read(self, text: str, way_out: str | None = None) -> tuple[str, ...]:
        top = table(text)
        top.string("name")
        inner = top.table("inner")
        inner.string("colour")
        inner.refuse_unknown()
        top.refuse_unknown(way_out)
        return top.problems

    def test_none(self) -> None:
        assert self.read('name = "x"\n[inner]\ncolour = "x"\n') == ()

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("nam = 1\n", "f.toml:1: nam: unknown key; did you mean name?"),
            ("[iner]\n", "f.toml:1: iner: unknown key; did you mean inner?"),
            ("[inner]\ncolor = 1\n", "f.toml:2: [inner] color: unknown key; did you mean colour?"),
            ("colour = 1\n", "f.toml:1: colour: unknown key; it belongs under [inner]"),
            (
                "[inner]\nname = 1\n",
                "f.toml:2: [inner] name: unknown key; "
                "it belongs at the top of the file, above every [table]",
            ),
            ("zzz = 1\n", "f.toml:1: zzz: unknown key; known keys: inner, name"),
            ("[inner]\nzzz = 1\n", "f.toml:2: [inner] zzz: unknown key; known keys: colour"),
            ('"z\\nz" = 1\n', 'f.toml:1: "z\\nz": unknown key; known keys: inner, name'),
        ],
    )
    def test_way_out(self, text: str, problem: str) -> None:
        assert self.read(text) == (problem,)

    def test_way_out_of_the_reader(self) -> None:
        assert self.read("zzz = 1\n", "ask") == ("f.toml:1: zzz: unknown key; ask",)


class TestShown:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (True, "true"),
            (False, "false"),
            (-5, "-5"),
            (0.5, "0.5"),
            ('say "\\"', '"say \\"\\\\\\""'),
            ("a\tb\r\n\x00\x1b\x85\u2028", '"a\\tb\\r\\n\\u0000\\u001b\\u0085\\u2028"'),
            ("Zürich \U000e0001", '"Zürich \\U000e0001"'),
            ("x" * 60, '"' + "x" * 60 + '"'),
            ("x" * 61, '"' + "x" * 60 + '..."'),
            (2**63 - 1, "9223372036854775807"),
            (2**63, "an integer of more than 64 bits"),
        ],
    )
    def test_value(self, value: object, expected: str) -> None:
        assert shown(value) == expected

    def test_key(self) -> None:
        assert (shown_key("a-b_1"), shown_key("a.b"), shown_key("")) == ("a-b_1", '"a.b"', '""')
        assert shown_key("x" * 61) == '"' + "x" * 60 + '..."'

    def test_quoting(self) -> None:
        assert quoting(-1) == 'write "-1"'

    @given(st.text())
    def test_string_is_one_printable_line(self, text: str) -> None:
        assert shown(text).isprintable()


PIECES = st.sampled_from(
    [
        *"\n\r\t\"'[]{}=.,#\\ 1ab-:é\0\ufeff",
        "\r\n",
        '"""',
        "'''",
        "\\u12",
        "true",
        "[[",
        "a = ",
        "1e9",
    ]
)


@given(
    st.one_of(st.binary(), st.text().map(str.encode), st.lists(PIECES).map("".join).map(str.encode))
)
def test_arbitrary_text_raises_nothing_but_config_errors_of_one_line(raw: bytes) -> None:
    try:
        top = parse(Source("f.toml", raw))
    except ConfigError as error:
        (problem,) = error.problems
        assert problem.startswith("f.toml")
        assert problem.isprintable()
        return
    for key in top:
        line = top.place(key).line
        assert line is not None
        assert 1 <= line <= raw.count(b"\n") + 1
