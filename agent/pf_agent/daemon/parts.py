"""The parts of one instance, built once: the daemon and `apply` use the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pf_agent import names
from pf_agent.activation.activation import Activation
from pf_agent.activation.alias_database import Builder, Newaliases
from pf_agent.activation.course import Course
from pf_agent.activation.databases import RETRY_SECONDS, Databases
from pf_agent.activation.ports import Others, Postfix, Service
from pf_agent.activation.surroundings import Surroundings
from pf_agent.daemon.telling import emit_of
from pf_agent.files.exchange import MainCfFile
from pf_agent.files.linux import stamp
from pf_agent.files.store import FileStore
from pf_agent.model import Emit, Judgement, Trigger
from pf_agent.postfix.ways import is_anothers
from pf_agent.reconcile.in_force import InForce
from pf_agent.reconcile.judge import Judge


class Programs(Postfix, Builder, Protocol):
    """Postfix's programs and port, in the daemon's way or in that of `apply`."""

    def judge(self, text: bytes) -> Judgement: ...
    def is_there(self, thing: str) -> bool: ...


@dataclass(frozen=True)
class Told:
    """What is told of a reason to look again, of a record, and of other remarks."""

    post: Callable[[Trigger], None]
    emit: Emit
    note: Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """The parts that manage one main.cf."""

    host: MainCfFile
    state: FileStore
    judge: Judge
    aliases: Databases
    activation: Activation
    in_force: InForce


def parts_of(
    name: str,
    main_cf: str,
    state: FileStore,
    postfix: Programs,
    systemd: Service,
    told: Told,
    others: Others,
    retry_seconds: float = RETRY_SECONDS,
) -> Parts:
    """Return the parts of the instance `name`; Databases explains `retry_seconds`."""
    host = MainCfFile(main_cf)
    emit = emit_of(name, told.emit)
    craft = Newaliases(postfix, is_anothers)
    aliases = Databases(craft, told.post, emit, told.note, stamp, retry_seconds=retry_seconds)
    around = Surroundings(postfix_unit(name), systemd, postfix, state, host.read, others=others)
    activation = Activation(Course(around, aliases, told.post, emit))
    in_force = InForce(host, state, emit, postfix.is_there)
    return Parts(host, state, Judge(postfix.judge), aliases, activation, in_force)


def postfix_unit(instance: str) -> str:
    """Return the unit to restart: the guide's, or postfix@.service's instance (NEWS.Debian)."""
    if instance == names.DEFAULT_INSTANCE:
        return names.POSTFIX_UNIT
    return names.instance_unit(names.POSTFIX_UNIT, instance)


def postfix_units(instance: str) -> frozenset[str]:
    """Return the units that may hold the instance's master.

    On Debian 12 the default one's is below an umbrella unit (units.holders_of).
    """
    return frozenset([postfix_unit(instance), names.instance_unit(names.POSTFIX_UNIT, instance)])
