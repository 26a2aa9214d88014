// Throttles: runs at once, then at most once in a while, and never twice at a time.

/**
 * Not a debounce, which every new request puts off: during a burst of drifts it would never run.
 * @param {function(): Promise<void>} deed - never rejected
 * @param {number} pause - milliseconds after each run
 * @returns {function(): void} requests a run
 */
export function throttled(deed, pause) {
    let isWanted = false;
    let isBusy = false;

    async function work() {
        isBusy = true;
        while (isWanted) {
            isWanted = false;
            await deed();
            await new Promise(resolve => setTimeout(resolve, pause));
        }
        isBusy = false;
    }

    return () => {
        isWanted = true;
        if (!isBusy)
            work();
    };
}
