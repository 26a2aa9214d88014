"""The names that users see and rely on in scripts: paths, the unit, journal fields."""

from typing import Final

PROGRAM: Final = "pf-agent"

MAIN_CF: Final = "/etc/postfix/main.cf"
DEFAULT_ALIASES: Final = "/etc/aliases"
POSTFIX_UNIT: Final = "postfix.service"
# What a service of master.cf listens on, and its fields as postconf(1), -F, names them.
SERVICE_TYPES: Final = ("inet", "unix", "unix-dgram", "fifo", "pass")
SERVICE_FIELDS: Final = ("private", "unprivileged", "chroot", "wakeup", "process_limit")
# What a service says that is there, and its other parts that are no option.
SERVICE_ENABLED: Final = "enabled"
SERVICE_COMMAND: Final = "command"
SERVICE_ARGUMENTS: Final = "arguments"
# postmulti(1)'s name for the instance in /etc/postfix.
DEFAULT_INSTANCE: Final = "-"

CONFIG_DIRECTORY: Final = "/etc/pf-agent"
DESIRED_TOML: Final = "desired.toml"
DESIRED_DROPINS: Final = "desired.d"
AGENT_TOML: Final = "agent.toml"

STATE_DIRECTORY: Final = "/var/lib/pf-agent"
RUN_DIRECTORY: Final = "/run/pf-agent"
# Files in the latter: when Postfix was restarted for drift, and for a wish.
RESTARTS: Final = "restarts.json"
WISHED_RESTARTS: Final = "wished-restarts.json"
# pf-agent-errands.service's.
ERRANDS_DIRECTORY: Final = "/run/pf-agent-errands"
ERRANDS_SOCKET: Final = "/run/pf-agent-errands.socket"

# journald accepts records here (systemd.io/JOURNAL_NATIVE_PROTOCOL).
JOURNAL_SOCKET: Final = "/run/systemd/journal/socket"

# journald silently drops a field whose name is not [A-Z][A-Z0-9_]* of at most 64 characters, so
# tests hold every name below to that (systemd.journal-fields(7)).
FIELD_EVENT: Final = "PF_AGENT_EVENT"
FIELD_CYCLE: Final = "PF_AGENT_CYCLE"
# Which numbering the cycle belongs to: it starts again with each life of the state directory.
FIELD_LIFE: Final = "PF_AGENT_LIFE"
FIELD_PARAMETER: Final = "PF_AGENT_PARAMETER"
# Of a table's entries, in the place of a parameter of main.cf.
FIELD_TABLE: Final = "PF_AGENT_TABLE"
FIELD_KEY: Final = "PF_AGENT_KEY"
FIELD_KIND: Final = "PF_AGENT_KIND"
FIELD_EXPECTED: Final = "PF_AGENT_EXPECTED"
FIELD_ACTUAL: Final = "PF_AGENT_ACTUAL"
FIELD_LINE: Final = "PF_AGENT_LINE"
FIELD_DIFF: Final = "PF_AGENT_DIFF"
FIELD_DISPLACED: Final = "PF_AGENT_DISPLACED"
FIELD_REASON: Final = "PF_AGENT_REASON"
FIELD_WARNINGS: Final = "PF_AGENT_WARNINGS"
FIELD_LOG: Final = "PF_AGENT_LOG"
FIELD_INSTANCE: Final = "PF_AGENT_INSTANCE"
FIELD_WRITER: Final = "PF_AGENT_WRITER"
FIELD_WRITER_PID: Final = "PF_AGENT_WRITER_PID"
FIELD_LOGIN: Final = "PF_AGENT_LOGIN"
# The user who gave an order.
FIELD_BY: Final = "PF_AGENT_BY"
# The difference is a change of the desired state: main.cf was not written.
FIELD_WISHED: Final = "PF_AGENT_WISHED"
# Of a table: its source, how many entries its index had and has, how long that took.
FIELD_PATH: Final = "PF_AGENT_PATH"
FIELD_ENTRIES_BEFORE: Final = "PF_AGENT_ENTRIES_BEFORE"
FIELD_ENTRIES: Final = "PF_AGENT_ENTRIES"
FIELD_SECONDS: Final = "PF_AGENT_SECONDS"
FIELD_WRITTEN_AT: Final = "PF_AGENT_WRITTEN_AT"
FIELD_SEEN_AT: Final = "PF_AGENT_SEEN_AT"
FIELD_CORRECTED_AT: Final = "PF_AGENT_CORRECTED_AT"
FIELD_ACTIVATED_AT: Final = "PF_AGENT_ACTIVATED_AT"

# The value of a field about a process that the kernel did not name.
UNKNOWN: Final = "unknown"


def instance_unit(template: str, instance: str) -> str:
    """Return the unit of an instance: "postfix@-.service" of "postfix.service" and "-".

    `template` has the "@" or not (systemd.unit(5)).
    """
    stem, dot, kind = template.rpartition(".")
    return f"{stem.removesuffix('@')}@{instance}{dot}{kind}"
