"""The command: read what is asked, do it, and end with a code that says how it went."""

import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from raytransfer.commands.listing import print_list, print_network
from raytransfer.commands.usage import (
    COMMANDS,
    HELP_FLAGS,
    completion,
    print_command_help,
    print_experiment_help,
    print_usage,
    split,
)
from raytransfer.config import SweepConfig, as_argument, differing, load_config
from raytransfer.console.logs import logged
from raytransfer.console.output import Output, new_console, plain_console, print_json
from raytransfer.errors import StorageError, UserError
from raytransfer.experiments import EXPERIMENTS, Experiment
from raytransfer.sweep.collector import lasting, release
from raytransfer.sweep.interrupts import EXIT_CODE, INTERRUPTED, interruptible

if TYPE_CHECKING:
    from raytransfer.commands.sweeping import Reported

_SWEEP_FLAGS = ("--plan", "--markdown", "--json", *HELP_FLAGS)


def main() -> None:
    """The command ``raytransfer``. Exit codes are those of ``run_script``."""
    arguments = sys.argv[1:]
    console = new_console()
    _exit(console, lambda: _command(console, *(arguments or ["--help"])))


def run_script(name: str, description: str) -> None:
    """Run an experiment as its script below ``sweeps/`` does, with the command line's options.

    Exit codes: 0 all trials are there; 1 some failed; 2 what was asked cannot be done; 3 the storage failed on the way;
    130 interrupted. Unless it is 0 or 2, the same command goes on from what is there. Standard output that cannot be
    written, since its disk is full, ends no sweep: the report's files are written, and the exit code is 3.

    Args:
        name: Key of ``EXPERIMENTS``.
        description: What ``--help`` says first.
    """
    console = new_console()
    experiment = EXPERIMENTS[name]
    usage = f"python sweeps/{experiment.script}.py"
    _exit(console, lambda: _sweep(console, experiment, sys.argv[1:], usage, description))


def _exit(console: Console, do: Callable[[], int]) -> None:
    """Do something and exit with its code, or with an error's in one line."""
    os.environ["MPLBACKEND"] = "agg"  # figures go to files alone, and a notebook's backend may not be there
    # Threads that wait for each other sleep: where other work has the cores, spinning took them 20 times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        with interruptible():
            _check_folder()
            code = do()
    except UserError as error:
        plain_console(stderr=True, soft_wrap=True).print(f"error: {error}")
        if not isinstance(error, StorageError):
            sys.exit(2)
        console.print("What finished is in the store; the same command goes on from there.", soft_wrap=True)
        sys.exit(3)
    except KeyboardInterrupt:
        try:
            console.print(INTERRUPTED, soft_wrap=True)
        finally:  # nothing is left to tidy up, and what is done at a usual exit may wait for what is gone
            os._exit(EXIT_CODE)
    if code == 0 and isinstance(console.file, Output) and console.file.lost:
        code = 3
    release()
    sys.exit(code)


def _check_folder() -> None:
    """Check that the folder that this process runs in is there: torch ends the process where it is not."""
    try:
        Path.cwd()
    except OSError as error:
        raise UserError(f"the current folder cannot be read: {error.strerror}; change to one that is there") from error


def _command(console: Console, command: str, *arguments: str) -> int:
    """One command of ``raytransfer``; gives the exit code."""
    if command in HELP_FLAGS:
        print_usage(console)
        return 0
    if command == "--version":
        console.print(f"raytransfer {importlib.metadata.version('raytransfer')}")
        return 0
    if command not in COMMANDS:
        *names, last = COMMANDS
        raise UserError(f"{command} is no command; there are {', '.join(names)} and {last} (raytransfer --help)")
    takes_experiment = command in ("run", "plan", "report")
    of_experiment = takes_experiment and bool(arguments) and arguments[0] in EXPERIMENTS  # which has help of its own
    if not of_experiment and any(argument in HELP_FLAGS for argument in arguments):
        print_command_help(console, command)
        return 0
    return _experiment(console, command, arguments) if takes_experiment else _other(console, command, arguments)


