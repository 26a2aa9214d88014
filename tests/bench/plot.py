"""The distribution of the latencies as an SVG, drawn by gnuplot."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.bench.figures import PEERS, PF_AGENT, Results

_HEAD = """
set terminal svg size 960,540 font "sans-serif,13" background rgb "white"
set title "Drifts that were right again by then"
set xlabel "milliseconds"
set ylabel "percent"
set logscale x
set format x "%g"
set yrange [0:100]
set grid
set key outside right reverse Left
"""


def script(results: Results) -> str:
    """Return the gnuplot script: for each peer measured a line of steps, from 0 to 100 percent.

    A drift that was never corrected is missing at the upper end.
    """
    lines = [_HEAD]
    curves: list[str] = []
    for name, title in {PF_AGENT: PF_AGENT, **PEERS}.items():
        samples = results.get("right", {}).get(name, ())
        came = sorted(each * 1000 for each in samples if each is not None)
        if came:
            block = f"$data{len(curves)}"
            points = [(came[0], 0.0)]
            points += [(each, 100 * rank / len(samples)) for rank, each in enumerate(came, 1)]
            lines.append(f"{block} << END")
            lines += [f"{x:.3f} {y:.2f}" for x, y in points]
            lines.append("END")
            width = 4 if name == PF_AGENT else 2
            # gnuplot has eight colours.
            dash = 1 + len(curves) // 8
            style = f"fsteps linewidth {width} dashtype {dash}"
            curves.append(f'{block} using 1:2 with {style} title "{title}"')
    return "\n".join([*lines, f"plot {', '.join(curves)}", ""])


def draw(results: Results, path: Path) -> None:
    """Write the SVG. Raises subprocess.CalledProcessError if gnuplot fails."""
    done = subprocess.run(
        ["gnuplot"], input=script(results).encode(), stdout=subprocess.PIPE, check=True
    )
    path.write_bytes(done.stdout)
