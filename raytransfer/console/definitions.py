"""Names and what they mean, for consoles of any width: no name is cut or broken."""

import textwrap
from collections.abc import Sequence

from rich.console import Console

_LEAST = 20  # letters of a line of meaning
_MOST = 48  # letters of names beside which a meaning stands


def print_definitions(console: Console, rows: Sequence[Sequence[str]]) -> None:
    """Print rows of names, the last cell of each saying what the others mean.

    A meaning stands beside its names, and is wrapped there. Where the names of a row take more than half of the width,
    or 48 letters, it follows below them.

    Args:
        console: Where to.
        rows: Cells, as many in each row.
    """
    first = max((len(row[0]) for row in rows if len(row) > 2), default=0)
    heads = ["  ".join([row[0].ljust(first), *row[1:-1]]) for row in rows]
    beside = [head for head in heads if len(head) <= min(console.width // 2, _MOST)]
    start = max(map(len, beside), default=0) + 2
    for head, row in zip(heads, rows, strict=True):
        meaning = textwrap.wrap(row[-1], max(console.width - start, _LEAST), break_on_hyphens=False) or [""]
        lines = [" " * start + line for line in meaning]
        if head in beside:
            lines[0] = head.ljust(start) + meaning[0]
        else:
            lines.insert(0, head)
        console.print("\n".join(line.rstrip() for line in lines), soft_wrap=True)
