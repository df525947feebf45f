"""Files of a data set that hold many images each: finding them, checking for gaps, and sorting them into parts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from raytransfer.errors import UserError
from raytransfer.tasks.parts import HALVED, Contents, Parts, choices, part_of, placed, unread
from raytransfer.tasks.places import Place, inside, stamp
from raytransfer.words import number_of, some_of

_SHARDS = re.compile(r"-(\d+)-of-(\d+)(-[0-9a-f]+)?$")  # older names end in a hash
_NUMBER = re.compile(r"(?:^|[-_.])(\d+)$")
_SHOWN, _NUMBERS = 3, 5  # files and numbers listed at most


@dataclass(frozen=True, kw_only=True)
class DataFiles(Parts):
    """A data set's files of one kind, by part; all are the training part where no name says a part.

    Attributes:
        path: The folder that holds them, or the file itself if there is only one.
    """

    path: Place

    @property
    def used(self) -> tuple[Place, ...]:
        """The files that are read, those of the training part first."""
        return self.train + self.test

    def contents(self) -> Contents:
        """Which files are used for what."""
        alone = self.path.is_file()
        base = self.path.parent if alone else self.path

        def shown(files: Sequence[Place]) -> str:
            return some_of([inside(base, file) for file in files], _SHOWN)

        aside = (f"{shown(self.set_aside)} (a held-out part beside the test part)",) if self.set_aside else ()
        test = shown(self.test) if self.test else HALVED
        return Contents(train=shown(self.train), test=test, left_out=aside if alone else aside + self._unread())

    def _unread(self) -> tuple[str, ...]:
        files = {*self.used, *self.set_aside}
        folders = {file.parent for file in files}
        return unread(self.path, {self.path, *folders}, files | folders)

    def identity(self) -> dict[str, Any]:
        """Each file's path and stamp, and how many are of the training part."""
        return {
            "files": [(str(file), *stamp(file)) for file in self.used],
            "n_train_files": len(self.train),
        }


def sorted_files(path: Place, files: list[Place]) -> DataFiles:
    """Sort files into parts by name (``raytransfer.tasks.parts``); nothing is opened.

    Args:
        path: The folder in which ``files_with`` found them, or the only file, which is one part whatever its name.
        files: The files.

    Raises:
        UserError: A file belongs to no part, or a shard is missing.
    """
    _check_shards(files)
    parts = None if path.is_file() else _parts(files, path)
    parts = parts or Parts(train=tuple(files), test=(), set_aside=())
    return DataFiles(path=path, train=parts.train, test=parts.test, set_aside=parts.set_aside)


def files_with(path: Place, ending: str, what: str) -> list[Place]:
    """List a data set's files with a suffix; nothing is opened.

    They lie in the folder itself, in its folder ``data``, or in its folders if one of these is named like a part, as
    ``train/0000.parquet``.

    Args:
        path: The folder; for anything else the list is empty.
        ending: The suffix in lower case, with its dot; it is matched in any case.
        what: What the files are, for errors.

    Raises:
        UserError: There are files in several of these places.
    """
    if not path.is_dir():
        return []
    folders = sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    inner = {folder: found for folder in folders if (found := _in(folder, ending))}
    of_parts = [file for found in inner.values() for file in found] if any(part_of(f.name) for f in inner) else []
    readings = [files for files in (_in(path, ending), inner.get(path / "data", []), of_parts) if files]
    if len(readings) > 1:
        places = [inside(path, files[0]) for files in readings[:2]]
        raise UserError(
            f"{path} holds {what} at several places, {places[0]} and {places[1]}: leave one, or give its path"
        )
    return readings[0] if readings else []


def _in(folder: Place, ending: str) -> list[Place]:
    return sorted(
        file
        for file in folder.iterdir()
        if file.name.lower().endswith(ending) and not file.name.startswith(".") and file.is_file()
    )


def check_runs(files: list[Place]) -> None:
    """Check that shards whose names end in a number, as ``train-000003``, run from 0 or 1 without a gap.

    The number is the whole name or follows one of ``-_.``. Names that state the total (``-of-``) are left to
    ``sorted_files``. That the last shards of a run are missing cannot be seen.

    Raises:
        UserError: A number is missing or there twice.
    """
    runs: dict[tuple[Place, str], dict[int, Place]] = {}
    for file in files:
        number = _NUMBER.search(file.stem)
        if number is None or _SHARDS.search(file.stem):
            continue
        run = runs.setdefault((file.parent, file.stem[: number.start(1)]), {})
        other = run.setdefault(int(number[1]), file)
        if other is not file:
            raise UserError(f"{other} and {file} are both number {int(number[1])}: remove or rename one of them")
    for run in runs.values():
        last = run[max(run)]
        missing = list(islice((i for i in range(1, max(run)) if i not in run), _NUMBERS + 1))
        if missing:
            shown = ", ".join(map(str, missing[:_NUMBERS])) + (", ..." if len(missing) > _NUMBERS else "")
            raise UserError(
                f"{last} is one of a numbered run, of which {shown} {'is' if len(missing) == 1 else 'are'} missing in "
                f"{last.parent}: numbers of shards run from 0 or 1 without a gap; get them, or rename the rest"
            )


def _check_shards(files: list[Place]) -> None:
    """Check that shards with names such as ``train-00000-of-00004`` are complete; they start at 0 or 1.

    Raises:
        UserError: A shard is missing, or there twice, as after two downloads.
    """
    sets: dict[tuple[Place, str], dict[int, Place]] = {}
    counts: dict[tuple[Place, str], int] = {}
    for file in files:
        if shard := _SHARDS.search(file.stem):
            key, number, count = (file.parent, file.stem[: shard.start()]), int(shard[1]), int(shard[2])
            same = sets.setdefault(key, {})
            if number in same or counts.setdefault(key, count) != count:
                other = same.get(number) or next(iter(same.values()))
                raise UserError(f"{other} and {file} are of two sets of shards: remove those of one of them")
            same[number] = file
    for key, same in sets.items():
        if set(same) not in [set(range(first, first + counts[key])) for first in (0, 1)]:
            file = next(iter(same.values()))
            raise UserError(
                f"{file} is one of {number_of(counts[key], 'shard')}, and some of them are missing in {file.parent}"
            )


def _parts(files: list[Place], place: Place) -> Parts | None:
    """Sort files into parts by the names of their folders, or else by their own; None if no name says a part."""
    folders = sorted({file.parent for file in files} - {place, place / "data"})
    if not folders:
        return placed(files, place)
    by_folder = placed(folders, place)
    assert by_folder is not None  # files_with looks into these folders only if one is named like a part

    def of(part: Sequence[Place]) -> tuple[Place, ...]:
        return tuple(file for file in files if file.parent in part)

    for file in files:
        if part_of(file.name) not in (None, part_of(file.parent.name)):
            raise UserError(f"{file} is named like another part of a data set than its folder: {choices()}")

    return Parts(train=of(by_folder.train), test=of(by_folder.test), set_aside=of(by_folder.set_aside))
