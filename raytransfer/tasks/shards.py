"""Tar shards in the WebDataset convention.

A sample is the members of one shard with the same key, which is the name up to the first dot after the last slash:
``0001.jpg`` with ``0001.cls``. Its image is the member with an image's suffix. Its label is the content of ``KEY.cls``,
a whole number or a class name, or else the field ``label`` of ``KEY.json``. Other members are ignored, and so are
hidden ones and those of tools (``__meta__``). Classes are the sorted labels, or else the lines of ``classnames.txt``
beside the shards, for labels 0, 1, ... Shards are never unpacked: one pass over their headers finds where each image
lies.
"""

import functools
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from raytransfer.errors import UserError
from raytransfer.tasks.decode import Raw
from raytransfer.tasks.files import check_runs, sorted_files
from raytransfer.tasks.image import Encoded
from raytransfer.tasks.parts import Contents
from raytransfer.tasks.places import CHANGED, REQUESTS, Place, RemotePath, inside, stamp
from raytransfer.tasks.streamed import Members
from raytransfer.tasks.tars import check_plain, compressed_tars, headers, tar_files
from raytransfer.tasks.threads import ahead
from raytransfer.tasks.walking import SUFFIXES
from raytransfer.words import number_of

CLASS_NAMES = "classnames.txt"
"""An optional file beside the shards that names the classes."""

_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_LABELS = (".cls", ".json")
_LONGEST = 200  # characters of a label
_LOOKED_AT = 200  # first members that are searched for a label
_SHOWN = 5  # fields listed at most

Label = int | str


def are_shards(files: list[Place]) -> bool:
    """Whether tar files look like shards: the first members of the first hold a label, or it cannot be read.

    Archives of images, as data sets are often published, hold no labels.
    """
    if not files:
        return False
    try:
        with files[0].open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            members = (tar.next() for _ in range(_LOOKED_AT))
            return any(member is not None and member.name.lower().endswith(_LABELS) for member in members)
    except (tarfile.TarError, OSError):
        return True


class ShardSource:
    """Reads tar shards.

    Attributes:
        files: The shards.
    """

    def __init__(self, path: Place, label_field: str | None) -> None:
        """Sort the shards into parts; nothing is opened yet.

        Args:
            path: A shard, or a folder in which ``tar_files`` finds some.
            label_field: The field of JSON members that holds the label; None for ``.cls``, or else ``label``.

        Raises:
            UserError: A shard is compressed, belongs to no part, or is missing.
        """
        self.label_field = label_field
        found = tar_files(path)
        for file in found + compressed_tars(path):
            check_plain(file)
        if not path.is_file():
            check_runs(found)
        self.files = sorted_files(path, found)

    @property
    def count(self) -> int:
        """How many images there are; every header is read once to tell."""
        return len(self.members.sizes)

    def contents(self) -> Contents:
        """What is used for what."""
        return self.files.contents()

    def identity(self) -> dict[str, Any]:
        """Kind, label field, names of classes and files."""
        return {
            "kind": "shards",
            "label_field": self.label_field,
            "class_names": self._class_names,
            **self.files.identity(),
        }

    @property
    def members(self) -> Members:
        """Where the images lie.

        Raises:
            UserError: A shard is broken, or a sample has no label, or several images.
        """
        return self._read[0]

    def read(self) -> Raw:
        """Give labels, and the images still encoded.

        Raises:
            UserError: As for ``members``; or a label is none of the classes.
        """
        names, labels = self._classes()
        n_train = int((self.members.holders < len(self.files.train)).sum())
        return Raw(
            class_names=names,
            labels=labels,
            is_test=np.arange(len(labels)) >= n_train if self.files.test else None,
            images=self._encoded,
        )

    @functools.cached_property
    def _root(self) -> Place:
        path = self.files.path
        return path.parent if path.is_file() else path

    @functools.cached_property
    def _read(self) -> tuple[Members, list[Label]]:
        """Images and labels, in the order of the shards and of the images' members in each."""
        names, labels, rows = list[str](), list[Label](), list[tuple[int, int, int]]()
        held = []
        files = self.files.used
        look = functools.partial(_samples, label_field=self.label_field)
        looked = ahead(look, files, REQUESTS) if isinstance(self._root, RemotePath) else map(look, files)
        for k, (file, samples) in enumerate(zip(files, looked, strict=True)):
            name = inside(self._root, file)
            held.append((name, stamp(file)[0]))
            for sample in samples:
                labels.append(_label(file, sample, self.label_field))
                names.append(f"{name} member {sample.image}")
                rows.append((k, sample.start, sample.size))
        if not rows:
            raise UserError(f"{self.files.path} holds no images ({' '.join(SUFFIXES)}): a data set needs some")
        holders, starts, sizes = np.array(rows, dtype=np.int64).T
        return Members(files=tuple(held), holders=holders, names=names, starts=starts, sizes=sizes), labels

    @functools.cached_property
    def _class_names(self) -> list[str] | None:
        """What ``classnames.txt`` lists; None where there is none."""
        file = self._root / CLASS_NAMES
        if not file.is_file():
            return None
        try:
            names = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
        except UnicodeDecodeError:
            raise UserError(f"{file} is no text: it must name the classes 0, 1, ..., one a line") from None
        wrong = next((i for i, name in enumerate(names) if not name or name in names[:i]), None)
        if wrong is not None:
            raise UserError(
                f"{file} line {wrong + 1} is {names[wrong]!r}: it names the classes 0, 1, ..., one a line, each once"
            )
        return names

    def _classes(self) -> tuple[tuple[str, ...], Any]:
        """Names of the classes, and the class of each image.

        Raises:
            UserError: Some labels are numbers and others names, or one is not in the list of classes.
        """
        _, labels = self._read
        kinds = [isinstance(label, str) for label in labels]
        if self._class_names is None and len(set(kinds)) > 1:
            first, other = labels[0], kinds.index(not kinds[0])
            raise UserError(
                f"{self._where(0)} has label {first!r}, {self._where(other)} {labels[other]!r}: labels are all whole "
                f"numbers or all class names, unless {CLASS_NAMES} beside the shards lists the classes"
            )
        if self._class_names is None:
            found: list[Any] = sorted(set(labels))  # of one type, as checked
            place = {label: i for i, label in enumerate(found)}
            names = tuple(map(str, found))
        else:
            names = tuple(self._class_names)
            place = {label: i for i, name in enumerate(names) for label in (i, name)}
            wrong = next((i for i, label in enumerate(labels) if label not in place), None)
            if wrong is not None:
                raise UserError(
                    f"{self._where(wrong)} has label {labels[wrong]!r}, which is no class: {CLASS_NAMES} beside the "
                    f"shards lists {number_of(len(names), 'class')}, numbers 0..{len(names) - 1} or their names"
                )
        return names, np.array([place[label] for label in labels], dtype=np.int64)

    def _where(self, i: int) -> str:
        return str(self._root / self.members.names[i])

    def _encoded(self) -> Iterator[tuple[str, Encoded]]:
        members = self.members
        for k, file in enumerate(self.files.used):
            with file.open("rb") as stream:
                for i in np.flatnonzero(members.holders == k).tolist():
                    size = int(members.sizes[i])
                    stream.seek(int(members.starts[i]))
                    content = stream.read(size)
                    if len(content) != size:
                        raise UserError(f"{file} has become shorter since its headers were read: {CHANGED}")
                    yield self._where(i), content


