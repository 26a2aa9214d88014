"""Drifts one after the other, which fill the page with rows, and when each row came."""

from __future__ import annotations

import subprocess

from tests.machine.site import MAIN_CF, Site

# Writes a wrong mynetworks every so many seconds, as soon as the last one is corrected, until
# there were so many or the input ends.
_DRIFTS = """
import os, re, select, sys, time
path, count, pause = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
good = open(path).read()
for number in range(count):
    if select.select([sys.stdin], [], [], pause)[0]:
        break
    wrong = re.sub("(?m)^mynetworks *=.*", f"mynetworks = 10.0.{number % 250}.0/24", good)
    with open(path + ".new", "w") as file:
        file.write(wrong)
    os.rename(path + ".new", path)
    while open(path).read() != good:
        time.sleep(0.002)
"""

# When each row was first there, by the page's clock, which is the machine's, and how many times
# rows came.
WATCH_ROWS = """
window.rowTimes = {};
window.refreshes = 0;
new MutationObserver(() => {
    let isNew = false;
    for (const row of document.querySelectorAll("#history tbody[data-cycle]"))
        if (!(row.dataset.cycle in window.rowTimes)) {
            window.rowTimes[row.dataset.cycle] = Date.now() / 1000;
            isNew = true;
        }
    window.refreshes += isNew;
}).observe(document.querySelector("#history"), { childList: true, subtree: true });
"""


def drifts(site: Site, count: int, pause: float) -> subprocess.Popen[bytes]:
    """Start so many drifts, with a pause in seconds between them; any line of input ends them."""
    command = ["python3", "-c", _DRIFTS, MAIN_CF, str(count), str(pause)]
    return site.machine.start(command, stdin=subprocess.PIPE)
