// Looks like the Cockpit around the page: dark or light, and square or round by its version.

const { cockpit } = globalThis;

/** The first version of Cockpit with PatternFly 6, and so with round cards. */
const FIRST_ROUND = 337;
const STYLE = "shell:style";

const system = window.matchMedia("(prefers-color-scheme: dark)");

/** @param {string} style - what the person chose: `auto`, `dark` or `light` */
function apply(style) {
    const isDark = style === "dark" || (style !== "light" && system.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
}

const chosen = () => localStorage.getItem(STYLE) || "auto";

/** Cockpit's version is known once the page is connected. */
function shape() {
    const version = parseInt(cockpit.info.version, 10);
    document.documentElement.dataset.shape = version < FIRST_ROUND ? "square" : "round";
}

/**
 * Follow what Cockpit's menu and the system say. Cockpit sets its class in frames of its own only:
 * it tells of the choice by an event in its window, and keeps it where others see it change.
 */
export function followTheme() {
    apply(chosen());
    cockpit.transport.wait(shape);
    window.addEventListener("storage", event => event.key === STYLE && apply(chosen()));
    window.addEventListener("cockpit-style", event => apply(event.detail.style));
    system.addEventListener("change", () => apply(chosen()));
}
