"""Walks through folders of images, and what folders look like."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

from raytransfer.errors import UserError
from raytransfer.tasks.places import Place, RemotePath, inside, utf8_name
from raytransfer.words import number_of, some_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp", ".avif")
"""Endings of images, in lower case."""

# Folders that tools and file systems create.
_OF_TOOLS = ("@eadir", "__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information")
_OF_STORES = "store.json"  # in every store of this project's
_RESULTS = "results of sweeps"
_SHOWN = 5  # names listed at most


def is_store(folder: Place) -> bool:
    """Whether a folder is a store of this project's results."""
    return (folder / _OF_STORES).is_file()


class Walk:
    """Walks through a folder, and notes what it skips and why."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._visited: set[object] = set()
        # Links into these folders, or to folders that hold them, are skipped.
        self._read = {root.resolve()} if isinstance(root, Path) else set[Path]()
        self._passed: dict[str, dict[str, None]] = {}

    def pass_over(self, path: Place, why: str) -> None:
        """Note that a folder or file is not used."""
        self._passed.setdefault(why, {})[inside(self._root, path)] = None

    def pass_over_images(self, path: Place) -> None:
        """Note that images directly in a folder belong to no class."""
        entries: list[Place] = sorted(path.iterdir(), key=lambda entry: entry.name)
        for entry in entries:
            if is_image(entry.name) and not entry.is_dir():
                self.pass_over(entry, "images beside the class folders")

    def passed_over(self) -> tuple[str, ...]:
        """What was skipped, an entry for each reason."""
        return tuple(f"{some_of(list(names), _SHOWN)} ({why})" for why, names in self._passed.items())

    def folders(self, path: Place) -> list[Place]:
        """The folders in a folder that may hold images, in alphabetical order."""
        found = []
        entries: list[Place] = sorted(path.iterdir())
        for folder in entries:
            if not folder.is_dir():
                if folder.is_symlink() and not folder.is_file() and not is_image(folder.name):
                    self.pass_over(folder, "links to nothing")  # a class, perhaps, on a disk that is not there
            elif why := _why_not(folder):
                self.pass_over(folder, why)
            else:
                found.append(folder)
        return found

    def images(self, *parts: Place) -> list[list[tuple[str, str]]]:
        """Class and path of every image below the class folders of each part.

        Raises:
            UserError: A part has fewer than 2 class folders, one holds no image, or two are the same folder.
        """
        classes = [self._classes(part) for part in parts]
        # All class folders are noted first, so that a link in one to another is skipped.
        for folder in (folder for folders in classes for folder in folders):
            if _key(folder) in self._visited:
                raise UserError(f"class folder {folder} is a link to a folder that is read already: remove one of them")
            self._visited.add(_key(folder))
            if isinstance(folder, Path):
                self._read.add(folder.resolve())
        return [[image for folder in folders for image in self._of_class(folder)] for folders in classes]

    def _classes(self, part: Place) -> list[Place]:
        """The class folders of a part, without those that hold results of sweeps and no images."""
        folders = []
        for folder in self.folders(part):
            if _holds_store(folder) and not holds_images(folder):
                self.pass_over(folder, _RESULTS)
            else:
                folders.append(folder)
        if len(folders) < 2:
            other = f"; if {folders[0]} is the data set, give its path" if folders and part == self._root else ""
            raise UserError(
                f"{part} holds {number_of(len(folders), 'class folder')}, no Parquet files and no tar shards: a data "
                f"set is one of these, or a folder of at least 2 classes, each a folder of images{other}"
            )
        self.pass_over_images(part)
        self._visited.add(_key(part))
        return folders

    def _of_class(self, folder: Place) -> list[tuple[str, str]]:
        """Class and path of every image of one class."""
        name = utf8_name(folder.name)
        found = [(name, file) for file in self.below(folder)]
        if not found:
            raise UserError(f"class folder {folder} holds no images ({' '.join(SUFFIXES)})")
        return found

    def below(self, folder: Place) -> Iterator[str]:
        """The images in a folder and in those below it, in alphabetical order."""
        with _entries(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    path = folder / entry.name
                    if why := _why_not(path):
                        self.pass_over(path, why)
                    elif _key(path) in self._visited or (entry.is_symlink() and self._leads_back(Path(entry.path))):
                        self.pass_over(path, "links to what is read elsewhere")
                    else:
                        self._visited.add(_key(path))
                        yield from self.below(path)
                elif not entry.name.lower().endswith(SUFFIXES):
                    if not entry.name.startswith("."):
                        self.pass_over(folder / entry.name, "no images by their names")
                elif entry.name.startswith("."):
                    self.pass_over(folder / entry.name, "hidden")
                elif entry.is_file():
                    yield str(entry) if isinstance(entry, RemotePath) else entry.path
                else:
                    self.pass_over(folder / entry.name, "no regular files")

    def _leads_back(self, link: Path) -> bool:
        target = link.resolve()
        return any(target.is_relative_to(read) or read.is_relative_to(target) for read in self._read)


def _why_not(folder: Place) -> str:
    """Why a folder is skipped; empty if it is not."""
    if folder.name.startswith("."):
        return "hidden"
    if folder.name.lower() in _OF_TOOLS:
        return "made by tools"
    return _RESULTS if is_store(folder) else ""


def _entries(folder: Place) -> AbstractContextManager[Iterable[Any]]:
    """The entries of a folder; on a disk they know whether they are folders without another system call."""
    return nullcontext(folder.iterdir()) if isinstance(folder, RemotePath) else os.scandir(folder)


def _key(folder: Place) -> object:
    """A key that is equal for two names of one folder."""
    if isinstance(folder, RemotePath):
        return folder
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_image(name: str) -> bool:
    """Whether a file is an image by its name, and not hidden."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def is_part(folder: Place) -> bool:
    """Whether a folder looks like a part: at least two folders in it hold images, and none lie beside them."""
    if any(is_image(entry.name) and entry.is_file() for entry in folder.iterdir()):
        return False
    return len(list(islice((inner for inner in Walk(folder).folders(folder) if holds_images(inner)), 2))) == 2


def holds_images(folder: Place) -> bool:
    """Whether an image lies in a folder or below it."""
    walk = Walk(folder)
    walk._visited.add(_key(folder))
    return next(walk.below(folder), None) is not None


def _holds_store(folder: Place) -> bool:
    """Whether a store of results lies directly in a folder."""
    with _entries(folder) as entries:
        return any(entry.is_dir() and is_store(folder / entry.name) for entry in entries)
