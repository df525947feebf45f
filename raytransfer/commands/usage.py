"""What the command can be asked, and how it teaches that: every command, its flags, and what completes them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console

from raytransfer.commands.listing import LISTS
from raytransfer.config import options, plain_yaml, presets
from raytransfer.console.definitions import print_definitions
from raytransfer.errors import UserError
from raytransfer.experiments import EXPERIMENTS, Experiment

HELP_FLAGS = ("--help", "-h")
_JSON = {"--json": "print JSON, and the rest to standard error"}


@dataclass(frozen=True, kw_only=True)
class Usage:
    """One command.

    Attributes:
        arguments: What it takes.
        meaning: What it is for, in a line.
        example: A line to try.
        flags: Its flags and what they do.
        more: What else there is to know.
    """

    arguments: str
    meaning: str
    example: str
    flags: Mapping[str, str] = field(default_factory=dict)
    more: str = ""


_OPTIONS = "EXPERIMENT [name=value ...]"
COMMANDS = {
    "run": Usage(
        arguments=_OPTIONS,
        meaning="run what is missing of a sweep, then report",
        example="raytransfer run yosinski splits=8",
        more="raytransfer run EXPERIMENT --help lists every option of an experiment with its default.",
    ),
    "plan": Usage(
        arguments=_OPTIONS,
        meaning="what would run, and about how long",
        example="raytransfer plan yosinski data=cifar10",
        flags=_JSON,
        more="Nothing is written.",
    ),
    "report": Usage(
        arguments="EXPERIMENT [name=value ...] | STORE [name=value ...]",
        meaning="report what has finished of a sweep, or of every sweep of a store; run nothing",
        example="raytransfer report yosinski --markdown",
        flags={"--markdown": "print answer and tables as Markdown, for a paper or an issue", **_JSON},
        more="Of a store each sweep's options are those of its config.yaml. A folder that is called like an experiment "
        "is written ./yosinski.",
    ),
    "status": Usage(
        arguments="STORE",
        meaning="how the sweeps of a store stand, while one runs and afterwards",
        example="raytransfer status results",
        flags=_JSON,
        more="Nothing is written, and the sweep that runs may be on another machine.",
    ),
    "failures": Usage(
        arguments="STORE",
        meaning="which trials of a store failed, where they stand in its sweeps, and why",
        example="raytransfer failures results",
        flags=_JSON,
        more="raytransfer run ... mode=retry runs them again.",
    ),
    "compare": Usage(
        arguments="FIRST SECOND",
        meaning="what changed from one sweep to another: options, means and readings, paired by run",
        example="raytransfer compare results results-adamw",
        flags=_JSON,
        more="Each is a store, or the folder of a sweep within one.",
    ),
    "gc": Usage(
        arguments="STORE [KIND ...]",
        meaning="what of a store can go: weights nothing left to run reads, states, damaged and temporary files",
        example="raytransfer gc results states damaged --delete",
        flags={"--delete": "remove it, and not only say what can go", **_JSON},
        more="Kinds are checkpoints, bases, states, damaged and unfinished; all where none is named.",
    ),
    "list": Usage(
        arguments="[WHAT]",
        meaning="experiments, treatments, networks, distances, scores, probes or columns",
        example="raytransfer list treatments",
        flags=_JSON,
    ),
    "networks": Usage(
        arguments="NAME [name=value ...]",
        meaning="how a network is cut into layers",
        example="raytransfer networks torchvision/resnet18 image_size_px=64",
        more="Options are image_size_px, channels, classes, network_args, granularity and stages.",
    ),
    "completion": Usage(
        arguments="bash | zsh",
        meaning="a script that completes all of this in a shell",
        example='eval "$(raytransfer completion bash)"',
    ),
}
"""Every command by its name."""


def print_usage(console: Console) -> None:
    """Print what there is."""
    console.print("raytransfer: how transferable are a network's features, layer by layer, and why?\n", soft_wrap=True)
    console.print("Usage: raytransfer COMMAND ...\n", soft_wrap=True)
    rows = [(f"  {name} {usage.arguments}", usage.meaning) for name, usage in COMMANDS.items()]
    print_definitions(console, [*rows, ("  COMMAND --help", "more on one, with an example"), ("  --version", "")])
    _print_experiments(console)


def _print_experiments(console: Console) -> None:
    console.print("\nExperiments:")
    print_definitions(console, [(f"  {name}", experiment.question) for name, experiment in EXPERIMENTS.items()])


def print_command_help(console: Console, command: str) -> None:
    """Print what a command is for, its flags, and an example."""
    usage = COMMANDS[command]
    console.print(f"raytransfer {command} {usage.arguments}", soft_wrap=True)
    console.print(f"\n{usage.meaning[0].upper()}{usage.meaning[1:]}. {usage.more}".rstrip(), soft_wrap=True)
    console.print(f"\nExample: {usage.example}", soft_wrap=True)
    if usage.flags:
        console.print()
        print_definitions(console, [(f"  {flag}", meaning) for flag, meaning in usage.flags.items()])
    if _OPTIONS in usage.arguments:
        _print_experiments(console)


def print_experiment_help(
    console: Console, experiment: Experiment[Any], overrides: Sequence[str], usage: str, description: str
) -> None:
    """Print every option of an experiment, with its default for what is given."""
    rows = [
        (option.name, plain_yaml.one_line(option.default), option.meaning)
        for option in options(experiment.config, experiment.defaults, overrides)
    ]
    for part in description.strip().split("\n\n"):
        if part.startswith(" "):  # commands, which can be copied as long as no line is broken
            console.print(part, soft_wrap=True)
        else:
            console.print(part.replace("\n", " "))
        console.print()
    console.print(
        f"Usage: {usage} [name=value ...] [--plan] [--markdown] [--json] [--help]\n\n"
        "  --plan      show what would run and about how long, and stop\n"
        "  --markdown  with report: print answer and tables as Markdown\n"
        "  --json      with plan or report: print JSON\n"
        "  --help      show this; with data=... or preset=..., the defaults for that data set or preset\n",
        soft_wrap=True,
    )
    if names := presets(experiment.config, experiment.defaults):
        console.print(f"Presets: {', '.join(names)}\n", soft_wrap=True)
    print_definitions(console, [("option", "default", "meaning"), *rows])


def split(command: str, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line and its flags.

    Raises:
        UserError: A flag is not one of this command's.
    """
    known = {**COMMANDS[command].flags, "--help": ""}
    flags = [argument for argument in arguments if argument.startswith("-")]
    for flag in flags:
        if flag not in known:
            one = len(known) == 1
            raise UserError(f"{flag} is no flag of {command}; there {'is' if one else 'are'} {' and '.join(known)}")
    return [argument for argument in arguments if not argument.startswith("-")], flags


