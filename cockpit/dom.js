// Builds elements. Whatever comes from main.cf or from a person becomes a text node, never markup.

/**
 * @typedef {Node|string|null} Child - null: none
 */

/**
 * An element with these attributes (`onclick` and the like are listeners; false and null: left out)
 * and children.
 * @param {string} tag
 * @param {Object<string, string|boolean|null|function(Event): void>} [attributes]
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (typeof value === "function")
            made.addEventListener(name.slice(2), value);
        else if (value !== false && value !== null)
            made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.filter(child => child !== null));
    return made;
}

/**
 * Set the text, unless it is the same: a screen reader announces every change.
 * @param {Element} where
 * @param {string} text
 */
export function say(where, text) {
    if (where.textContent !== text)
        where.textContent = text;
}

/** The value that each element was last filled with. */
const filled = new WeakMap();

/**
 * Replace the content of an element with what `build` returns, unless the value is the same as
 * before: then the content keeps the focus.
 * @param {Element} where
 * @param {*} value - anything that JSON can say
 * @param {function(): Child[]} build
 */
export function fill(where, value, build) {
    const key = JSON.stringify(value);
    if (filled.get(where) !== key) {
        filled.set(where, key);
        where.replaceChildren(...build().filter(child => child !== null));
    }
}

/**
 * @param {string} text
 * @param {Object<string, *>} attributes - of which `class` says what it looks like
 * @param {function(Event): void} onclick
 * @returns {HTMLElement}
 */
export function button(text, attributes, onclick) {
    return element("button", { type: "button", class: "secondary", ...attributes, onclick }, text);
}

/**
 * A card: a section with a heading, and orders beside it.
 * @param {string} id
 * @param {string} title
 * @param {HTMLElement[]} orders
 * @param {...Child} body
 * @returns {HTMLElement}
 */
export function card(id, title, orders, ...body) {
    const heading = element("h2", { id: `${id}-title` }, title);
    const head = element("header", {}, heading, element("div", { class: "orders" }, ...orders));
    return element("section", { id, class: "card", "aria-labelledby": heading.id }, head, ...body);
}

/**
 * A table with these rows.
 * @param {string[]} titles - of the columns
 * @param {HTMLElement[]} rows
 * @returns {HTMLElement}
 */
export function table(titles, rows) {
    const body = element("tbody", { role: "rowgroup" }, ...rows);
    return element("table", { role: "table" }, heading(titles), body);
}

/**
 * The head of a table; the names of its columns are also what a narrow screen shows beside a value.
 * The roles are explicit, because browsers drop them when CSS turns the rows into blocks.
 * @param {string[]} titles - "": a column of buttons
 * @returns {HTMLElement}
 */
export function heading(titles) {
    const cells = titles.map(title => title
        ? element("th", { scope: "col", role: "columnheader" }, title)
        : element("td", { role: "cell" }));
    return element("thead", { role: "rowgroup" }, element("tr", { role: "row" }, ...cells));
}

/**
 * A row of cells.
 * @param {Object<string, *>} attributes
 * @param {...HTMLElement} cells
 * @returns {HTMLElement}
 */
export function row(attributes, ...cells) {
    return element("tr", { role: "row", ...attributes }, ...cells);
}

/**
 * A cell. `name` is its column for tests and CSS, `title` its heading on a narrow screen.
 * @param {string} name
 * @param {string} title
 * @param {...Child} children
 * @returns {HTMLElement}
 */
export function cell(name, title, ...children) {
    return element("td", { role: "cell", "data-cell": name, "data-title": title }, ...children);
}
