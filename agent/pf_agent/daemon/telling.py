"""What is added to every record: which instance it is about, and which life its cycle is in."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from pf_agent import names
from pf_agent.errors import HostError
from pf_agent.files.store import FileStore
from pf_agent.model import Emit, Record
from pf_agent.words.fields import is_of_table


def emit_in_life(state: FileStore, emit: Emit) -> Emit:
    """Return an `emit` that adds to each record the life that its cycle belongs to."""

    def emit_named(record: Record) -> None:
        # Recorded even if that cannot be read.
        with suppress(HostError):
            if life := state.life():
                record = replace(record, fields={**record.fields, names.FIELD_LIFE: life})
        emit(record)

    return emit_named


def emit_of_document(name: str, emit: Emit) -> Emit:
    """Return an `emit` that adds to each record which other document than main.cf it is about."""

    def emit_named(record: Record) -> None:
        message = record.message if name in record.message else f"{name}: {record.message}"
        table = {names.FIELD_TABLE: name} if is_of_table(name) else {}
        emit(replace(record, message=message, fields={**record.fields, **table}))

    return emit_named


def emit_of(instance: str, emit: Emit) -> Emit:
    """Return an `emit` that adds the instance to each record, unless it is the default one."""
    if instance == names.DEFAULT_INSTANCE:
        return emit

    def emit_named(record: Record) -> None:
        fields = {**record.fields, names.FIELD_INSTANCE: instance}
        emit(replace(record, message=f"{instance}: {record.message}", fields=fields))

    return emit_named
