// A parameter's name, which leads to all that is known of it.

import { isTable, prefixOf } from "./cycles.js";
import { button } from "./dom.js";
import { DEFAULT_INSTANCE } from "./state.js";

const { cockpit } = globalThis;

/** Longer than any name of Postfix's own: may be broken anywhere. */
const LONG = 60;

/**
 * @param {string} name - "" or the document's: the file itself, of which nothing more is known
 * @param {string} instance
 * @param {string} document - main.cf, master.cf, or the table that it is a key of
 * @returns {(HTMLElement|string)[]}
 */
export function parameterName(name, instance, document) {
    if (!name || name === document)
        return [document];
    const prefix = prefixOf(document);
    if (isTable(document))
        return [prefix, name];
    const look = name.length < LONG ? "link parameter" : "link parameter long";
    return [prefix, button(name, { class: look }, () => showParameter(name, instance))];
}

/** Where the page is, which a reload keeps and "back" undoes. */
export function showParameter(name, instance) {
    cockpit.location.go(["parameter", name], instance === DEFAULT_INSTANCE ? {} : { instance });
}

/** @returns {{name: string, instance: string}|null} the parameter that is shown */
export function shownParameter() {
    const [kind, name] = cockpit.location.path;
    const { instance = DEFAULT_INSTANCE } = cockpit.location.options;
    return kind === "parameter" && name ? { name, instance } : null;
}

export const showNoParameter = () => cockpit.location.go([]);
