"""The parts of one instance, built once: the daemon and `apply` have the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from pf_agent import names
from pf_agent.activation.activation import Activation
from pf_agent.activation.alias_database import RETRY_SECONDS, AliasDatabase, Builder
from pf_agent.activation.course import Course
from pf_agent.activation.ports import Postfix, Service
from pf_agent.activation.surroundings import Surroundings
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.linux import stamp
from pf_agent.files.store import FileStore
from pf_agent.model import Emit, Judgement, Record, Trigger
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.judge import Judge


class Programs(Postfix, Builder, Protocol):
    """Postfix's programs and port, as the daemon has them done and as `apply` does them."""

    def judge(self, text: bytes) -> Judgement: ...
    def is_there(self, thing: str) -> bool: ...


@dataclass(frozen=True)
class Told:
    """Who hears of it: of a reason to look again, of a record, of what is no event."""

    post: Callable[[Trigger], None]
    emit: Emit
    note: Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """What looks after one main.cf."""

    host: MainCfFile
    state: FileStore
    judge: Judge
    aliases: AliasDatabase
    activation: Activation
    in_force: InForce


def parts_of(
    name: str,
    main_cf: str,
    state: FileStore,
    postfix: Programs,
    systemd: Service,
    told: Told,
    retry_seconds: float = RETRY_SECONDS,
) -> Parts:
    """Return the parts of the instance `name`; what `retry_seconds` are AliasDatabase says."""
    host = MainCfFile(main_cf)
    emit = emit_of(name, told.emit)
    aliases = AliasDatabase(postfix, told.post, emit, told.note, stamp, retry_seconds=retry_seconds)
    around = Surroundings(postfix_unit(name), systemd, postfix, state, host.read)
    activation = Activation(Course(around, aliases, told.post, emit))
    in_force = InForce(host, state, emit, postfix.is_there)
    return Parts(host, state, Judge(postfix.judge), aliases, activation, in_force)


def postfix_unit(instance: str) -> str:
    """Return the unit to restart: the guide's, or postfix@.service's instance (NEWS.Debian)."""
    if instance == names.DEFAULT_INSTANCE:
        return names.POSTFIX_UNIT
    return names.instance_unit(names.POSTFIX_UNIT, instance)


def postfix_units(instance: str) -> frozenset[str]:
    """Return the units that may hold the instance's master: on Debian 12 the default one's is
    below an umbrella (units.holders_of)."""
    return frozenset([postfix_unit(instance), names.instance_unit(names.POSTFIX_UNIT, instance)])


def emit_of(instance: str, emit: Emit) -> Emit:
    """Return `emit` for an instance: records of another than the default one say which."""
    if instance == names.DEFAULT_INSTANCE:
        return emit

    def emit_named(record: Record) -> None:
        fields = {**record.fields, names.FIELD_INSTANCE: instance}
        emit(replace(record, message=f"{instance}: {record.message}", fields=fields))

    return emit_named
