// What the person who looks may do: give orders, as root or by a rule of polkit; read the journal.

const { cockpit } = globalThis;

const ACTIONS = {
    look: "org.pfagent.reconcile",
    suspend: "org.pfagent.suspend",
    resume: "org.pfagent.resume",
};
/** Who may read it, beside root: systemd-journald.service(8), and Debian's own adm. */
const READERS = ["adm", "systemd-journal"];
/** Asks about its own process: the bus name of Cockpit's client may belong to another user. */
const ASK = 'exec pkcheck --action-id "$1" --process $$';

/**
 * @typedef {object} Rights
 * @property {boolean|null} isAdmin - null: not known yet
 * @property {Object<string, boolean>} may - the orders that polkit lets this person give
 * @property {boolean} readsJournal - others are shown an empty one
 */

/**
 * Call `told` when the rights are known. Cockpit reloads the page when administrative access changes.
 * @param {function(Rights): void} told
 */
export function followRights(told) {
    const permission = cockpit.permission({ admin: true });

    async function ask() {
        const { groups } = await cockpit.user();
        const isAdmin = permission.allowed;
        const readsJournal = isAdmin || READERS.some(name => groups.includes(name));
        const may = isAdmin === false ? await asked() : {};
        // If it has changed meanwhile, another call is under way, and answers may overtake each other.
        if (isAdmin === permission.allowed)
            told({ isAdmin, may, readsJournal });
    }

    permission.addEventListener("changed", ask);
    cockpit.addEventListener("visibilitychange", () => cockpit.hidden || ask());
    ask();
}

/** @returns {Promise<Object<string, boolean>>} */
async function asked() {
    const answers = Object.entries(ACTIONS).map(async ([order, action]) => [order, await isAllowed(action)]);
    return Object.fromEntries(await Promise.all(answers));
}

/**
 * pkcheck(1) exits with 0 only where nobody need be asked, and nobody is: in Cockpit's session
 * there is no agent of polkit.
 * @param {string} action
 * @returns {Promise<boolean>}
 */
function isAllowed(action) {
    return cockpit.spawn(["sh", "-c", ASK, "sh", action], { err: "ignore" }).then(() => true, () => false);
}
