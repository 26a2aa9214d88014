// The orders: the command that carries each of them out, and what is said where it is refused.

import { NAME, PATH, UNIT } from "./agent.js";
import { isTable } from "./cycles.js";
import { _ } from "./words.js";

const { cockpit } = globalThis;

const POSTFIX_UNIT = "postfix.service";
/** What `--for` takes, and the seconds that the bus takes; 0: until resumed. */
export const SPANS = { "10min": 600, "1h": 3600, "4h": 14400, "": 0 };
const NOT_ALLOWED = new Set([
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
]);

/**
 * @typedef {object} Order
 * @property {string} name
 * @property {string|null} [instance] - null: all, or the default one
 * @property {string} [span] - of a suspension, one of SPANS
 * @property {string} [reason]
 * @property {string} [parameter]
 * @property {string} [document] - what the parameter is in
 * @property {string} [cycle] - as history names it
 */

/**
 * The command that carries out an order.
 * @param {Order} order
 * @returns {string[]}
 */
export function commandOf(order) {
    const which = order.instance ? ["--instance", order.instance] : [];
    switch (order.name) {
    case "suspend": {
        const span = order.span ? ["--for", order.span] : [];
        return ["pf-agent", "suspend", ...which, ...span, `--reason=${order.reason}`];
    }
    case "resume":
        return ["pf-agent", "resume", ...which];
    case "adopt":
        return ["pf-agent", "adopt", ...which, "--", ...tableIn(order), order.parameter];
    case "keep":
        return ["pf-agent", "adopt", ...which, "--cycle", order.cycle, "--", order.parameter];
    case "restore":
        return ["pf-agent", "restore", ...which, order.cycle];
    case "start-agent":
        return ["systemctl", "start", UNIT];
    case "start-postfix":
        return ["systemctl", "start", POSTFIX_UNIT];
    default:
        throw new Error(`no command: ${order.name}`);
    }
}

/** A key is only known with its table; other names tell themselves where they are. */
const tableIn = ({ document }) => isTable(document) ? [document] : [];

/**
 * The same, as a shell takes it.
 * @param {Order} order
 * @returns {string}
 */
export function commandLine(order) {
    return commandOf(order).map(quoted).join(" ");
}

function quoted(word) {
    const [, option, value] = word.match(/^(--[a-z]+=)?(.*)$/s);
    const isPlain = /^[\w@%+=:,./-]+$/.test(value);
    return (option || "") + (isPlain ? value : `'${value.replaceAll("'", "'\\''")}'`);
}

/**
 * Carry it out: for administrators by the command, which knows who became root, so that the record
 * has that name (over the bus it would be root); for others over the bus, where polkit decides.
 * @param {Order} order
 * @param {boolean} isAdmin
 * @returns {Promise<string>} - what it answered; rejected with an Error for people
 */
export async function carryOut(order, isAdmin) {
    try {
        if (order.name === "look" || !isAdmin)
            return await onTheBus(order);
        return await run(commandOf(order));
    } catch (ex) {
        throw new Error(refusal(ex));
    }
}

/** The answer has warnings, too, as on a terminal; if the command fails, it is the reason. */
function run(command) {
    return new Promise((resolve, reject) => {
        cockpit.spawn(command, { superuser: "require", err: "out" }).then(resolve, (ex, output) => {
            reject({ problem: ex.problem, exit_status: ex.exit_status, message: output });
        });
    });
}

async function onTheBus(order) {
    const [method, types, values] = {
        look: ["Reconcile", "", []],
        suspend: ["Suspend", "ts", [SPANS[order.span], order.reason]],
        resume: ["Resume", "", []],
    }[order.name];
    const client = cockpit.dbus(NAME, { bus: "system", superuser: "try" });
    try {
        await client.call(PATH, NAME, method, values, { type: types });
    } finally {
        client.close();
    }
    return "";
}

/**
 * polkit's own message speaks of a wrong password, although nobody is asked for one in Cockpit.
 * @param {{name?: string, problem?: string, message?: string, exit_status?: number}} ex
 * @returns {string}
 */
function refusal(ex) {
    if (NOT_ALLOWED.has(ex.name) || ex.problem === "access-denied")
        return _("You may not order this: it takes administrative access, or a rule of polkit for you.");
    if (ex.problem === "not-found")
        return _("The program was not found.");
    return ex.message?.trim() || _("It failed with the exit code $0 and gave no reason.", ex.exit_status);
}
