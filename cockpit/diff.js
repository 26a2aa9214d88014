// A unified diff, line by line; a long one is folded.

import { button, element } from "./dom.js";
import { _ } from "./words.js";

/** A deleted main.cf makes a diff of the whole file. */
const MOST_LINES = 40;

const KINDS = { "+": "added", "-": "removed", "@": "place" };

/**
 * @param {string} text
 * @param {boolean} isCorrected
 * @returns {Node[]}
 */
export function diffView(text, isCorrected) {
    // Without the two lines that name the files.
    const lines = text.replace(/\n$/, "").split("\n").filter(line => !/^(---|\+\+\+) /.test(line));
    const shown = element("pre", { class: "diff", tabindex: "0", "aria-label": _("Differences") },
        ...lines.slice(0, MOST_LINES).map(lineOf));
    const meaning = isCorrected ? _("- was written, + was put back") : _("- was written, + is desired");
    const legend = element("p", { class: "hint" }, meaning);
    if (lines.length <= MOST_LINES)
        return [legend, shown];
    const rest = lines.slice(MOST_LINES);
    const unfold = button(_("Show $0 more lines", rest.length), { class: "link unfold" }, () => {
        shown.append(...rest.map(lineOf));
        shown.focus();
        unfold.remove();
    });
    return [legend, shown, unfold];
}

const lineOf = line => element("span", { class: KINDS[line[0]] || null }, line);
