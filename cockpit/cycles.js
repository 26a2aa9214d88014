// Cycles, orders and rebuilds, as `history --json` gives them: their names, and in which words. Pure.

import { DEFAULT_INSTANCE } from "./state.js";
import { _, duration } from "./words.js";

const OUTCOMES = {
    observed: { text: _("Observed"), tone: "paused" },
    corrected: { text: _("Corrected"), tone: "good" },
    activated: { text: _("Corrected, and Postfix runs with it"), tone: "good" },
    "Postfix failed": { text: _("Corrected, but Postfix failed"), tone: "danger" },
    "rolled back": { text: _("Rolled back"), tone: "warning" },
    refused: { text: _("Refused"), tone: "warning" },
    // Of an order:
    adopted: { text: _("Made desired"), tone: "unknown" },
    set: { text: _("Set"), tone: "unknown" },
    unset: { text: _("No longer managed"), tone: "unknown" },
    restored: { text: _("An earlier text was restored"), tone: "unknown" },
    initialized: { text: _("A ready-made state was taken"), tone: "unknown" },
    // Of a table:
    rebuilt: { text: _("Index rebuilt"), tone: "good" },
    stale: { text: _("Index out of date"), tone: "warning" },
};
const MAIN_CF = "main.cf";
const UNKNOWN = "unknown";
/** The life of records of an older version, which name none. */
const NO_LIFE = "0";

/** @returns {boolean} whether it is a cycle, and neither an order of a person nor a rebuild */
export const isCycle = found => found.cycle !== null;

/** @returns {boolean} whether it is a rebuild of a table */
export const isRebuild = found => Boolean(found.table);

/** @returns {boolean} whether a document's parts are keys */
export const isTable = document => document.includes(":");

/** @returns {string} what names in a document begin with, as `history` writes them */
export const prefixOf = document => document === MAIN_CF ? "" : `${document.replace(/.*\//s, "")}: `;

/**
 * What differs now.
 * @param {object} found - as in `diff --json`
 * @returns {object[]} each as in its `drift`, with `instance`
 */
export function differencesOf(found) {
    const all = Object.entries({ [DEFAULT_INSTANCE]: found, ...found.instances });
    return all.flatMap(([instance, one]) =>
        [one, ...Object.values(one.documents)].flatMap(({ drift }) => drift.map(each => ({ instance, ...each }))));
}

/** A key that no two of them share. */
export function keyOf(cycle) {
    const which = isRebuild(cycle) ? `table-${cycle.table.path}` : "at";
    const number = isCycle(cycle) ? cycle.cycle : `${which}-${cycle.at}`;
    return `${cycle.life || NO_LIFE}/${cycle.instance || DEFAULT_INSTANCE}/${number}`;
}

/**
 * Its name in commands: only the number if it belongs to the newest life.
 * @param {object} cycle
 * @param {string|null} newestLife
 * @returns {string}
 */
export function nameOf(cycle, newestLife) {
    return cycle.life === newestLife ? String(cycle.cycle) : `${cycle.life || NO_LIFE}/${cycle.cycle}`;
}

/** @returns {{text: string, tone: import("./state.js").Tone}} */
export function outcomeOf(cycle) {
    return OUTCOMES[cycle.outcome] || { text: cycle.outcome, tone: "unknown" };
}

/**
 * @returns {string} who gave the order; or the process, and whose login session it belongs to; of a
 *     table nobody is known
 */
export function writtenBy(cycle) {
    const { by, writer, login } = cycle;
    if (by || isRebuild(cycle))
        return by || "";
    const process = writer === UNKNOWN ? _("unknown") : writer;
    return login === UNKNOWN ? process : _("$0 ($1)", process, login);
}

/** @returns {string} how long the drift was live */
export function liveFor(cycle) {
    if (!isCycle(cycle))
        return "";
    return cycle.corrected_seconds === null ? _("not corrected") : duration(cycle.corrected_seconds);
}

/** @returns {string} how many entries the index of a table had and has; "" if that is not known */
export function entriesOf({ table }) {
    if (!table || table.entries === null)
        return "";
    return table.entries_before === null
        ? _("Entries: $0", table.entries)
        : _("Entries: $0 before, $1 now", table.entries_before, table.entries);
}

/** @returns {string[]} what can be searched for: the parameters, or the file of a table */
export const namesOf = cycle => isRebuild(cycle) ? [cycle.table.path] : cycle.parameters;

/**
 * The desired and the actual value of a difference, in words.
 * @param {object} drift - as in `diff --json`
 * @returns {{expected: string, actual: string}}
 */
export function valuesOf({ kind, expected, actual }) {
    const must = expected ?? "";
    const is = actual ?? "";
    switch (kind) {
    case "missing": return { expected: must, actual: _("not set") };
    case "unwanted": return { expected: _("left at Postfix's default"), actual: is };
    case "unmanaged": return { expected: _("not managed"), actual: is };
    case "duplicated": return { expected: _("$0, once", must), actual: _("$0, then set again", is) };
    case "unreadable": return { expected: _("a valid line"), actual: is };
    default: return { expected: must, actual: is };
    }
}

/** The kinds of difference whose actual value can be adopted. */
const ADOPTED = new Set(["changed", "missing", "unwanted"]);

/** @returns {boolean} whether what main.cf says can be made the desired state */
export const canBeAdopted = drift => Boolean(drift.parameter) && ADOPTED.has(drift.kind);
