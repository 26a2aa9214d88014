"""All attacks, by who tries them and by kind."""

from __future__ import annotations

from tests.machine.attacks.attack import (
    Attack,
    Who,
    aliases_built,
    aliases_wanted,
    failing,
    gated,
    including,
    kept_from_others,
    mailed_as_it_was,
    named_as_held_up,
    not_told_as_done,
    obeyed_again_and_again,
    run_by_root_there,
    scraped,
    shown_by_nobody,
    small,
    told_as_failed,
    told_either_way,
    wishing,
)
from tests.machine.attacks.inside.ground import HOME

_TABLE = wishing(f'virtual_alias_maps = "texthash:{HOME}/table"')
_ALIASES = wishing(f'alias_database = "hash:/etc/aliases hash:{HOME}/aliases"')

ATTACKS = (
    # Sockets
    Attack("sockets.errands_orders"),
    Attack("sockets.errands_orders", Who.POSTFIX),
    Attack("sockets.metrics_slowly", during=[scraped]),
    Attack("sockets.metrics_idle", during=[scraped]),
    Attack("sockets.metrics_garbage", during=[scraped]),
    Attack("sockets.metrics_pipelined", during=[scraped]),
    Attack("sockets.metrics_from_a_web_page", during=[scraped]),
    Attack("sockets.smtp_idle", Who.NETWORK),
    Attack("sockets.smtp_lines_for_the_log", Who.NETWORK),
    Attack(
        "sockets.smtp_lines_for_the_log",
        Who.NETWORK,
        failing,
        [told_as_failed],
        where="Postfix fails",
        starts=False,
    ),
    Attack("sockets.smtp_garbage", Who.NETWORK),
    # D-Bus
    Attack("bus.orders"),
    Attack("bus.orders", Who.POSTFIX),
    Attack("bus.flood_of_orders", during=[obeyed_again_and_again]),
    Attack("bus.flood_of_questions", during=[obeyed_again_and_again]),
    Attack("bus.large_messages", during=[obeyed_again_and_again]),
    Attack("bus.signals_of_others"),
    Attack(
        "bus.signals_of_others",
        Who.USER,
        gated,
        [not_told_as_done],
        where="Postfix starts",
        starts=False,
    ),
    Attack("bus.names_of_others"),
    Attack("bus.listening_in"),
    Attack("bus.connections"),
    Attack("bus.orders_to_systemd"),
    # The journal
    Attack("journal.forged_records", during=[shown_by_nobody], after=[mailed_as_it_was]),
    Attack("journal.forged_records", Who.POSTFIX, during=[shown_by_nobody]),
    Attack("journal.forged_stream", during=[shown_by_nobody]),
    Attack("journal.forged_words_of_units"),
    Attack(
        "journal.forged_words_of_units",
        Who.USER,
        failing,
        [told_as_failed],
        where="Postfix fails",
        starts=False,
    ),
    Attack("journal.flood", during=[shown_by_nobody]),
    # Links, FIFOs, and what is root's
    Attack("files.links_in_everybodys_folders"),
    Attack("files.fifos_in_everybodys_folders"),
    Attack("files.second_names"),
    Attack("files.alias_source_in_a_home", Who.USER, _ALIASES),
    Attack("files.alias_source_that_holds_up", Who.USER, _ALIASES, after=[named_as_held_up]),
    Attack("files.table_that_holds_up", Who.USER, _TABLE, [told_either_way], starts=False),
    Attack("files.include_that_holds_up", Who.USER, including),
    Attack("files.postfixs_data", Who.POSTFIX),
    # Whoever is postfix may keep Postfix from starting, as long as that goes on.
    Attack("files.postfixs_sockets", Who.POSTFIX, during=[told_either_way], starts=False),
    Attack("files.postfixs_queue", Who.POSTFIX, during=[told_either_way], starts=False),
    Attack("files.reading_what_is_roots", during=[kept_from_others]),
    Attack("files.reading_what_is_roots", Who.POSTFIX),
    Attack("files.writing_to_what_is_roots"),
    Attack("files.writing_to_what_is_roots", Who.POSTFIX),
    Attack("files.modules_of_its_own", during=[run_by_root_there]),
    # Locks
    Attack("locks.flocks"),
    Attack("locks.flock_on_the_aliases", during=[aliases_wanted], after=[aliases_built]),
    Attack("locks.dpkgs_locks"),
    Attack("locks.leases", Who.USER, _TABLE),
    Attack("locks.open_for_ever"),
    # Load
    Attack("load.processes"),
    Attack("load.memory"),
    Attack("load.full_tmp", Who.USER, small("/tmp")),
    Attack("load.full_var_tmp", Who.USER, small("/var/tmp")),
    Attack("load.full_run_lock", Who.USER, small("/run/lock")),
    Attack("load.watches"),
    Attack("load.descriptors"),
    # Processes
    Attack("processes.names_of_others"),
    Attack("processes.signals"),
    Attack("processes.signals", Who.POSTFIX),
    Attack("processes.commands"),
    Attack("processes.notifications"),
)
