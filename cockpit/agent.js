// What pf-agent tells: whether it runs, its status, its signals, and what systemd knows of its unit.

const { cockpit } = globalThis;

export const NAME = "org.pfagent.Agent1";
export const PATH = "/org/pfagent/Agent1";
export const UNIT = "pf-agent.service";
const STATUS_FILE = "/run/pf-agent/status.json";
const SHOWN = "ActiveState,SubState,Result,StateChangeTimestamp";

/**
 * @typedef {object} Told
 * @property {string|null|undefined} owner - of the name on the bus; null: nobody, undefined: not known yet
 * @property {object|null} status - as docs/json.md has it, null: not known
 * @property {Object<string, string>} unit - properties of systemd, while nobody owns the name
 */

/**
 * Call `told` with everything whenever something changes, and `drifted` at each signal of drift.
 *
 * The agent is alive if it owns the name: status.json stays if it was killed. Its members are more
 * than the properties on the bus, which stand in where the file cannot be read.
 * @param {function(Told): void} told
 * @param {function(): void} drifted
 */
export function followAgent(told, drifted) {
    const client = cockpit.dbus(NAME, { bus: "system" });
    const agent = client.proxy(NAME, PATH);
    const known = { owner: undefined, file: null, unit: {} };

    function tell() {
        told({ owner: known.owner, status: known.file || ofProperties(agent), unit: known.unit });
    }

    async function ask() {
        known.unit = await unitStates();
        tell();
    }

    client.addEventListener("owner", (_event, owner) => {
        known.owner = owner;
        tell();
        if (!owner)
            ask();
    });
    agent.addEventListener("changed", tell);
    client.subscribe({ interface: NAME, path: PATH }, drifted);
    cockpit.file(STATUS_FILE, { syntax: JSON }).watch(content => {
        known.file = content;
        tell();
    });
    // systemd sends changes to its subscribers only, so ask again while the agent is down.
    setInterval(() => known.owner === null && !cockpit.hidden && ask(), 5000);
}

/**
 * The status as far as the bus tells it.
 * @param {object} agent - the proxy
 * @returns {object|null} null: it tells nothing yet
 */
function ofProperties(agent) {
    if (!agent.valid || !agent.Phase)
        return null;
    return {
        phase: agent.Phase,
        detail: agent.Summary,
        since: null,
        parameters: agent.Parameters,
        problems: agent.Problems,
        last_drift: null,
        next_look: null,
        version: agent.Version,
        instances: {},
        suspension: null,
        absent: [],
        stale_tables: agent.StaleTables,
        summary: agent.Summary,
        documents: {},
        restart_due: null,
    };
}

/** @returns {Promise<Object<string, string>>} */
async function unitStates() {
    const command = ["systemctl", "show", "--timestamp=unix", `--property=${SHOWN}`, UNIT];
    const printed = await cockpit.spawn(command, { err: "ignore" }).catch(() => "");
    const lines = printed.split("\n").filter(line => line.includes("="));
    return Object.fromEntries(lines.map(line => {
        const at = line.indexOf("=");
        return [line.slice(0, at), line.slice(at + 1)];
    }));
}
