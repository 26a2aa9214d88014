// What a status says of master.cf and of tables, beside what it says of main.cf. Pure.

/** The tables of all instances that are out of date. */
export function staleOf(status) {
    const others = Object.entries(status.instances).flatMap(([name, inner]) =>
        Object.values(inner.stale_tables).map(why => `${name}: ${why}`));
    return [...Object.values(status.stale_tables), ...others];
}

/** Why master.cf and tables are not as desired though the agent corrects them, of all instances. */
export function troublesOf(status) {
    const others = Object.entries(status.instances).flatMap(([name, inner]) =>
        ownTroublesOf(inner).map(why => `${name}: ${why}`));
    return [...ownTroublesOf(status), ...others];
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
