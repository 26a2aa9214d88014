"""Run a command, or a shell, in a throw-away machine that has a copy of this checkout.

sudo python3 -m tests.machine bookworm
sudo python3 -m tests.machine --installed trixie
sudo python3 -m tests.machine trixie python3 -m pytest --ignore=tests/machine -m postfix tests
"""

from __future__ import annotations

import argparse
import sys

from tests.checkout import CHECKOUT
from tests.machine.image import ImageError, image
from tests.machine.nspawn import Machine, MachineError


def main() -> int:
    """Return the exit code of the command, or 1 if there was no machine for it."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.machine", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--installed", action="store_true", help="install the package that tools/deb has built"
    )
    parser.add_argument("release", help="a Debian release, for example bookworm")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="default: an interactive shell")
    arguments = parser.parse_args()
    debs = [*(CHECKOUT / "dist").glob("pf-agent_*.deb")] if arguments.installed else []
    if arguments.installed and not debs:
        parser.error("there is no package in dist/; run tools/deb")
    try:
        with Machine(image(arguments.release)) as machine:
            machine.copy_checkout("/root/pf-agent")
            if debs:
                machine.serve_apt(debs)
                machine.apt_install("pf-agent")
            command = arguments.command or ["bash"]
            inside = ["env", "-C", "/root/pf-agent", "PYTHONDONTWRITEBYTECODE=1", *command]
            return machine.start(inside).wait()
    except (ImageError, MachineError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
