// The second card: what differs now, where main.cf may be left as it is.
//
// For tests: #differs tr[data-parameter][data-instance][data-document] with [data-cell=parameter|expected|actual|
// line|place] and button[data-order=adopt]; #differs-message.

import { askAdopt } from "./asking.js";
import { canBeAdopted, differencesOf, valuesOf } from "./cycles.js";
import { button, card, cell, element, fill, row, say, table } from "./dom.js";
import { parameterName } from "./parameter_name.js";
import { readDifferences } from "./reports.js";
import { DEFAULT_INSTANCE } from "./state.js";
import { _ } from "./words.js";

export class DiffersCard {
    /** @param {function(Promise<string|null>): void} tell - of what an order answered */
    constructor(tell) {
        this.tell = tell;
        this.isAdmin = false;
        this.message = element("p", { id: "differs-message", class: "hint" });
        this.table = element("div", {});
        this.element = card("differs", _("Differs now"), [], this.message, this.table);
        this.element.hidden = true;
    }

    /** @param {boolean|null} isAdmin */
    allow(isAdmin) {
        this.isAdmin = Boolean(isAdmin);
    }

    hide() {
        this.element.hidden = true;
    }

    /** Look again; shown where something differs, or where that cannot be known. */
    async refresh() {
        try {
            const rows = differencesOf(await readDifferences());
            say(this.message, "");
            fill(this.table, [rows, this.isAdmin], () => [this.tableOf(rows)]);
            this.element.hidden = !rows.length;
        } catch (ex) {
            say(this.message, _("What differs cannot be told: $0", ex.message));
            fill(this.table, [], () => []);
            this.element.hidden = false;
        }
    }

    tableOf(rows) {
        const titles = [_("Parameter"), _("Must be"), _("Is"), _("Line"), _("Set by"), ""];
        return table(titles, rows.map(each => this.rowOf(each, titles)));
    }

    rowOf(drift, titles) {
        const { parameter, instance, document } = drift;
        const { expected, actual } = valuesOf(drift);
        const prefix = instance === DEFAULT_INSTANCE ? null : `${instance}: `;
        const about = { "data-parameter": parameter, "data-instance": instance, "data-document": document };
        return row(about,
            cell("parameter", titles[0], prefix, ...parameterName(parameter, instance, document)),
            cell("expected", titles[1], element("code", {}, expected)),
            cell("actual", titles[2], element("code", {}, actual)),
            cell("line", titles[3], drift.line === null ? "" : String(drift.line)),
            cell("place", titles[4], drift.place || ""),
            cell("orders", "", this.adoptButton(drift)));
    }

    adoptButton(drift) {
        if (!this.isAdmin || !canBeAdopted(drift))
            return null;
        const ask = () => this.tell(askAdopt(drift, this.isAdmin));
        return button(_("Adopt..."), { "data-order": "adopt" }, ask);
    }
}
