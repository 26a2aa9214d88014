// What each state shows, and which orders it offers: a function of what is known. Pure.

import { isToBeMended, ownTroublesOf, staleOf, troublesOf } from "./elsewhere.js";
import { _, day, duration, plural, since } from "./words.js";

/** The default instance's name. */
export const DEFAULT_INSTANCE = "-";

/**
 * @typedef {"good"|"busy"|"paused"|"warning"|"danger"|"unknown"} Tone
 *
 * @typedef {object} Known
 * @property {string|null|undefined} owner - see agent.js
 * @property {object|null} status
 * @property {Object<string, string>} unit
 * @property {boolean|null} isAdmin - see rights.js
 * @property {Object<string, boolean>} may
 *
 * @typedef {object} View
 * @property {string} phase - `loading`, `down` or one of the agent's
 * @property {string} label
 * @property {Tone} tone
 * @property {string} sentence
 * @property {[string, string, string][]} facts - name, heading, value
 * @property {string[]} problems
 * @property {string[]} absent
 * @property {string[]} stale - tables that are out of date, each with why
 * @property {object[]} instances - name, phase, label, tone, sentence, orders; none where there is one
 * @property {string[]} orders
 * @property {string[]} links
 * @property {boolean} mayDiffer - whether main.cf may be left as it is
 * @property {string} limits - what may not be done here; "": nothing
 * @property {{type: string, title: string}|null|undefined} menu - the mark beside the menu's entry;
 *     undefined: not known
 */

const PHASES = {
    starting: {
        label: _("Starting"),
        tone: "busy",
        sentence: () => _("pf-agent takes its first look."),
        orders: [],
    },
    "in-sync": {
        label: _("In sync"),
        tone: "good",
        sentence: status => plural(
            "main.cf is as desired: $0 parameter is kept.",
            "main.cf is as desired: $0 parameters are kept.",
            status.parameters
        ),
        orders: ["look", "suspend"],
    },
    activating: {
        label: _("Activating"),
        tone: "busy",
        sentence: () => _("main.cf is correct; Postfix does not run with it yet."),
        orders: ["look", "suspend"],
    },
    observing: {
        label: _("Observing"),
        tone: "paused",
        sentence: status => status.parameters
            ? _("Differences are reported and not corrected. To have them corrected, write mode = \"enforce\" into /etc/pf-agent/agent.toml.")
            : _("There is no valid desired state: nothing is kept."),
        orders: ["look"],
        mayDiffer: true,
    },
    suspended: {
        label: _("Suspended"),
        tone: "paused",
        sentence: () => _("main.cf and Postfix are left alone."),
        orders: ["resume"],
        menu: "warning",
        mayDiffer: true,
    },
    stalled: {
        label: _("Stalled"),
        tone: "danger",
        sentence: () => _("main.cf cannot be kept as desired."),
        orders: ["look", "suspend"],
        links: ["services"],
        menu: "error",
        mayDiffer: true,
    },
    contested: {
        label: _("Contested"),
        tone: "danger",
        sentence: () => _("Something keeps changing what is corrected; see below who writes it, and living-with-others.md in /usr/share/doc/pf-agent."),
        orders: ["suspend"],
        links: ["services"],
        menu: "error",
    },
    failing: {
        label: _("Failing"),
        tone: "danger",
        sentence: () => _("main.cf is correct, but Postfix does not serve as it should."),
        orders: ["look", "suspend"],
        links: ["postfix"],
        menu: "error",
    },
    stopped: {
        label: _("Postfix is stopped"),
        tone: "warning",
        sentence: () => _("main.cf is kept correct; Postfix is left stopped."),
        orders: ["start-postfix"],
        links: ["postfix"],
        menu: "warning",
    },
};

/** For a phase that only a later pf-agent knows. */
const OTHER_PHASE = { tone: "unknown", sentence: status => status.summary, orders: [] };

/** polkit has no action of pf-agent for these. */
const FOR_ADMINS_ONLY = new Set(["start-agent", "start-postfix"]);

/**
 * @param {Known} known
 * @param {number} now - seconds since the epoch
 * @returns {View}
 */
export function viewOf(known, now) {
    if (known.owner === undefined || (known.owner && !known.status))
        return { ...EMPTY, phase: "loading", label: "...", menu: undefined };
    if (!known.owner)
        return downView(known, now);
    const { status } = known;
    const whole = standing(status);
    const named = Object.entries(status.instances);
    const all = named.length ? [[DEFAULT_INSTANCE, status], ...named] : [];
    return {
        ...EMPTY,
        ...whole,
        facts: factsOf(status, now),
        problems: [...new Set([...status.problems, ...troublesOf(status)])],
        absent: status.absent,
        stale: staleOf(status),
        instances: all.map(([name, inner]) => instanceView(name, inner, known)),
        orders: allowed(ordersOf(status), known),
        mayDiffer: [status, ...Object.values(status.instances)].some(differs),
        limits: limitsOf(known),
        menu: menuOf(status),
    };
}

