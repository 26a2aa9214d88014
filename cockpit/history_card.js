// The third card: what happened, cycle by cycle, newest first.
//
// For tests: #history-filter, #history-more, #history-none; tbody[data-cycle][data-life][data-outcome]
// (of an order or a rebuild, the cycle is ""; of a rebuild there is data-table, its file) with
// button[aria-expanded] and [data-cell=when|parameters|writer|live|outcome]; opened, .records li, .entries,
// tr[data-parameter] with [data-cell=expected|actual], button[data-order=keep|restore], pre.diff.

import { askKeep, askRestore } from "./asking.js";
import {
    canBeAdopted, entriesOf, isCycle, isRebuild, keyOf, liveFor, nameOf, namesOf, outcomeOf, valuesOf, writtenBy,
} from "./cycles.js";
import { diffView } from "./diff.js";
import { button, card, cell, element, fill, heading, row, say, table } from "./dom.js";
import { label } from "./icons.js";
import { parameterName } from "./parameter_name.js";
import { readHistory } from "./reports.js";
import { DEFAULT_INSTANCE } from "./state.js";
import { _, day, plural } from "./words.js";

const RECENT = "7d";
/** How many are fetched, and how many more at each click on "Older". */
const STEP = 200;
/** The columns after the first one. */
const COLUMNS = ["parameters", "writer", "live", "outcome"];

export class HistoryCard {
    /** @param {function(Promise<string|null>): void} tell - of what an order answered */
    constructor(tell) {
        this.tell = tell;
        this.isAdmin = false;
        this.readsJournal = true;
        this.since = RECENT;
        this.limit = STEP;
        this.isCut = false;
        this.rows = new Map();
        this.titles = [_("When"), _("About"), _("Written by"), _("Live for"), _("Outcome")];
        this.filter = element("input", { id: "history-filter", type: "search", oninput: () => this.sift() });
        this.none = element("p", { id: "history-none", class: "hint" }, "...");
        this.count = element("p", { id: "history-count", class: "hint" });
        this.table = element("table", { role: "table", hidden: true }, heading(this.titles));
        this.more = button(_("Older"), { id: "history-more", hidden: true }, () => this.goBack());
        const search = element("label", { class: "filter" }, _("Filter by parameter or table"), this.filter);
        this.element = card("history", _("What happened"), [search],
            this.none, this.table, element("footer", {}, this.count, this.more));
    }

    /**
     * @param {boolean|null} isAdmin
     * @param {boolean} readsJournal
     */
    allow(isAdmin, readsJournal) {
        this.isAdmin = Boolean(isAdmin);
        this.readsJournal = readsJournal;
    }

    async refresh() {
        const { since, limit } = this;
        try {
            const cycles = await readHistory(since, limit);
            // Older rows may have been asked for meanwhile: their answer may have come already.
            if (since === this.since && limit === this.limit)
                this.show(cycles);
        } catch (ex) {
            say(this.none, _("What happened cannot be told: $0", ex.message));
            this.more.disabled = false;
        }
    }

    /** First without the limit of 7 days, then with a higher count. */
    goBack() {
        if (this.since)
            this.since = null;
        else
            this.limit += STEP;
        this.more.disabled = true;
        this.refresh();
    }

    /** @param {object[]} cycles - oldest first */
    show(cycles) {
        const newest = cycles.filter(isCycle).pop();
        const newestLife = newest ? newest.life : null;
        const kept = new Map();
        for (const cycle of [...cycles].reverse()) {
            const shown = this.rows.get(keyOf(cycle)) || new CycleRows(this, cycle);
            shown.show(cycle, nameOf(cycle, newestLife));
            kept.set(keyOf(cycle), shown);
        }
        this.rows = kept;
        this.place([...kept.values()].map(each => each.element));
        const rebuilds = cycles.filter(isRebuild).length;
        // They are counted apart.
        this.isCut = Math.max(rebuilds, cycles.length - rebuilds) >= this.limit;
        const isWhole = !this.since && !this.isCut;
        this.more.hidden = isWhole;
        this.more.disabled = false;
        say(this.count, this.extent(cycles.length));
        say(this.none, cycles.length ? "" : this.whyNone());
        this.table.hidden = !cycles.length;
        this.sift();
    }

    /** Touch only what is new or gone, so that nothing else loses the focus. */
    place(wanted) {
        const head = this.table.tHead;
        const isKept = new Set(wanted);
        for (const body of [...this.table.tBodies])
            if (!isKept.has(body))
                body.remove();
        let before = head;
        for (const body of wanted) {
            if (before.nextSibling !== body)
                before.after(body);
            before = body;
        }
    }

    extent(count) {
        if (this.isCut)
            return plural("The newest $0 is shown.", "The newest $0 are shown.", count);
        return this.since && count ? _("The last 7 days.") : "";
    }

    whyNone() {
        if (!this.readsJournal)
            return _("What happened is in the journal, which is for administrators and the group adm.");
        return this.since ? _("Nothing in the last 7 days.") : _("Nothing.");
    }

