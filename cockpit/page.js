// The page: puts the four cards together and keeps them up to date.

import { followAgent } from "./agent.js";
import { DiffersCard } from "./differs_card.js";
import { element } from "./dom.js";
import { HistoryCard } from "./history_card.js";
import { ParameterCard } from "./parameter_card.js";
import { shownParameter } from "./parameter_name.js";
import { followRights } from "./rights.js";
import { viewOf } from "./state.js";
import { StateCard } from "./state_card.js";
import { followTheme } from "./theme.js";
import { throttled } from "./throttle.js";
import { _ } from "./words.js";

const { cockpit } = globalThis;

/** Milliseconds between two refreshes of what differs and what happened: each starts processes. */
const PAUSE = 2000;
/** Milliseconds after which texts such as "3 min ago" are renewed. */
const TICK = 10000;

const known = { owner: undefined, status: null, unit: {}, isAdmin: null, may: {}, readsJournal: true };
const state = new StateCard();
const tell = answer => state.tell(answer);
const differs = new DiffersCard(tell);
const history = new HistoryCard(tell);
const parameter = new ParameterCard();

let view = null;
let told = "";
let notified = "";

const refresh = throttled(async () => {
    if (cockpit.hidden)
        return;
    if (!view.mayDiffer)
        differs.hide();
    await Promise.all([view.mayDiffer ? differs.refresh() : null, history.refresh(), parameter.refresh()]);
}, PAUSE);

/** Show what is known now. */
function show() {
    view = viewOf(known, Date.now() / 1000);
    state.show(view, known.isAdmin);
    differs.allow(known.isAdmin);
    history.allow(known.isAdmin, known.readsJournal);
    document.body.toggleAttribute("data-ready", view.phase !== "loading" && known.isAdmin !== null);
    notify(view.menu);
}

/** Take note of news, and refresh the cards if there is something new in it. */
function learn(news) {
    Object.assign(known, news);
    show();
    const { next_look: _unused, ...rest } = known.status || {};
    const now = JSON.stringify([known.owner, rest, known.isAdmin]);
    if (now !== told && known.owner !== undefined && known.isAdmin !== null) {
        told = now;
        refresh();
    }
}

/** Put a mark beside the menu's entry, which Cockpit shows without the page being open. */
function notify(menu) {
    const now = JSON.stringify(menu);
    if (menu !== undefined && now !== notified) {
        notified = now;
        cockpit.transport.control("notify", { page_status: menu });
    }
}

function start() {
    document.documentElement.lang = cockpit.language.replace("_", "-");
    document.title = _("Postfix settings");
    followTheme();
    document.querySelector("main").append(
        element("h1", { class: "unseen" }, document.title),
        state.element, parameter.element, differs.element, history.element);
    show();
    followAgent(learn, refresh);
    followRights(learn);
    cockpit.addEventListener("locationchanged", () => parameter.show(shownParameter()));
    cockpit.addEventListener("visibilitychange", () => cockpit.hidden || refresh());
    setInterval(show, TICK);
    parameter.show(shownParameter());
}

start();
