"""The command in this process, for inputs that it should refuse."""

import contextlib
import io
import sys
from pathlib import Path
from unittest import mock

from raytransfer.cli import main
from tests.helpers import with_defaults

_RECIPE = ["recipe.steps=4", "recipe.batch_size=8", "recipe.evaluations=1", "recipe.warmup_steps=0"]
_PAIR = "tasks={a: {classes: [0, 1]}, b: {classes: [2, 3]}}"
QUICK: dict[str, list[str]] = {
    "yosinski": ["seeds=1", "n_layers=[2]", "halves=[random]", "train_per_class=5", *_RECIPE],
    "distance": ["seeds=1", "n_layers=[2]", "train_per_class=5", "dials={}", "dial_grid=null", _PAIR, *_RECIPE],
    "mechanisms": ["seeds=1", "n_layers=[2]", "dials={}", "probes=[deviation]", _PAIR, *_RECIPE],
    "checkpoints": ["seeds=1", "n_layers=[2]", "base_checkpoints=2", "base_steps=4", *_RECIPE],
    "selection": ["seeds=1", "n_layers=[2]", "train_per_class=5", *_RECIPE],
    "theory": ["seeds=1", "widths=[100]", "dials={random_labels: [1]}"],
}
"""Options that make each experiment small."""


def call(*arguments: str, folder: Path, cache: Path) -> tuple[int, str, str]:
    """Run the command in this process; gives its exit code, output and errors.

    Args:
        arguments: What stands behind ``raytransfer``. Of options given twice the last one counts.
        folder: Where its store is, as ``out``, unless an argument says otherwise.
        cache: Where decoded images are kept.
    """
    head, rest = list(arguments[:2]), list(arguments[2:])
    places = [f"out={folder / 'out'}", f"cache_dir={cache}", f"data_dir={folder}", "backend=in-process"]
    given = [a for i, a in enumerate(rest) if a.partition("=")[0] not in {b.partition("=")[0] for b in rest[i + 1 :]}]
    output, errors = io.StringIO(), io.StringIO()
    command = ["raytransfer", *head, *with_defaults(places, given)]
    code: object = 0
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        mock.patch.object(sys, "argv", command),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int)
    return code, output.getvalue(), errors.getvalue()
