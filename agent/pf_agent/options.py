"""agent.toml -> AgentOptions: how the agent behaves on this host."""

from __future__ import annotations

from pf_agent.errors import ConfigError
from pf_agent.model import ActivationWay, AgentOptions, Mode
from pf_agent.toml_table import Source, parse

# In seconds. Shorter settling looks at half-written files, longer leaves drift in force.
_SETTLE = (0.05, 60)
_LOOK_EVERY = (1, 86400)


def load(source: Source | None) -> AgentOptions:
    """Return the options of agent.toml, the defaults where it is silent or there is none.

    Raises ConfigError with all problems of the file.
    """
    default = AgentOptions()
    if source is None:
        return default
    table = parse(source)
    watch = table.table("watch")
    options = AgentOptions(
        mode=Mode(table.choice("mode", [mode.value for mode in Mode], default.mode.value)),
        activation=ActivationWay(
            table.choice(
                "activation", [way.value for way in ActivationWay], default.activation.value
            )
        ),
        settle_seconds=watch.number("settle_seconds", *_SETTLE, default.settle_seconds),
        look_every_seconds=watch.number(
            "look_every_seconds", *_LOOK_EVERY, default.look_every_seconds
        ),
    )
    watch.refuse_unknown()
    table.refuse_unknown()
    if table.problems:
        raise ConfigError(*table.problems)
    return options
