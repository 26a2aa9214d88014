// What the commands of pf-agent report as JSON: what differs, what happened, what a parameter is.

const { cockpit } = globalThis;

/** What `diff` exits with where there is drift: pf-agent(8). */
const DRIFT = 3;

/** @returns {Promise<object>} rejected with what Cockpit says, which has a `message` */
async function report(...words) {
    return JSON.parse(await printed(["pf-agent", ...words]));
}

/**
 * With an exit code other than 0 the output is beside the reason. A promise of Cockpit's own is
 * never settled where a handler of it throws: this is another one.
 */
function printed(command) {
    return new Promise((resolve, reject) => {
        cockpit.spawn(command, { superuser: "try", err: "message" })
            .then(resolve, (ex, output) => ex.exit_status === DRIFT ? resolve(output) : reject(ex));
    });
}

/** @returns {Promise<object>} as docs/json.md has it for diff */
export const readDifferences = () => report("diff", "--json");

/**
 * @param {string} parameter
 * @param {string} instance
 * @returns {Promise<object>} as docs/json.md has it for explain
 */
export const readParameter = (parameter, instance) =>
    report("explain", "--json", "--instance", instance, "--", parameter);

/**
 * @param {string|null} since - a time of systemd.time(7), null: all that the journal has
 * @param {number} limit - how many of the newest
 * @returns {Promise<object[]>} as docs/json.md has it for history, oldest first
 */
export const readHistory = (since, limit) =>
    report("history", "--json", "--limit", String(limit), ...(since ? ["--since", since] : []));