    sift() {
        const wanted = this.filter.value.trim().toLowerCase();
        for (const shown of this.rows.values())
            shown.element.hidden = !shown.names(wanted);
    }
}

/** One cycle: a row, and below it all that is known of it, where it is open. */
class CycleRows {
    constructor(history, cycle) {
        this.history = history;
        this.key = "";
        const id = `cycle-${keyOf(cycle)}`;
        const closed = { "aria-expanded": "false", "aria-controls": id };
        this.toggle = button("", { class: "toggle", ...closed }, () => this.turn());
        this.cells = COLUMNS.map((name, n) => cell(name, history.titles[n + 1]));
        const when = cell("when", history.titles[0], this.toggle);
        this.inside = element("td", { role: "cell", colspan: "5" });
        this.detail = row({ id, class: "detail", hidden: true }, this.inside);
        this.element = element("tbody", { role: "rowgroup" }, row({}, when, ...this.cells), this.detail);
    }

    get isOpen() {
        return !this.detail.hidden;
    }

    /** @param {string} wanted - part of a name, in lower case */
    names(wanted) {
        return !wanted || namesOf(this.cycle).some(name => name.toLowerCase().includes(wanted));
    }

    show(cycle, name) {
        const key = JSON.stringify([cycle, name, this.history.isAdmin]);
        if (key === this.key)
            return;
        this.key = key;
        this.cycle = cycle;
        this.name = name;
        this.element.dataset.cycle = cycle.cycle ?? "";
        this.element.dataset.outcome = cycle.outcome;
        this.element.dataset.life = cycle.life || "";
        say(this.toggle, day(cycle.at));
        const { text, tone } = outcomeOf(cycle);
        const [parameters, writer, live, outcome] = this.cells;
        if (isRebuild(cycle))
            this.element.dataset.table = cycle.table.path;
        fill(parameters, [cycle.instance, namesOf(cycle)], () => this.parameterNames());
        say(writer, writtenBy(cycle));
        say(live, liveFor(cycle));
        fill(outcome, [text, tone], () => [label(tone, text)]);
        if (this.isOpen)
            this.fillDetail();
    }

    get instance() {
        return this.cycle.instance || DEFAULT_INSTANCE;
    }

    parameterNames() {
        const prefix = this.cycle.instance ? [`${this.cycle.instance}: `] : [];
        if (isRebuild(this.cycle))
            return [...prefix, this.cycle.table.path];
        const named = this.cycle.parameters.map(name => this.nameOf(name));
        return [...prefix, ...named.flatMap(name => [", ", ...name]).slice(1)];
    }

    nameOf(name) {
        return parameterName(name, this.instance, this.cycle.document);
    }

    turn() {
        this.detail.hidden = this.isOpen;
        this.toggle.setAttribute("aria-expanded", String(this.isOpen));
        if (this.isOpen)
            this.fillDetail();
    }

    fillDetail() {
        const { cycle } = this;
        fill(this.inside, this.key, () => [
            isCycle(cycle) ? element("h3", {}, _("Cycle $0", this.name)) : null,
            element("ul", { class: "records" }, ...cycle.records.map(text => element("li", {}, text))),
            isRebuild(cycle) ? element("p", { class: "entries" }, entriesOf(cycle)) : null,
            cycle.drift && cycle.drift.length ? this.driftTable(cycle.drift) : null,
            ...(cycle.diff ? diffView(cycle.diff, cycle.corrected_seconds !== null) : []),
            this.restoreButton(),
        ]);
    }

    driftTable(drift) {
        const titles = [_("Parameter"), _("Must be"), _("Was"), _("Line"), ""];
        const rows = drift.map(each => {
            const { expected, actual } = valuesOf(each);
            return row({ "data-parameter": each.parameter },
                cell("parameter", titles[0], ...this.nameOf(each.parameter)),
                cell("expected", titles[1], element("code", {}, expected)),
                cell("actual", titles[2], element("code", {}, actual)),
                cell("line", titles[3], each.line === null ? "" : String(each.line)),
                cell("orders", "", this.keepButton(each)));
        });
        return table(titles, rows);
    }

    /** The value comes from the text that was replaced, which also has what is hidden here. */
    keepButton(drift) {
        const { tell, isAdmin } = this.history;
        if (!isAdmin || !this.cycle.keep || !this.cycle.displaced.length || !canBeAdopted(drift))
            return null;
        return button(_("Keep this change..."), { "data-order": "keep" },
            () => tell(askKeep(drift.parameter, this.instance, this.name, isAdmin)));
    }

    restoreButton() {
        const { tell, isAdmin } = this.history;
        if (!isAdmin || !this.cycle.displaced.length)
            return null;
        return button(_("Restore this text..."), { "data-order": "restore" },
            () => tell(askRestore(this.instance, this.name, isAdmin)));
    }
}
