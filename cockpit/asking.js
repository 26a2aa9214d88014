// The dialogs, one for each order that is asked about.

import { ask } from "./dialog.js";
import { element } from "./dom.js";
import { SPANS } from "./orders.js";
import { DEFAULT_INSTANCE } from "./state.js";
import { _ } from "./words.js";

const ALL = "";

/** @returns {string|null} what `--instance` takes; the default one need not be named */
const other = instance => instance && instance !== DEFAULT_INSTANCE ? instance : null;

/**
 * @param {string[]} instances - none where there is only one
 * @param {boolean} isAdmin - over the bus, all instances are suspended
 */
export function askSuspend(instances, isAdmin) {
    const spans = {
        "10min": _("10 minutes"),
        "1h": _("1 hour"),
        "4h": _("4 hours"),
        "": _("Until resumed"),
    };
    const choice = value => {
        const checked = value === "1h";
        const radio = element("input", { type: "radio", name: "duration", value, checked });
        return element("label", {}, radio, spans[value]);
    };
    const reason = { required: true, maxlength: "1000", autocomplete: "off", autofocus: true };
    const fields = [
        element("fieldset", {}, element("legend", {}, _("For how long")), ...Object.keys(SPANS).map(choice)),
        element("label", { class: "field" }, _("Reason"), element("input", { name: "reason", ...reason })),
    ];
    if (instances.length && isAdmin)
        fields.push(instanceField(instances));
    return ask({
        title: _("Suspend pf-agent"),
        text: _("main.cf and Postfix are left alone: drift is noticed, and nothing is corrected. The reason is shown to whoever looks."),
        confirm: _("Suspend"),
        fields,
        isAdmin,
        order: data => ({
            name: "suspend",
            span: data.get("duration"),
            reason: data.get("reason").trim(),
            instance: data.get("instance"),
        }),
    });
}

function instanceField(instances) {
    const options = instances.map(value =>
        element("option", { value }, value === DEFAULT_INSTANCE ? _("The default one") : value));
    const all = element("option", { value: ALL }, _("All"));
    const choice = element("select", { name: "instance" }, all, ...options);
    return element("label", { class: "field" }, _("Postfix instance"), choice);
}

/** @param {string|null} instance - null: all */
export function askResume(instance, isAdmin) {
    return ask({
        title: _("Resume pf-agent"),
        text: _("What differs in main.cf is corrected at once, and Postfix is made to run with it."),
        confirm: _("Resume"),
        isAdmin,
        order: () => ({ name: "resume", instance }),
    });
}

/** @param {object} drift - as `differencesOf` gives it */
export function askAdopt({ parameter, instance, document }, isAdmin) {
    return ask({
        title: _("Adopt $0", parameter),
        text: _("What the file says about it becomes the desired state. Postfix's own tools judge it first."),
        confirm: _("Adopt"),
        isAdmin,
        order: () => ({ name: "adopt", document, parameter, instance: other(instance) }),
    });
}

export function askKeep(parameter, instance, cycle, isAdmin) {
    return ask({
        title: _("Keep this change of $0", parameter),
        text: _("What was written becomes the desired state, and the file says it again. Postfix's own tools judge it first."),
        confirm: _("Keep this change"),
        isAdmin,
        order: () => ({ name: "keep", parameter, cycle, instance: other(instance) }),
    });
}

export function askRestore(instance, cycle, isAdmin) {
    return ask({
        title: _("Restore the text that cycle $0 replaced", cycle),
        text: _("All of the file becomes that text again. So that it stays, pf-agent is suspended until it is resumed; Postfix is not restarted. Only the newest 200 texts are kept."),
        confirm: _("Restore this text"),
        isAdmin,
        order: () => ({ name: "restore", cycle, instance: other(instance) }),
    });
}

export function askStartAgent(isAdmin) {
    return ask({
        title: _("Start pf-agent"),
        text: _("It looks at main.cf at once, and corrects it unless it is suspended or only observes."),
        confirm: _("Start"),
        isAdmin,
        order: () => ({ name: "start-agent" }),
    });
}

export function askStartPostfix(isAdmin) {
    return ask({
        title: _("Start Postfix"),
        text: _("pf-agent then verifies that it serves."),
        confirm: _("Start"),
        isAdmin,
        order: () => ({ name: "start-postfix" }),
    });
}
