"""Parquet files in the Hugging Face image convention."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raytransfer.errors import UserError, one_line
from raytransfer.tasks.decode import Labels, Raw
from raytransfer.tasks.files import files_with, sorted_files
from raytransfer.tasks.image import Encoded
from raytransfer.tasks.parts import Contents
from raytransfer.tasks.places import Place, RemotePath
from raytransfer.words import number_of

_SAYS_LABEL = re.compile("label|class|target|categor")  # in names of columns
_LONGEST = 200  # characters of a value that an error shows


def parquet_files(path: Place) -> list[Place]:
    """List a data set's Parquet files: the path itself, or what ``files_with`` finds in the folder.

    Raises:
        UserError: There are files in several places.
    """
    return [path] if path.is_file() else files_with(path, ".parquet", "Parquet files")


def _check_numbers(folder: Place, files: Sequence[Place]) -> None:
    """Check that files with only numbers for names, as Hugging Face's ``0000.parquet``, have no gap."""
    if all(file.stem.isdecimal() for file in files) and [int(file.stem) for file in files] != list(range(len(files))):
        raise UserError(f"{folder} holds {files[-1].name}, and not each number from 0 to it: some files are missing")


class ParquetSource:
    """Reads Parquet files whose rows hold an encoded image and a whole-number label.

    Attributes:
        files: The files.
    """

    def __init__(self, path: Place, label_column: str | None) -> None:
        """Sort the files into parts; nothing is opened yet.

        Args:
            path: A file, or a folder in which ``parquet_files`` finds some.
            label_column: Name of the label column, or None to find it.

        Raises:
            UserError: A file belongs to no part, or a shard is missing.
        """
        self.label_column = label_column
        files = parquet_files(path)
        self.files = sorted_files(path, files)
        for folder in sorted({file.parent for file in files} - {path, path / "data", path.parent}):
            _check_numbers(folder, [file for file in files if file.parent == folder])

    @property
    def count(self) -> int:
        """How many images there are, from the files' metadata."""
        return sum(_opened(file).metadata.num_rows for file in self.files.used)

    def contents(self) -> Contents:
        """What is used for what."""
        return self.files.contents()

    def identity(self) -> dict[str, Any]:
        """Kind, label column and files."""
        return {"kind": "parquet", "label_column": self.label_column, **self.files.identity()}

    def read(self) -> Raw:
        """Read the labels; give the images still encoded.

        Raises:
            UserError: A file is not Parquet, a column is missing or ambiguous, or a label is wrong.
        """
        files = self.files.used
        schema = _opened(files[0]).schema_arrow
        image_column = _image_column(files[0], schema)
        label_column = self.label_column or _label_column(files[0], schema)
        names = _class_names(files, label_column)
        parts = [_labels(file, label_column, image_column) for file in files]
        labels = np.concatenate(parts)
        if not len(labels):
            raise UserError(f"{self.files.path} holds no rows: a data set needs images")
        if names is None:  # the numbers become the names of the classes
            values, labels = np.unique(labels, return_inverse=True)
            names = [str(value) for value in values]
        else:
            _check_range(files, parts, names)
        n_train = sum(len(part) for part in parts[: len(self.files.train)])
        return Raw(
            class_names=tuple(names),
            labels=labels.astype(np.int64),
            is_test=np.arange(len(labels)) >= n_train if self.files.test else None,
            images=lambda: _encoded(files, image_column),
        )


def _opened(file: Place) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.open(buffering=0) if isinstance(file, RemotePath) else file)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is not a readable Parquet file: {one_line(error)}") from None


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Column descriptions that Hugging Face's datasets library writes into the metadata; empty if there are none."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: value for name, value in features.items() if name in schema.names and isinstance(value, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _described(schema: pa.Schema, kind: str) -> list[str]:
    return [name for name, feature in _features(schema).items() if feature.get("_type") == kind]


def _are_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _are_bytes(field.type) for field in kind)
    return _are_bytes(kind)


