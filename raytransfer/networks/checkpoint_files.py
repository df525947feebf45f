"""Reading checkpoint files from elsewhere, without running code from them."""

import argparse
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from raytransfer.errors import UserError


def read_file(path: Path) -> Any:
    """Read a checkpoint file to the CPU: a dict of tensors, or nested dicts of tensors and plain values.

    The content tells safetensors from PyTorch's own formats (zip, and the one before 1.6). Pickles are read with
    ``weights_only=True``. A file that can be memory-mapped is, so it must not change while its tensors are in use.

    Raises:
        UserError: The file does not exist, is damaged or of another format, or holds other objects.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder: name the checkpoint file in it")
    if not path.is_file():
        raise UserError(f"{path} is no file" if path.exists() else f"{path} does not exist")
    try:
        with path.open("rb") as file:
            start = file.read(40)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not start:
        raise UserError(f"{path} is empty: it is no checkpoint")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle's protocol and old storages, which a user cannot change
            if path.suffix == ".safetensors" or start[8:9] == b"{":
                return load_file(path)
            # Many training scripts save their options as a Namespace, which is plain data.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=_can_be_mapped(path))
    except Exception as error:  # a file that is no checkpoint can make a reader raise anything
        raise UserError(f"{path} {_complaint(error, start)}") from error


def _can_be_mapped(path: Path) -> bool:
    """Whether a file is a zip archive without compression."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())


def _complaint(error: Exception, start: bytes) -> str:
    """What is wrong with a file, in one line; PyTorch takes ten, and advises to allow the file's code to run."""
    message = str(error)
    again = "save it again as a plain state dict: torch.save(model.state_dict(), FILE)"
    code = re.search(r"GLOBAL (\S+)", message)
    if code:
        return f"holds objects that are neither tensors nor plain values ({code[1]}), which are not made: {again}"
    if "TorchScript" in message:
        return f"is a TorchScript program, which is not run: {again}"
    if start.startswith((b"PK", b"\x80")):
        return "is no whole PyTorch file: it is damaged or truncated, or of another kind"
    if start[8:9] == b"{":
        return "is no whole safetensors file: it is damaged or truncated"
    return f"is neither a safetensors nor a PyTorch file: it begins with {start[:20]!r}"