/** A view without content. */
const EMPTY = {
    tone: "unknown",
    sentence: "",
    facts: [],
    problems: [],
    absent: [],
    stale: [],
    instances: [],
    orders: [],
    links: [],
    mayDiffer: false,
    limits: "",
};

function downView(known, now) {
    const sentence = _("Nobody looks after main.cf.");
    return {
        ...EMPTY,
        phase: "down",
        label: _("Not running"),
        tone: "danger",
        sentence,
        facts: unitFacts(known.unit, now),
        orders: allowed(["start-agent"], known),
        links: ["services"],
        limits: limitsOf(known),
        menu: { type: "error", title: sentence },
    };
}

function unitFacts(unit, now) {
    const state = [unit.ActiveState, unit.SubState, unit.Result].filter(Boolean);
    if (!state.length)
        return [];
    const moment = Number((unit.StateChangeTimestamp || "").replace("@", ""));
    return facts(
        ["why", _("systemd says"), state.join(", ")],
        ["since", _("Since"), moment ? since(moment, now) : ""]
    );
}

const phaseOf = status => PHASES[status.phase] || { ...OTHER_PHASE, label: status.phase };

function standing(status) {
    const { label, tone, sentence, links = [] } = phaseOf(status);
    const hasDoubts = status.detail || ownTroublesOf(status).length || status.problems.length || status.absent.length
        || Object.keys(status.stale_tables).length;
    return {
        phase: status.phase,
        label,
        tone: tone === "good" && hasDoubts ? "warning" : tone,
        sentence: sentence(status),
        links,
    };
}

/** A suspension can always be ended, even if the phase tells something more urgent. */
function ordersOf(status) {
    return status.suspension ? ["resume"] : phaseOf(status).orders;
}

function differs(status) {
    const isOther = Object.values(status.documents).some(Boolean);
    return Boolean(status.suspension || phaseOf(status).mayDiffer || isOther);
}

/** @returns {string[]} those of the orders that this person may give */
function allowed(orders, { isAdmin, may }) {
    return orders.filter(order => isAdmin || (may[order] && !FOR_ADMINS_ONLY.has(order)));
}

function limitsOf({ isAdmin, may }) {
    if (isAdmin !== false)
        return "";
    return Object.values(may).some(Boolean)
        ? _("Limited access: only the orders that a rule of polkit allows you.")
        : _("Limited access: no orders.");
}

/** An instance that is suspended alone can be resumed alone, but not over the bus. */
function instanceView(name, status, known) {
    const isAlone = name !== DEFAULT_INSTANCE && status.suspension && !known.status.suspension;
    const orders = isAlone && known.isAdmin ? ["resume"] : [];
    return { name, ...standing(status), detail: status.detail, orders };
}

/** Why it is in sync with a doubt, unless a list of its own says so. */
function detailOf(status) {
    const listed = [...Object.values(status.stale_tables), ...status.absent, ...ownTroublesOf(status)];
    const isListed = status.phase === "in-sync" && listed.some(why => status.detail.startsWith(`but ${why}`));
    return isListed ? "" : status.detail;
}

function factsOf(status, now) {
    const { suspension, last_drift: last, restart_due: due } = status;
    return facts(
        ...(suspension ? suspensionFacts(suspension) : []),
        ["found", suspension ? _("Meanwhile") : _("Details"), detailOf(status)],
        ["since", _("Since"), status.since ? since(status.since, now) : ""],
        ["restart-due", _("Postfix restarts"), due ? _("not before $0", day(due)) : ""],
        ["next-look", _("Next look"), status.next_look ? _("$0 at the latest", day(status.next_look)) : ""],
        ["last-drift", _("Last drift"), last ? driftSentence(last, now) : ""],
        ["parameters", _("Parameters kept"), String(status.parameters)],
        ["version", _("Version"), status.version]
    );
}

function suspensionFacts({ who, reason, until }) {
    return [
        ["who", _("Suspended by"), who],
        ["reason", _("Reason"), reason],
        ["until", _("Until"), until ? day(until) : _("somebody resumes it")],
    ];
}

function driftSentence(last, now) {
    const sentence = _("$0: $1", since(last.at, now), last.parameters.join(", "));
    return last.corrected_seconds === null
        ? sentence
        : _("$0; corrected in $1", sentence, duration(last.corrected_seconds));
}

/** Without those that have no value. */
const facts = (...all) => all.filter(([, , value]) => value);

/** The mark beside the menu's entry: the worst of all instances. */
function menuOf(status) {
    const all = [status, ...Object.values(status.instances)].map(phaseOf);
    const worst = all.find(phase => phase.menu === "error") || all.find(phase => phase.menu);
    if (worst)
        return { type: worst.menu, title: worst.label };
    if (status.problems.length)
        return { type: "warning", title: _("The configuration has errors") };
    if (troublesOf(status).length)
        return { type: "warning", title: _("master.cf or a table is not as desired") };
    if ([status, ...Object.values(status.instances)].some(isToBeMended))
        return { type: "warning", title: _("A table is out of date") };
    return null;
}
