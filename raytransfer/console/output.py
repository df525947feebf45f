"""Standard output on which a full disk, a narrow terminal or an ASCII encoding ends no command."""

import codecs
import io
import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from rich.console import Console

_LEAST_WIDTH = 40
_PLAIN = {"±": "+-", "–": "-", "−": "-", "→": "->"}


def plain_console(**options: Any) -> Console:
    """A console with Rich's options that shows texts as they are, whatever brackets, colons and numbers they hold."""
    return Console(highlight=False, markup=False, emoji=False, **options)


class Output:
    """Standard output that is given up, with a line on standard error, once its disk is full.

    Attributes:
        lost: Whether something could not be written.
    """

    def __init__(self, stream: TextIO) -> None:
        """Nothing is written yet.

        Args:
            stream: Standard output.
        """
        self._stream, self.lost = stream, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, unless it was given up."""
        return self._try(text)

    def flush(self) -> None:
        """Flush, unless it was given up."""
        self._try(None)

    def _try(self, text: str | None) -> int:
        try:
            if text is not None:
                return self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:  # nobody reads on: the command ends, as others do
            raise
        except OSError as error:
            self.lost = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # what is buffered goes there, too
            os.close(nowhere)
            line = f"standard output cannot be written: {error.strerror}; going on without it"
            plain_console(stderr=True, soft_wrap=True).print(line)
        return len(text or "")


def new_console() -> Console:
    """A console for standard output, of at least 40 columns.

    Letters that the output's encoding lacks are written as plain ones or as Python's escapes.
    """
    codecs.register_error("raytransfer", _escaped)
    if isinstance(sys.stdout, io.TextIOWrapper):  # else it is a stream of somebody else's, or none
        sys.stdout.reconfigure(errors="raytransfer")
    file: Any = None if sys.stdout is None else Output(sys.stdout)
    # COLUMNS=0 says nothing.
    environ = {name: value for name, value in os.environ.items() if name != "COLUMNS" or value.strip("0")}
    console = plain_console(file=file, force_terminal=is_terminal(), _environ=environ)
    console.width = max(console.width, _LEAST_WIDTH)
    return console


def is_terminal() -> bool:
    """Whether standard output can redraw what it shows; notebooks and builds that ask for colours cannot."""
    return sys.stdout is not None and sys.stdout.isatty()


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    escapes = (letter.encode("ascii", "backslashreplace").decode() for letter in letters)
    return "".join(_PLAIN.get(letter, escape) for letter, escape in zip(letters, escapes, strict=True)), error.end


def print_json(console: Console, value: Any) -> None:
    """Print a value as JSON, unchanged by the console; NaN and infinity are null."""
    console.print(json.dumps(_finite(value), indent=2, default=str), soft_wrap=True)


def _finite(value: Any) -> Any:
    """A value with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
