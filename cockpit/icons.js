// The shapes beside the label of a state: each tells its tone without its colour.

import { element } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";

/** SVG paths, 16 by 16; an area that is enclosed twice is a hole. */
const SHAPES = {
    good: "M8 0a8 8 0 1 1 0 16A8 8 0 1 1 8 0ZM3.4 8.3 6.9 11.8 12.7 5.6 11.4 4.4 6.9 9.2 4.7 7Z",
    busy: "M8 1a7 7 0 0 1 6.9 6H13a5.1 5.1 0 0 0-8.9-2.6L6 6.3H.7V1l2 2A7 7 0 0 1 8 1Z" +
        "M1.1 9H3a5.1 5.1 0 0 0 8.9 2.6L10 9.7h5.3V15l-2-2A7 7 0 0 1 1.1 9Z",
    paused: "M8 0a8 8 0 1 1 0 16A8 8 0 1 1 8 0ZM5 4.5v7h2v-7ZM9 4.5v7h2v-7Z",
    warning: "M8 .8 16 15H0ZM7 5.8v5h2v-5ZM7 11.8v1.8h2v-1.8Z",
    danger: "M5 0h6l5 5v6l-5 5H5l-5-5V5ZM7 3.5v5.7h2V3.5ZM7 10.6v2h2v-2Z",
    unknown: "M8 0a8 8 0 1 1 0 16A8 8 0 1 1 8 0ZM8 2a6 6 0 1 0 0 12A6 6 0 1 0 8 2Z",
};

/**
 * @param {import("./state.js").Tone} tone
 * @returns {SVGElement}
 */
export function icon(tone) {
    const picture = document.createElementNS(SVG, "svg");
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", SHAPES[tone]);
    path.setAttribute("fill-rule", "evenodd");
    picture.setAttribute("viewBox", "0 0 16 16");
    picture.setAttribute("aria-hidden", "true");
    picture.append(path);
    return picture;
}

/**
 * A state in a cell: its shape and its word.
 * @param {import("./state.js").Tone} tone
 * @param {string} text
 * @returns {HTMLElement}
 */
export function label(tone, text) {
    return element("span", { class: `phase ${tone}` }, icon(tone), text);
}
