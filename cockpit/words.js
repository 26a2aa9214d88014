// What is said, in the reader's language: translations, moments and durations.

const { cockpit } = globalThis;

/** Cockpit names languages as locales do (`zh_CN`), browsers with a hyphen. */
const tongue = () => cockpit.language.replace("_", "-");

/**
 * The translation of `template`, with `$0`, `$1` ... replaced by the values.
 * @param {string} template
 * @param {...(string|number)} values
 * @returns {string}
 */
export function _(template, ...values) {
    return cockpit.format(cockpit.gettext(template), ...values);
}

/**
 * As `_`, of the form that goes with the number; `$0` stands for it.
 * @param {string} one
 * @param {string} many
 * @param {number} number
 * @returns {string}
 */
export function plural(one, many, number) {
    return cockpit.format(cockpit.ngettext(one, many, number), number);
}

/**
 * A moment as the reader writes it down.
 * @param {number} moment - seconds since the epoch
 * @returns {string}
 */
export function day(moment) {
    const style = { dateStyle: "medium", timeStyle: "medium" };
    return new Date(moment * 1000).toLocaleString(tongue(), style);
}

/**
 * A duration as people read it, as pf-agent's own sentences have it.
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
    if (seconds < 0.1)
        return _("$0 ms", Math.round(Math.max(seconds, 0) * 1000));
    if (seconds < 10)
        return _("$0 s", seconds.toFixed(1));
    if (seconds < 60)
        return _("$0 s", Math.round(seconds));
    if (seconds < 7200)
        return _("$0 min", Math.floor(seconds / 60));
    if (seconds < 172800)
        return _("$0 h", Math.floor(seconds / 3600));
    return _("$0 days", Math.floor(seconds / 86400));
}

/**
 * How long ago a moment was; no finer than a text that is renewed every few seconds stays true.
 * @param {number} moment - seconds since the epoch
 * @param {number} now
 * @returns {string}
 */
export function ago(moment, now) {
    const seconds = now - moment;
    return seconds < 60 ? _("less than a minute ago") : _("$0 ago", duration(seconds));
}

/**
 * A moment, and how long ago that was.
 * @param {number} moment - seconds since the epoch
 * @param {number} now
 * @returns {string}
 */
export function since(moment, now) {
    return _("$0, $1", day(moment), ago(moment, now));
}