_GLUE = {
    "bash": """_raytransfer() {
  local word="${COMP_WORDS[COMP_CWORD]}" option=""
  if [[ "$word" == = ]]; then  # bash cuts words at it
    option="${COMP_WORDS[COMP_CWORD-1]}=" word=""
  elif (( COMP_CWORD > 2 )) && [[ "${COMP_WORDS[COMP_CWORD-1]}" == = ]]; then
    option="${COMP_WORDS[COMP_CWORD-2]}="
  fi
  COMPREPLY=($(compgen -W "$(_raytransfer_choices "$COMP_CWORD" "${COMP_WORDS[@]}")" -- "$option$word"))
  COMPREPLY=("${COMPREPLY[@]#"$option"}")
  if [[ -n "$option" && -z "${COMPREPLY[0]}" ]]; then COMPREPLY=("${COMPREPLY[@]:1}"); fi
  if [[ "${COMPREPLY[0]}" == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o default -F _raytransfer raytransfer""",
    "zsh": """_raytransfer() {
  local -a found=(${=$(_raytransfer_choices $((CURRENT - 1)) "${words[@]}")})
  compadd -S "" -- ${(M)found:#*=}
  local none=$?
  compadd -- ${found:#*=} || (( ! none )) || _files
}
whence compdef > /dev/null || { autoload -Uz compinit && compinit }
compdef _raytransfer raytransfer""",
}


def completion(shell: str) -> str:
    """A script that completes commands, experiments, names of options, presets and flags; else files, as stores are.

    Raises:
        UserError: It is not known for that shell.
    """
    if shell not in _GLUE:
        raise UserError(f"completion is there for {' and '.join(_GLUE)}, and got {shell}")
    named = {
        name: " ".join(
            [f"{option.name}=" for option in options(experiment.config, experiment.defaults, [])]
            + [f"preset={preset}" for preset in presets(experiment.config, experiment.defaults)]
        )
        for name, experiment in EXPERIMENTS.items()
    }
    of_experiments = "\n".join(f'      {name}) echo "{names}" ;;' for name, names in named.items())
    choices: dict[str, Collection[str]] = {"list": LISTS, "completion": _GLUE}
    of_commands = "\n".join(
        f'    {name}) echo "{" ".join([*choices.get(name, ()), *usage.flags, "--help"])}" ;;'
        for name, usage in COMMANDS.items()
    )
    return f"""_raytransfer_choices() {{
  if [ "$1" -eq 1 ]; then echo "{" ".join(COMMANDS)} --help --version"; return; fi
  case "$3" in run|plan|report)
    if [ "$1" -eq 2 ]; then echo "{" ".join(EXPERIMENTS)}"; return; fi
    case "$4" in
{of_experiments}
    esac ;;
  esac
  case "$3" in
{of_commands}
  esac
}}
{_GLUE[shell]}"""
