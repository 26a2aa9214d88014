// A parameter's name, which leads to all that is known of it.

import { button } from "./dom.js";
import { DEFAULT_INSTANCE } from "./state.js";

const { cockpit } = globalThis;

/** The name under which the agent reports differences of the file itself. */
export const WHOLE_FILE = "main.cf";
/** Longer than any name of Postfix's own: may be broken anywhere. */
const LONG = 60;

/**
 * @param {string} name - "" or main.cf: the file itself, of which nothing more is known
 * @param {string} instance
 * @returns {HTMLElement|string}
 */
export function parameterName(name, instance) {
    if (!name || name === WHOLE_FILE)
        return WHOLE_FILE;
    const look = name.length < LONG ? "link parameter" : "link parameter long";
    return button(name, { class: look }, () => showParameter(name, instance));
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
