// The fourth card: all that is known of one parameter, on a click on its name.
//
// For tests: #parameter[data-parameter] with [data-fact=wanted|place|actual|type|default|tables|
// last-drift|meant], button[data-order=close], #parameter-message.

import { writtenBy } from "./cycles.js";
import { button, card, element, say } from "./dom.js";
import { showNoParameter } from "./parameter_name.js";
import { readParameter } from "./reports.js";
import { DEFAULT_INSTANCE } from "./state.js";
import { _, since } from "./words.js";

export class ParameterCard {
    constructor() {
        this.message = element("p", { id: "parameter-message", class: "hint" });
        this.facts = element("dl", { id: "parameter-facts" });
        this.element = card("parameter", "", [button(_("Close"), { "data-order": "close" }, showNoParameter)],
            this.message, this.facts);
        this.title = this.element.querySelector("h2");
        this.title.tabIndex = -1;
        this.element.hidden = true;
    }

    /** @param {{name: string, instance: string}|null} shown */
    async show(shown) {
        this.shown = shown;
        this.element.hidden = !shown;
        if (!shown)
            return;
        const { name, instance } = shown;
        this.element.dataset.parameter = name;
        say(this.title, instance === DEFAULT_INSTANCE ? name : `${instance}: ${name}`);
        say(this.message, "...");
        this.facts.replaceChildren();
        this.title.focus();
        this.element.scrollIntoView({ block: "nearest" });
        await this.refresh();
    }

    async refresh() {
        const { shown } = this;
        if (!shown)
            return;
        try {
            const found = await readParameter(shown.name, shown.instance);
            if (this.shown === shown)
                this.tell(found);
        } catch (ex) {
            if (this.shown === shown)
                say(this.message, ex.message);
        }
    }

    tell(found) {
        say(this.message, "");
        this.facts.replaceChildren(...factsOf(found).flatMap(fact));
    }
}

function fact([name, title, value]) {
    const values = [value].flat().filter(Boolean);
    const told = values.map(text => element("dd", { "data-fact": name }, text));
    return told.length ? [element("dt", {}, title), ...told] : [];
}

/** An empty value needs a word to be seen. */
const shown = value => value || _("empty");

function factsOf(found) {
    const { wanted, actual, last_drift: last } = found;
    const must = wanted ?? (found.use_default ? _("Postfix's default") : _("not managed"));
    return [
        ["wanted", _("Must be"), shown(must)],
        ["place", _("Set by"), found.place],
        ["actual", _("Is"), actual === null ? _("not set") : _("$0 (line $1)", shown(actual), found.line)],
        ["type", _("Type"), found.type],
        ["meant", _("Did you mean"), found.did_you_mean],
        ["default", _("Postfix's default"), found.default === null ? _("unknown") : shown(found.default)],
        ["tables", _("Tables"), found.tables],
        ["last-drift", _("Last drift"), last
            ? _("$0; written by $1", since(last.at, Date.now() / 1000), writtenBy(last))
            : _("none in the journal that you may read")],
    ];
}