def _image_column(file: Place, schema: pa.Schema) -> str:
    able = [field.name for field in schema if _holds_bytes(field.type)]
    found = [name for name in _described(schema, "Image") if name in able] or able
    if len(found) != 1:
        raise UserError(
            f"{file} has {number_of(len(found), 'image column')} ({', '.join(found or schema.names)}): "
            "exactly one column of bytes, or of struct<bytes, path>, must hold the images"
        )
    return found[0]


def _label_column(file: Place, schema: pa.Schema) -> str:
    whole = [field.name for field in schema if pa.types.is_integer(field.type)]
    described = [name for name in _described(schema, "ClassLabel") if name in whole]
    found = described or whole
    if len(found) > 1:
        raise UserError(f"{file} has several label columns: choose one with label_column={'|'.join(found)}")
    if not found:
        raise UserError(f"{file} has no column of whole numbers for the labels; its columns are {_shown(schema)}")
    (only,) = found
    if not described and not _SAYS_LABEL.search(only.lower()):
        for field in schema:
            if _SAYS_LABEL.search(field.name.lower()):
                raise UserError(
                    f"{file} has labels in column {field.name!r}, by its name, which holds {field.type}: labels are "
                    f"whole numbers; write them so, or choose label_column={only}"
                )
    return only


def _shown(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


def _class_names(files: Sequence[Place], label_column: str) -> list[str] | None:
    """Names of the labels 0, 1, ... from the metadata, which must be text and agree between the files."""
    first, *others = [_features(_opened(file).schema_arrow).get(label_column, {}).get("names") for file in files]
    if first is not None and not (isinstance(first, list) and all(isinstance(name, str) for name in first)):
        raise UserError(
            f"{files[0]} has {str(first)[:_LONGEST]} in its metadata as names of the classes of {label_column!r}: they "
            "must be a list of text"
        )
    for file, names in zip(files[1:], others, strict=True):
        if names != first:
            raise UserError(f"{file} and {files[0]} name the classes of {label_column!r} differently in their metadata")
    return first


def _labels(file: Place, label_column: str, image_column: str) -> Labels:
    opened = _opened(file)
    schema = opened.schema_arrow
    for option, column in (("label_column", label_column), ("image column", image_column)):
        if column not in schema.names:
            raise UserError(f"{file} has no {option} {column!r}; its columns are {_shown(schema)}")
    if not pa.types.is_integer(schema.field(label_column).type):
        raise UserError(
            f"label_column {label_column!r} of {file} holds {schema.field(label_column).type}: labels are whole numbers"
        )
    try:
        column = opened.read(columns=[label_column]).column(0)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file} is not a readable Parquet file: {one_line(error)}") from None
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise UserError(f"{file} row {row} (from 0) has no label in column {label_column!r}")
    numbers = column.to_numpy()
    if len(numbers) and numbers.max() > np.iinfo(np.int64).max:  # uint64, which would turn negative
        row = int(numbers.argmax())
        raise UserError(f"{file} row {row} (from 0) has label {numbers[row]}, which is larger than any label can be")
    return np.asarray(numbers, dtype=np.int64)


def _check_range(files: Sequence[Place], parts: Sequence[Labels], names: Sequence[str]) -> None:
    for file, labels in zip(files, parts, strict=True):
        wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
        if len(wrong):
            raise UserError(
                f"{file} row {wrong[0]} (from 0) has label {labels[wrong[0]]}: "
                f"its {len(names)} class names allow 0..{len(names) - 1}"
            )


def _encoded(files: Sequence[Place], image_column: str) -> Iterator[tuple[str, Encoded]]:
    for file in files:
        row = 0
        try:
            for batch in _opened(file).iter_batches(batch_size=256, columns=[image_column]):
                column = batch.column(0)
                values = (column.field("bytes") if pa.types.is_struct(column.type) else column).to_pylist()
                for value in values:
                    where = f"{file} row {row} (from 0)"
                    if value is None:
                        raise UserError(f"{where} has no image bytes in column {image_column!r}")
                    yield where, value
                    row += 1
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{file} is not a readable Parquet file: {one_line(error)}") from None