@dataclass(kw_only=True)
class _Sample:
    """The members of a shard under one key.

    Attributes:
        key: The key.
        image: Name of its image; empty as long as none is found.
        start: Offset of the image in the shard, in bytes.
        size: Bytes of the image.
        labels: Contents of its members that hold labels, by suffix.
    """

    key: str
    image: str = ""
    start: int = 0
    size: int = 0
    labels: dict[str, bytes] = field(default_factory=dict)


def _samples(file: Place, label_field: str | None) -> list[_Sample]:
    """The samples of a shard that have an image.

    Raises:
        UserError: The shard is broken; a key has two images or two labels of one kind, or a label and no image.
    """
    found: dict[str, _Sample] = {}
    with file.open("rb") as stream:
        for member in headers(file, stream):
            folder, slash, name = member.name.rpartition("/")
            stem, _, ending = name.partition(".")
            ending = "." + ending.rpartition(".")[2].lower()
            is_label = ending in _LABELS
            if not stem or not (is_label or ending in SUFFIXES):
                continue
            if not member.isreg() or member.issparse():
                raise UserError(f"{file} member {member.name} is no regular file: shards hold whole images and labels")
            key = folder + slash + stem
            sample = found.setdefault(key, _Sample(key=key))
            if not is_label:
                if sample.image:
                    raise UserError(
                        f"{file} has two images under key {key}, {sample.image} and {member.name}: the key is the name "
                        "up to its first dot, and each has one image"
                    )
                sample.image, sample.start, sample.size = member.name, member.offset_data, member.size
                continue
            if ending in sample.labels:
                raise UserError(f"{file} has two {ending} members under key {key}: each has one label")
            stream.seek(member.offset_data)
            sample.labels[ending] = stream.read(member.size)
    for sample in found.values():
        if not sample.image and (".cls" in sample.labels or _says(sample.labels[".json"], label_field or "label")):
            raise UserError(f"{file} has a label under key {sample.key} and no image ({' '.join(SUFFIXES)})")
    return [sample for sample in found.values() if sample.image]


def _says(content: bytes, name: str) -> bool:
    """Whether JSON has a field of this name; JSON that does not may lie beside samples."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and name in found


def _label(file: Place, sample: _Sample, label_field: str | None) -> Label:
    """The label of a sample.

    Raises:
        UserError: It has none, or one that is neither a whole number from 0 on nor a name.
    """
    where = f"{file} member {sample.image}"
    if label_field is None and ".cls" in sample.labels:
        return _as_label(where, f"{sample.key}.cls", _text(sample.labels[".cls"]))
    if ".json" not in sample.labels:
        choices = f"{sample.key}.json" if label_field else f"{sample.key}.cls, or {sample.key}.json with a field label"
        raise UserError(f"{where} has no label: it takes {choices} in the same shard")
    name = label_field or "label"
    try:
        content = json.loads(sample.labels[".json"])
    except (ValueError, RecursionError):
        raise UserError(f"{file} member {sample.key}.json is not JSON: it holds the label of its image") from None
    if not isinstance(content, dict) or name not in content:
        fields = ", ".join(list(content)[:_SHOWN]) if isinstance(content, dict) else "none"
        raise UserError(
            f"{file} member {sample.key}.json has no field {name!r} for the label (its fields: {fields[:_LONGEST]}): "
            "name one with label_column="
        )
    return _as_label(where, f"the field {name} of {sample.key}.json", content[name])


def _text(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _as_label(where: str, place: str, value: Any) -> Label:
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and len(text) <= _LONGEST and _WHOLE.fullmatch(text):
        text = int(text)
    is_number = isinstance(text, int) and not isinstance(text, bool) and text >= 0
    is_name = isinstance(text, str) and 0 < len(text) <= _LONGEST and text.isprintable()
    if not (is_number or is_name):
        raise UserError(
            f"{where} has label {repr(value)[:_LONGEST]} in {place}, which is no class: a label is a whole number from "
            "0 on or a class name"
        )
    return text
