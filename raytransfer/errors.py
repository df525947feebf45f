"""Errors that a user can fix."""

import re

_BREAKS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def one_line(error: BaseException) -> str:
    """An error's message on one line; its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


class UserError(Exception):
    """What the user asked for cannot be done; the message names the value, the rule and the choices.

    A command prints it as one line and exits with code 2, before any training starts. What a value in the message
    would do to that line, such as breaking it, is shown as Python's escapes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(_BREAKS.sub(lambda found: found[0].encode("unicode_escape").decode(), message))


class StorageError(UserError):
    """A storage does not take or give files: it is full, forbidden, or does not answer for longer than one waits.

    A command prints it as one line and exits with code 3: what had finished by then is in the store.
    """


class UnreadableError(UserError):
    """A file of a store is damaged or gone; trials that it held, or whose weights it held, have to run again.

    Args:
        name: The file, within its store.
        message: What is wrong with it.
    """

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """How it is pickled: by itself an exception is made again from its message alone."""
        return type(self), (self.name, str(self))
