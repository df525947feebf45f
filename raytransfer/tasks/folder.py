"""A folder of image classes: ``path/train/<class>/*`` with ``path/test``, or just ``path/<class>/*``."""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from raytransfer.errors import UserError
from raytransfer.tasks.decode import Raw
from raytransfer.tasks.image import Encoded
from raytransfer.tasks.parts import (
    HALVED,
    Contents,
    Parts,
    choices,
    nearly_says_a_part,
    part_of,
    placed,
    says_only_its_part,
    unread,
)
from raytransfer.tasks.places import REQUESTS, Place, RemotePath, inside, utf8_name
from raytransfer.tasks.threads import ahead
from raytransfer.words import number_of, some_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".gif", ".pgm", ".ppm", ".tif", ".tiff", ".webp", ".avif")
"""Endings of images, in lower case."""

# Folders that tools and file systems create.
_OF_TOOLS = ("@eadir", "__macosx", "__pycache__", "lost+found", "$recycle.bin", "system volume information")
_OF_STORES = "store.json"  # in every store of this project's
_RESULTS = "results of sweeps"
_WRAP = "if the folders here are the classes, put all of them into a folder named train"
_SHOWN = 5  # names listed at most


def folders_of_images(path: Place) -> list[Place]:
    """The folders in a folder that look like parts or classes, whatever else lies beside them.

    They are those that are named like parts and hold images, else those with images directly in them if there are
    several.
    """
    folders = _Walk(path).folders(path)
    parts = [folder for folder in folders if part_of(folder.name) is not None and _holds_images(folder)]
    direct = [folder for folder in folders if any(_is_image(entry.name) for entry in folder.iterdir())]
    return parts or (direct if len(direct) > 1 else [])


def holds_classes(path: Place) -> bool:
    """Whether a folder has a training part, or at least two folders with images directly in them."""
    folders = _Walk(path).folders(path)
    if any(part_of(folder.name) == "train" and _is_part(folder) for folder in folders):
        return True
    holding = (folder for folder in folders if any(_is_image(file.name) for file in folder.iterdir()))
    return len(list(islice(holding, 2))) == 2


def is_store(folder: Place) -> bool:
    """Whether a folder is a store of this project's results."""
    return (folder / _OF_STORES).is_file()


class FolderSource:
    """Reads a folder of image classes; each class is a folder, whose images may lie in folders below it.

    Hidden folders, folders of tools and stores of results are skipped at every depth. Every folder is read once: below
    a class folder, links to this folder, to a class, to anything inside these or to a folder that holds them are
    skipped, and so is a second link to one folder elsewhere. Only regular files are images.

    Attributes:
        files: (class name, path or address) of each image, the training part first, classes and files in alphabetical
            order. Paths are text: for a million files, Path objects take a gigabyte and half a minute.
        n_train: How many of them are training images; None if the folder has no test part.
    """

    def __init__(self, path: Place) -> None:
        """List the images.

        Args:
            path: The folder.

        Raises:
            UserError: It holds no classes, a class holds no images, a folder is of no part, or train and test differ in
                classes.
        """
        self.path = path
        self._walk = _Walk(path)
        self._parts = self._sorted()
        self.n_train: int | None = None
        if self._parts is None:
            (self.files,) = self._walk.images(path)
            return
        (train,) = self._parts.train
        self.files, *tests = self._walk.images(train, *self._parts.test)
        for test, test_files in zip(self._parts.test, tests, strict=True):
            self.n_train = len(self.files)
            _check_same_classes(train, _names(self.files), test, _names(test_files))
            self.files += test_files

    def _sorted(self) -> Parts | None:
        """The folders by part; None if they are classes.

        A folder that is named like a part is one if at least two folders below it hold images. Otherwise ``train``
        beside ``car`` is taken for a class, but ``test`` beside ``car`` is refused: it may hold test images without
        labels.
        """
        folders = self._walk.folders(self.path)
        parts = [folder for folder in folders if part_of(folder.name) is not None and _is_part(folder)]
        if not parts:
            _check_names(self.path, folders)
            _check_are_classes(folders)
            return None
        self._walk.pass_over_images(self.path)
        for folder in list(folders):
            if folder not in parts and not _holds_images(folder):
                self._walk.pass_over(folder, "no images")
                folders.remove(folder)
        found = placed(folders, self.path)
        for same in (found.train, found.test) if found else ():
            if len(same) > 1:
                names = ", ".join(folder.name for folder in same)
                raise UserError(f"{self.path} has several folders for one part, {names}: remove or rename all but one")
        return found

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.files)

    def contents(self) -> Contents:
        """What is used for what."""
        # of folders and images the walk has told
        told: set[Place] = {entry for entry in self.path.iterdir() if not entry.is_file() or _is_image(entry.name)}
        left_out = self._walk.passed_over() + unread(self.path, [self.path], told)
        if self._parts is None:
            return Contents(train="all class folders", test=HALVED, left_out=left_out)
        aside = tuple(f"{folder.name}/ (a held-out part beside the test part)" for folder in self._parts.set_aside)
        test = f"{self._parts.test[0].name}/" if self._parts.test else HALVED
        return Contents(train=f"{self._parts.train[0].name}/", test=test, left_out=aside + left_out)

    def identity(self) -> dict[str, Any]:
        """Kind, path, and each file's path and stamp, as ``raytransfer.tasks.places.stamp`` has them."""
        start = len(str(self.path / "_")) - 1
        files: list[tuple[Any, ...]]
        if isinstance(self.path, RemotePath):
            files = [(file[start:], *(self.path / file[start:]).stamp()) for _, file in self.files]
        else:
            stats = [(file[start:], os.stat(file)) for _, file in self.files]  # noqa: PTH116 - text
            files = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats]
        return {
            "kind": "folder",
            "path": self.path.address if isinstance(self.path, RemotePath) else str(self.path),
            "n_train": self.n_train,  # the same files may have been read as classes before
            "files": files,
        }

    def read(self) -> Raw:
        """Give the images, still encoded."""
        names = _names(self.files)
        index = {name: i for i, name in enumerate(names)}
        return Raw(
            class_names=names,
            labels=np.array([index[name] for name, _ in self.files], dtype=np.int64),
            is_test=None if self.n_train is None else np.arange(len(self.files)) >= self.n_train,
            images=self._encoded,
        )

    def _encoded(self) -> Iterator[tuple[str, Encoded]]:
        if isinstance(self.path, RemotePath):
            path, start = self.path, len(str(self.path / "_")) - 1
            return ahead(lambda named: (named[1], (path / named[1][start:]).read_bytes()), self.files, REQUESTS)
        return ((file, Path(file)) for _, file in self.files)


