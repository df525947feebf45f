"""The source code of networks of the user's own, checked to be the code that runs."""

import importlib
import sys
from collections.abc import Collection, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from raytransfer.errors import UserError, first_line
from raytransfer.networks.own import is_own
from raytransfer.specs import NetworkSpec

_READ: dict[str, tuple[ModuleSpec | None, str]] = {}
"""By name of a module of the user's: its spec, which is new with every import, and its source."""


def sources_of(spec: NetworkSpec) -> dict[str, str]:
    """Source code of a network of the user's, by path relative to the folder from which it is imported.

    The files are those loaded from its package, which may be one without ``__init__.py``, or from the folder of its
    module; the main script only if it is also imported as a module. Empty for other networks.

    Raises:
        UserError: A file is not UTF-8, or has changed since it was imported, as in a notebook, where the old code would
            run. When a file is read for the first time, only changes of functions are noticed.
    """
    if not is_own(spec.name):
        return {}
    network = spec.name
    first = importlib.import_module(network.partition(":")[0].partition(".")[0])
    is_package = hasattr(first, "__path__")
    folders = [Path(place).resolve() for place in first.__path__] if is_package else [_file(first).parent]
    main = sys.modules.get("__main__")  # multiprocessing, which torch imports, names it __mp_main__, too
    imported = {name: module for name, module in list(sys.modules.items()) if module is not main}
    names = {_file(module): name for name, module in imported.items() if getattr(module, "__file__", None)}
    roots = {
        path: folder.parent if is_package else folder
        for folder in folders
        for path in names
        if path.is_relative_to(folder)
    }
    own = {
        path: names[path]
        for path in sorted(roots)
        if path.suffix == ".py" and path.exists() and "site-packages" not in path.parts
    }
    modules = {name: imported[name] for name in own.values()}
    texts = {path: _text(path, network) for path in own}
    for path, name in own.items():
        is_same_import = name in _READ and _READ[name][0] is modules[name].__spec__
        if texts[path] != _READ[name][1] if is_same_import else _runs_other_code(modules[name], modules.values()):
            raise UserError(f"network={network}: {path} has changed since it was imported: start Python anew")
    _READ.update((name, (modules[name].__spec__, texts[path])) for path, name in own.items())
    return {str(path.relative_to(roots[path])): text for path, text in texts.items()}


def imported_anew() -> bool:
    """Whether a module was imported again since its source was read, as by ``importlib.reload``."""
    return any(name in sys.modules and sys.modules[name].__spec__ is not its for name, (its, _) in _READ.items())


def _text(path: Path, network: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"network={network} must be saved as UTF-8, and {path} is not: {first_line(error)}") from error


def _file(module: ModuleType) -> Path:
    return Path(module.__file__ or "").resolve()


def _runs_other_code(module: ModuleType, modules: Collection[ModuleType]) -> bool:
    """Whether any of these modules holds functions of ``module`` that differ from its file.

    Only functions are compared, and not in modules that are rewritten at import, as pytest does with tests.
    """
    if type(module.__loader__) is not SourceFileLoader:
        return False
    file = str(module.__file__)
    try:
        said = list(_inside(compile(Path(file).read_bytes(), file, "exec", dont_inherit=True)))
    except (SyntaxError, ValueError):
        return True
    names = {code.co_qualname for code in said}  # a reloaded module keeps functions that its file no longer has
    held = (code for holder in modules for value in list(vars(holder).values()) for code in _codes(value))
    return any(code.co_filename == file and code.co_qualname in names and code not in said for code in held)


def _inside(code: CodeType) -> Iterator[CodeType]:
    """The code of all functions that are defined in some code, at any depth."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inside(constant)


def _codes(value: Any) -> Iterator[CodeType]:
    """The code of a function, decorated or not, or of the methods of a class."""
    if isinstance(value, type):
        for part in list(vars(value).values()):
            if not isinstance(part, type):
                yield from _codes(part)
    elif isinstance(value, staticmethod | classmethod):
        yield from _codes(value.__func__)
    elif isinstance(value, property):
        yield from _codes(value.fget)
    elif isinstance(value, FunctionType):
        yield value.__code__
        yield from _codes(vars(value).get("__wrapped__"))
