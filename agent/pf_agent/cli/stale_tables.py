"""What `apply --dry-run` says of the indexed tables that `apply` would build."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pf_agent import names
from pf_agent.cli.subject import Subject
from pf_agent.files import configuration


def stale_tables(subject: Subject, text: bytes) -> Mapping[str, str]:
    """Return a sentence for each source whose index is out of date; of the host's own main.cf.

    Raises ConfigError.
    """
    if not subject.own:
        return {}
    from pf_agent.daemon.tables_once import TablesOnce
    from pf_agent.postfix.at_hand import AtHand

    rules = configuration.load_options(names.CONFIG_DIRECTORY).tables
    main_cf = subject.host.path
    postfix = AtHand(os.path.dirname(main_cf), names.RUN_DIRECTORY)
    return TablesOnce(main_cf, rules, postfix, lambda _record: None, "").due(text)