class _Walk:
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
            if _is_image(entry.name) and not entry.is_dir():
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
                if folder.is_symlink() and not folder.is_file() and not _is_image(folder.name):
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
        return [
            [
                (name, file)
                for folder in folders
                for name in (utf8_name(folder.name),)
                for file in self._of_class(folder)
            ]
            for folders in classes
        ]

    def _classes(self, part: Place) -> list[Place]:
        """The class folders of a part, without those that hold results of sweeps and no images."""
        folders = []
        for folder in self.folders(part):
            if _holds_store(folder) and not _holds_images(folder):
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

    def _of_class(self, folder: Place) -> list[str]:
        found = list(self.below(folder))
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


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _is_part(folder: Place) -> bool:
    """Whether a folder looks like a part: at least two folders in it hold images, and none lie beside them."""
    if any(_is_image(entry.name) and entry.is_file() for entry in folder.iterdir()):
        return False
    return len(list(islice((inner for inner in _Walk(folder).folders(folder) if _holds_images(inner)), 2))) == 2


def _holds_images(folder: Place) -> bool:
    walk = _Walk(folder)
    walk._visited.add(_key(folder))
    return next(walk.below(folder), None) is not None


def _holds_store(folder: Place) -> bool:
    """Whether a store of results lies directly in a folder."""
    with _entries(folder) as entries:
        return any(entry.is_dir() and is_store(folder / entry.name) for entry in entries)


def _check_names(path: Place, folders: list[Place]) -> None:
    """Check that folders that will be read as classes are not named like parts.

    Raises:
        UserError: All are; or one has the name of a test or held-out part and holds images.
    """
    named = [folder for folder in folders if part_of(folder.name) is not None]
    if named and named == folders:
        if not any(_holds_images(folder) for folder in folders):
            there = some_of([folder.name for folder in folders], _SHOWN)
            raise UserError(f"{path} holds no images ({' '.join(SUFFIXES)}) in its folders {there}")
        raise UserError(
            f"{path} holds {', '.join(folder.name for folder in named)}, which may be parts of a data set or classes: "
            f"a part holds a folder for each class; {choices()}"
        )
    for folder in named:
        if part_of(folder.name) != "train" and says_only_its_part(folder.name) and _holds_images(folder):
            other = next(other.name for other in folders if other != folder)
            raise UserError(
                f"{folder} may be a part of a data set or a class like {other} beside it: a part holds a folder for "
                f"each class; {_WRAP}"
            )


def _check_are_classes(folders: list[Place]) -> None:
    """Check that folders that will be read as classes do not hold classes or parts themselves.

    Raises:
        UserError: A folder with folders of images has a name close to that of a part, or holds a part; or all folders
            hold folders of the same names.
    """
    if len(folders) < 2:  # which is refused as too few
        return
    deep = [folder for folder in folders if _is_part(folder)]
    inner = {folder: [below.name for below in _Walk(folder).folders(folder)] for folder in deep}
    for folder in deep:
        if nearly_says_a_part(folder.name):
            raise UserError(f"{folder} has a name that may or may not say a part of a data set: {choices()}; {_WRAP}")
        for name in inner[folder]:
            if part_of(name) is not None:
                raise UserError(
                    f"{folder / name} is named like a part of a data set, and lies in what would be a class: put parts "
                    f"above the classes, as train/{folder.name}; {_WRAP}"
                )
    if deep == folders and all(names == inner[folders[0]] for names in inner.values()):
        there = some_of([str(folder) for folder in folders], _SHOWN)
        raise UserError(
            f"{there} all hold the folders {some_of(inner[folders[0]], _SHOWN)}, which may be the classes: then name "
            f"what holds them as a part; {choices()}; {_WRAP}"
        )


def _names(files: list[tuple[str, str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name, _ in files))


def _check_same_classes(train: Place, train_names: tuple[str, ...], test: Place, test_names: tuple[str, ...]) -> None:
    for one, one_names, other, other_names in (
        (train, train_names, test, test_names),
        (test, test_names, train, train_names),
    ):
        missing = sorted(set(one_names) - set(other_names))
        if missing:
            raise UserError(
                f"{other} lacks class folders that {one} has: {some_of(missing, _SHOWN)}; both need the same classes"
            )