def _experiment(console: Console, command: str, arguments: Sequence[str]) -> int:
    """A command that takes an experiment."""
    name, *rest = arguments or ["nothing"]
    added = {"run": [], "plan": ["--plan"], "report": ["mode=read-only"]}[command]
    if name in EXPERIMENTS:
        experiment = EXPERIMENTS[name]
        return _sweep(console, experiment, [*rest, *added], f"raytransfer {command} {name}", experiment.question)
    if command != "report":
        raise UserError(f"{command} takes an experiment, one of {', '.join(EXPERIMENTS)}, and got {name}")
    return _report_store(console, name, rest)


def _report_store(console: Console, root: str, arguments: Sequence[str]) -> int:
    """Report every sweep of a store, each with the options that its folder has."""
    overrides, flags = split("report", arguments)
    with lasting():
        from raytransfer.commands.opening import experiment_of, options_of, sweeps_of

    if "/" not in root and not Path(root).exists():
        raise UserError(f"report takes an experiment, one of {', '.join(EXPERIMENTS)}, or a store, and got {root}")
    code, refused, told = 0, [], []
    as_markdown, as_json = _forms(flags)
    beside = _beside() if as_markdown or as_json else console
    store, names = sweeps_of(root)
    for name in names:
        (beside if as_json else console).print(f"\n## {name}\n" if as_markdown else f"\n{name}", soft_wrap=True)
        try:
            experiment = experiment_of(name)
            content, _ = options_of(store, f"sweeps/{name}")
            config = _config_of(experiment, content, [*overrides, f"out={root}", "mode=read-only"])
            given = [(option.name, value) for option, value in differing(config, experiment.defaults)]
            asked = [as_argument(option, value) for option, value in given if option != "mode"]
            reported = _run(beside, experiment, config, asked)
            code = max(code, reported.code)
            made = reported.folder.rpartition("/")[2]
            if made != name:
                beside.print(f"With these options, and this raytransfer, {name} is {made}", soft_wrap=True)
            if as_markdown:
                _print_markdown(console, reported)
            if as_json:
                told.append(reported.as_json)
        except UserError as error:
            if isinstance(error, StorageError):  # it would be as slow to say so for the next one
                raise UserError(str(error)) from error
            refused.append(f"{name}: {error}")
    if as_json:
        print_json(console, told)
    if refused:  # the other sweeps have their reports
        raise UserError("; ".join(refused))
    return code


def _config_of(experiment: Experiment[Any], content: bytes, overrides: Sequence[str]) -> SweepConfig:
    """The options that a sweep's folder has, as YAML, with others in place of some."""
    try:
        with tempfile.TemporaryDirectory(prefix="raytransfer-") as folder:
            yaml = Path(folder, "config.yaml")
            yaml.write_bytes(content)
            config: SweepConfig = load_config(experiment.config, yaml, overrides)
    except OSError as error:  # its disk may be full
        raise UserError(f"the folder for temporary files cannot be written: {error}; name another as TMPDIR") from None
    return config


def _other(console: Console, command: str, arguments: Sequence[str]) -> int:
    """A command that takes no experiment."""
    words, flags = split(command, arguments)
    as_json = "--json" in flags
    if command == "networks":
        print_network(console, words)
        return 0
    if command == "list":
        if len(words) > 1:
            raise UserError(f"list takes one thing to list, and got {' '.join(words)}")
        print_list(console, words[0] if words else "experiments", as_json=as_json)
        return 0
    wanted = {"compare": 2, "gc": len(words) or 1}.get(command, 1)
    if len(words) != wanted:
        raise UserError(
            f"{command} takes {COMMANDS[command].arguments}, and got {' '.join(words) or 'nothing'}: "
            f"{COMMANDS[command].example}"
        )
    if command == "completion":
        console.out(completion(words[0]), highlight=False)
        return 0
    with lasting():
        # Imported here so that --help and what is mistyped need not wait for torch.
        from raytransfer.commands.cleaning import print_garbage
        from raytransfer.commands.comparing import print_comparisons
        from raytransfer.commands.failed import print_failures
        from raytransfer.commands.status import print_status

    with logged(_beside() if as_json else console):
        if command == "status":
            print_status(console, words[0], as_json=as_json)
        elif command == "failures":
            print_failures(console, words[0], as_json=as_json)
        elif command == "compare":
            print_comparisons(console, *words, as_json=as_json)
        else:
            print_garbage(console, words[0], words[1:], delete="--delete" in flags, as_json=as_json)
    return 0


