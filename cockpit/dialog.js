// Asks before an order: what it does, what it has to know, and which command will be run.
//
// For tests: <dialog id=order data-order=NAME> has #order-command, #order-error and the buttons
// [data-action=copy|confirm|cancel]; of a suspension input[name=duration], input[name=reason] and,
// where there are several instances, select[name=instance].

import { button, element, say } from "./dom.js";
import { carryOut, commandLine } from "./orders.js";
import { _ } from "./words.js";

/**
 * Ask, and carry it out if it is confirmed. Each dialog is a new element, so that nothing of the last one is
 * left in it.
 * @param {object} asked
 * @param {string} asked.title
 * @param {string} asked.text - what will happen
 * @param {string} asked.confirm - on the button
 * @param {HTMLElement[]} [asked.fields]
 * @param {function(FormData): import("./orders.js").Order} asked.order - of what is in the fields
 * @param {boolean} asked.isAdmin
 * @returns {Promise<string|null>} - what was answered; null: it was not confirmed
 */
export function ask({ title, text, confirm, fields = [], order, isAdmin }) {
    const command = element("code", { id: "order-command" });
    const error = element("p", { id: "order-error", class: "error", role: "alert" });
    const confirming = element("button", { class: "primary", "data-action": "confirm" }, confirm);
    const copying = button(_("Copy"), { class: "secondary small", "data-action": "copy" }, () => copy(command, copying));
    const cancel = button(_("Cancel"), { class: "link", "data-action": "cancel" }, () => dialog.close());
    const form = element("form", {},
        element("h2", { id: "order-title" }, title),
        element("p", {}, text),
        ...fields,
        element("div", { class: "command" }, element("span", { class: "hint" }, _("Command")), command, copying),
        error,
        element("footer", {}, confirming, cancel)
    );
    const wanted = () => order(new FormData(form));
    const named = { "data-order": wanted().name, "aria-labelledby": "order-title" };
    const dialog = element("dialog", { id: "order", ...named }, form);
    const renew = () => say(command, commandLine(wanted()));

    return new Promise(resolve => {
        form.addEventListener("input", renew);
        form.addEventListener("submit", async event => {
            event.preventDefault();
            confirming.disabled = true;
            say(error, "");
            try {
                resolve(await carryOut(wanted(), isAdmin));
                dialog.close();
            } catch (ex) {
                say(error, ex.message);
                confirming.disabled = false;
            }
        });
        dialog.addEventListener("close", () => {
            dialog.remove();
            resolve(null);
        });
        renew();
        document.body.append(dialog);
        dialog.showModal();
    });
}

/** Browsers have a clipboard for pages over https or from this machine only. */
async function copy(command, pressed) {
    window.getSelection().selectAllChildren(command);
    try {
        await navigator.clipboard.writeText(command.textContent);
    } catch {
        document.execCommand("copy");
    }
    say(pressed, _("Copied"));
}
