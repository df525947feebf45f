"""Why trials failed, from the tracebacks that they left."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# The line after a traceback's last frame: the error's type and the first line of its message that says something.
_RAISED = re.compile(r'.*^  File "[^\n]*\n(?:    [^\n]*\n)*([\w.]+)(?::\s+([^\n]*))?', re.DOTALL | re.MULTILINE)


def why(error: str) -> tuple[str | None, str]:
    """The type of the error that ended a trial, None where nothing was raised, and why in one line."""
    found = _RAISED.match(error)
    if found is None:
        return None, error.strip().splitlines()[-1] if error.strip() else ""
    kind, message = found.groups()
    return kind, message or kind


def failure_rows(failed: Mapping[str, str], placed: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Rows of the table ``failures``, one for each place of each of the trials that failed.

    Args:
        failed: What each of them left, a traceback or what else is known.
        placed: Their places, as ``raytransfer.sweep.places.places`` gives them.
    """
    rows = []
    for trial, error in failed.items():
        kind, reason = why(error)
        rows += [{"id": trial, **place, "reason": reason, "error": kind, "traceback": error} for place in placed[trial]]
    return rows
