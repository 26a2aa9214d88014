// The first card: how pf-agent and Postfix stand, and the orders that go with it.
//
// For tests: #state[data-phase], #state-phase (role=status), #state-sentence, [data-fact=NAME],
// #state-problems, #state-absent, #state-tables li, #state-instances tr[data-instance], button[data-order=NAME],
// button[data-link=NAME], #state-message (role=alert).

import { UNIT } from "./agent.js";
import { askResume, askStartAgent, askStartPostfix, askSuspend } from "./asking.js";
import { button, card, cell, element, fill, row, say, table } from "./dom.js";
import { icon, label } from "./icons.js";
import { carryOut } from "./orders.js";
import { DEFAULT_INSTANCE } from "./state.js";
import { _ } from "./words.js";

const { cockpit } = globalThis;

const POSTFIX = "postfix.service";
/** An answer disappears when the phase changes, unless the order itself may have caused that. */
const SAME_MILLISECONDS = 5000;

export class StateCard {
    constructor() {
        this.view = null;
        this.isAdmin = false;
        this.answered = 0;
        this.phase = element("div", { id: "state-phase", role: "status" });
        this.sentence = element("p", { id: "state-sentence" });
        this.limits = element("p", { id: "limited", class: "hint" });
        this.message = element("p", { id: "state-message", role: "alert" });
        this.facts = element("dl", { id: "state-facts" });
        this.problems = element("ul", { id: "state-problems", class: "problems", "aria-label": _("Errors") });
        this.absent = element("ul", { id: "state-absent", class: "problems", "aria-label": _("Missing") });
        this.stale = element("ul", { class: "problems" });
        this.tables = element("div", { id: "state-tables", hidden: true },
            element("h3", {}, _("Tables out of date")), this.stale, element("p", { class: "hint" },
                _("What was changed in these files has no effect yet. Once what is named is fixed and the file is saved, the index is rebuilt.")));
        this.instances = element("div", { id: "state-instances" });
        this.orders = this.orderButtons();
        this.links = {
            services: link("services", _("Service and log"), UNIT),
            postfix: link("postfix", _("Postfix's service and log"), POSTFIX),
        };
        this.element = card("state", _("State"), Object.values(this.orders),
            this.phase, this.sentence, this.limits, this.message, this.problems, this.absent,
            this.tables, this.facts, this.instances, element("p", { class: "links" }, ...Object.values(this.links)));
    }

    orderButtons() {
        const made = (order, look, text, onclick) =>
            [order, button(text, { "data-order": order, class: look, hidden: true }, onclick)];
        const asked = (order, look, text, ask) => made(order, look, text, () => this.tell(ask()));
        const instances = () => this.view.instances.map(each => each.name);
        return Object.fromEntries([
            made("look", "secondary", _("Look now"), () => this.look()),
            asked("suspend", "secondary", _("Suspend..."), () => askSuspend(instances(), this.isAdmin)),
            asked("resume", "primary", _("Resume..."), () => askResume(null, this.isAdmin)),
            asked("start-agent", "primary", _("Start..."), () => askStartAgent(this.isAdmin)),
            asked("start-postfix", "primary", _("Start Postfix..."), () => askStartPostfix(this.isAdmin)),
        ]);
    }

    /**
     * @param {import("./state.js").View} view
     * @param {boolean|null} isAdmin
     */
    show(view, isAdmin) {
        if (this.view && this.view.phase !== view.phase && Date.now() - this.answered > SAME_MILLISECONDS)
            say(this.message, "");
        this.view = view;
        this.isAdmin = Boolean(isAdmin);
        this.element.dataset.phase = view.phase;
        this.phase.className = `phase ${view.tone}`;
        fill(this.phase, [view.label, view.tone],
            () => [view.phase === "loading" ? null : icon(view.tone), view.label]);
        say(this.sentence, view.sentence);
        say(this.limits, view.limits);
        fill(this.problems, view.problems, () => view.problems.map(text => element("li", {}, text)));
        fill(this.absent, view.absent, () => view.absent.map(text => element("li", {}, text)));
        fill(this.stale, view.stale, () => view.stale.map(text => element("li", {}, text)));
        this.tables.hidden = !view.stale.length;
        fill(this.facts, view.facts.map(([name]) => name), () => view.facts.flatMap(fact));
        for (const [name, , value] of view.facts)
            say(this.facts.querySelector(`[data-fact="${name}"]`), value);
        fill(this.instances, view.instances, () => this.instanceTable(view.instances));
        for (const [name, shown] of Object.entries(this.orders))
            shown.hidden = !view.orders.includes(name);
        for (const [name, shown] of Object.entries(this.links))
            shown.hidden = !view.links.includes(name);
    }

    instanceTable(instances) {
        if (!instances.length)
            return [];
        const titles = [_("Postfix instance"), _("State"), _("Details"), ""];
        const rows = instances.map(each => row({ "data-instance": each.name, "data-phase": each.phase },
            cell("instance", titles[0], each.name === DEFAULT_INSTANCE ? _("The default one") : each.name),
            cell("phase", titles[1], label(each.tone, each.label)),
            cell("detail", titles[2], each.detail || each.sentence),
            cell("orders", "", ...each.orders.map(order => this.resumeButton(order, each.name)))
        ));
        return [table(titles, rows)];
    }

    resumeButton(order, instance) {
        const ask = () => this.tell(askResume(instance, this.isAdmin));
        return button(_("Resume..."), { "data-order": order }, ask);
    }

    async look() {
        const pressed = this.orders.look;
        pressed.disabled = true;
        await this.tell(carryOut({ name: "look" }, this.isAdmin).then(() => _("pf-agent has looked.")));
        pressed.disabled = false;
    }

    /**
     * Say what an order answered, or why it was refused.
     * @param {Promise<string|null>} answer - null: it was not given
     */
    async tell(answer) {
        try {
            say(this.message, (await answer || "").trim());
            this.message.className = "";
        } catch (ex) {
            say(this.message, ex.message);
            this.message.className = "error";
        }
        this.answered = Date.now();
    }
}

function fact([name, title]) {
    return [element("dt", {}, title), element("dd", { "data-fact": name })];
}

function link(name, text, unit) {
    const go = () => cockpit.jump(`/system/services#/${unit}`);
    return button(text, { class: "link", "data-link": name }, go);
}
