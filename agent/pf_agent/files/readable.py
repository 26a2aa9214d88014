"""Whether every user of the host may read a file, by its mode and those of its directories."""

from __future__ import annotations

import os
import stat


def is_for_everybody(path: str) -> bool:
    """Tell whether others than owner and group may read it (path_resolution(7)).

    Follows links, and ignores what an ACL grants to a few. A missing file keeps no secret.
    """
    path = os.path.realpath(path)
    above = [path]
    while above[-1] != os.path.dirname(above[-1]):
        above.append(os.path.dirname(above[-1]))
    return _grants(path, stat.S_IROTH) and all(_grants(each, stat.S_IXOTH) for each in above[1:])


def _grants(path: str, what: int) -> bool:
    try:
        return bool(os.stat(path).st_mode & what)
    except FileNotFoundError:
        return True
    except OSError:
        return False