def _sweep(
    console: Console, experiment: Experiment[Any], arguments: Sequence[str], usage: str, description: str
) -> int:
    """Plan, run or report an experiment with the arguments of a command line; gives the exit code."""
    flags = [argument for argument in arguments if argument.startswith("-")]
    overrides = [argument for argument in arguments if not argument.startswith("-")]
    for flag in flags:
        if flag not in _SWEEP_FLAGS:
            raise UserError(
                f"{flag} is no flag; there are --plan, --markdown, --json and --help, and options as name=value"
            )
    if any(flag in HELP_FLAGS for flag in flags):
        print_experiment_help(console, experiment, overrides, usage, description)
        return 0
    config = load_config(experiment.config, experiment.defaults, overrides)
    plan_only, (as_markdown, as_json) = "--plan" in flags, _forms(flags)
    if as_markdown and (plan_only or config.mode != "read-only"):
        raise UserError("--markdown goes with raytransfer report, which runs nothing (mode=read-only)")
    if as_json and not plan_only and config.mode != "read-only":
        raise UserError("--json goes with raytransfer plan, and with raytransfer report (mode=read-only)")
    if plan_only:
        return _plan(console, experiment, config, as_json=as_json)
    asked = [override for override in overrides if not override.startswith("mode=")]
    reported = _run(_beside() if as_markdown or as_json else console, experiment, config, asked)
    if as_markdown:
        _print_markdown(console, reported)
    if as_json:
        print_json(console, [reported.as_json])
    return reported.code


def _forms(flags: Sequence[str]) -> tuple[bool, bool]:
    """Whether Markdown is asked for, and whether JSON.

    Standard output then gets that alone, and the rest goes to standard error.
    """
    as_markdown, as_json = "--markdown" in flags, "--json" in flags
    if as_markdown and as_json:
        raise UserError("--markdown and --json are two forms of one report: give one of them")
    return as_markdown, as_json


def _plan(console: Console, experiment: Experiment[Any], config: SweepConfig, *, as_json: bool) -> int:
    """Plan a sweep; as JSON, standard output gets that alone, and the rest goes to standard error."""
    with lasting():
        from raytransfer.commands.forecasting import forecast, print_forecast
        from raytransfer.commands.planning import plan_as_json, plan_sweep

    output, console = console, _beside() if as_json else console
    with logged(console):
        plan, todo, store = plan_sweep(console, experiment, config)
        found = forecast(console, plan, todo, config)
    if found is not None:
        print_forecast(console, found, plan, config)
    if as_json:
        print_json(output, plan_as_json(plan, todo, store, found, config.price_per_hour))
    return 0


def _run(console: Console, experiment: Experiment[Any], config: SweepConfig, asked: Sequence[str]) -> "Reported":
    """Run and report a sweep."""
    with lasting():
        from raytransfer.commands.sweeping import run_sweep

    with logged(console):
        return run_sweep(console, experiment, config, asked)


def _print_markdown(console: Console, reported: "Reported") -> None:
    from raytransfer.report.grids import markdown

    console.print(markdown(reported.report), soft_wrap=True)


def _beside() -> Console:
    """Standard error, where people look on while standard output goes elsewhere."""
    return plain_console(stderr=True)
