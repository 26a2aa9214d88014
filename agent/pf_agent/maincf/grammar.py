"""The grammars of Postfix's files as documents that have named parts.

main.cf's parts are its parameters, master.cf's its services and what stands in them; those of a
table or an alias file are its entries. Whatever
compares, corrects or takes back such parts works with what stands here, and asks the grammar for
the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pf_agent.maincf import service_parts
from pf_agent.maincf.document import LogicalLine, MainCf
from pf_agent.maincf.edit import Edit
from pf_agent.maincf.entries import AliasSource, TableSource, folded, same_target, same_text
from pf_agent.maincf.service_edit import ServiceEdit
from pf_agent.maincf.values import same
from pf_agent.model import DocumentKind, Parameter


class Document(Protocol):
    """A text without loss of a byte, and the parts that Postfix reads in it, by name."""

    def render(self) -> bytes: ...
    @property
    def logical_lines(self) -> tuple[LogicalLine, ...]: ...
    def occurrences(self, name: str) -> tuple[LogicalLine, ...]: ...
    def get(self, name: str) -> Parameter | None: ...
    def contradiction(self, name: str) -> Parameter | None: ...
    def parameters(self) -> dict[str, str]: ...
    def content(self) -> tuple[tuple[str, str], ...]: ...
    def lines_of(self, name: str) -> str | None: ...
    def unreadable(self) -> tuple[LogicalLine, ...]: ...
    def text_of(self, logical: LogicalLine) -> str: ...


class Editor(Protocol):
    """Changes of one document, which keep every byte that they are not asked to change."""

    def set(self, name: str, value: str) -> None: ...
    def comment_out(self, logical: LogicalLine) -> None: ...
    def put_back(self, name: str, lines: str | None) -> None: ...
    def result(self) -> Document: ...


@dataclass(frozen=True)
class Grammar:
    """How a kind of document is read and changed.

    `edit` takes a document that `parse` returned. `same` tells whether Postfix takes a value of a
    part, as asked for, for the same as one that was read. `name` returns the name of a part for one
    that a person wrote: Postfix folds the keys of tables, and everything here knows them folded.
    """

    parse: Callable[[bytes], Document]
    edit: Callable[[Any], Editor]
    same: Callable[[str, str, str], bool]
    name: Callable[[str], str] = str


_GRAMMARS: Final[Mapping[DocumentKind, Grammar]] = {
    DocumentKind.MAIN_CF: Grammar(MainCf.parse, Edit, same),
    DocumentKind.TABLE: Grammar(TableSource.parse, Edit, same_text, folded),
    DocumentKind.ALIASES: Grammar(AliasSource.parse, Edit, same_target, folded),
    DocumentKind.MASTER_CF: Grammar(
        service_parts.ServiceParts.parse, ServiceEdit, service_parts.same
    ),
}


def grammar_of(kind: DocumentKind) -> Grammar:
    """Return the grammar of a kind of document."""
    return _GRAMMARS[kind]
