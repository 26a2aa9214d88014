// What a status says of master.cf and of tables, beside what it says of main.cf. Pure.

/** The tables of all instances that are out of date. */
export const staleOf = status => ofAll(status, inner => Object.values(inner.stale_tables));

/** Why master.cf and tables are not as desired though the agent corrects them, of all instances. */
export const troublesOf = status => ofAll(status, ownTroublesOf);

/** What `own` tells of each instance, with the name of each but the default one. */
function ofAll(status, own) {
    const others = Object.entries(status.instances).flatMap(([name, inner]) =>
        own(inner).map(why => `${name}: ${why}`));
    return [...own(status), ...others];
}

/** Those of one instance. */
export function ownTroublesOf(status) {
    if (isLeftAlone(status))
        return [];
    const wrong = Object.entries(status.documents).filter(([, why]) => why);
    return wrong.map(([name, why]) => why.includes(name) ? why : `${name}: ${why}`);
}

const isLeftAlone = ({ phase }) => phase === "observing" || phase === "suspended";

/** Whether a table is out of date though the agent builds tables: it does not while it leaves all alone. */
export const isToBeMended = status => Object.keys(status.stale_tables).length > 0 && !isLeftAlone(status);
