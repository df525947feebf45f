"""Which arithmetic trainings compute in, where a sweep leaves that to the processor: ``recipe.precision=auto``."""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from rich.console import Console

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.networks import Shape, build
from raytransfer.specs import NetworkSpec, TrainingSpec
from raytransfer.store import Store, finished
from raytransfer.sweep.plan import Cell, Plan, SomeCell
from raytransfer.words import number_of

_AMPERE = 8  # compute capability from which NVIDIA's GPUs have instructions for bf16
Config = TypeVar("Config", bound=SweepConfig)

_BF16 = ("amx_bf16", "avx512_bf16", "bf16", "sve_bf16")  # what PyTorch calls such instructions of x86 and ARM


def settled(
    config: Config, store: Store, make_plan: Callable[[Config], Plan[SomeCell, Any]]
) -> tuple[Config, Plan[SomeCell, Any], str]:
    """A sweep's configuration with its precision settled, its plan, and in a line what was chosen and why.

    ``auto`` is bf16 where this machine's GPU, or its CPU where it has none, has instructions for it, and else fp32; on
    a CPU it is fp32, too, for networks with depthwise convolutions, which take 1.3 to 2.2 times as long in bf16. A
    sweep that finished trainings before keeps what those have, so that nothing trains twice. Of a Ray cluster the
    machine that starts the sweep counts: where its workers compute otherwise, give the precision.

    Args:
        config: The sweep's options.
        store: Where its results go.
        make_plan: Gives the plan of a configuration.
    """
    if not isinstance(config, TrainingConfig) or config.recipe.precision != "auto":
        return config, make_plan(config), ""
    native, why = native_precision()
    first, other = ("bf16", "fp32") if native == "bf16" else ("fp32", "bf16")
    chosen = replace(config, recipe=replace(config.recipe, precision=first))
    plan = make_plan(chosen)
    if first == "bf16" and not torch.cuda.is_available() and _has_depthwise(plan):
        first, other, why = "fp32", "bf16", "CPUs compute depthwise convolutions faster in it"
        chosen = replace(config, recipe=replace(config.recipe, precision=first))
        plan = make_plan(chosen)
    done = finished(store) if config.mode != "force" and store.is_made() else set()
    if done and not _trained(plan, done):
        before = replace(config, recipe=replace(config.recipe, precision=other))
        plan_before = make_plan(before)
        if count := _trained(plan_before, done):
            kept = f"recipe.precision=auto: {other}, as {number_of(count, 'training')} of this sweep had it"
            return before, plan_before, f"{kept}; anew it would be {first}, for {why}"
    return chosen, plan, f"recipe.precision=auto: {first}, for {why}"


def native_precision() -> tuple[str, str]:
    """The fastest precision that this machine has instructions for, ``bf16`` or ``fp32``, and why."""
    if torch.cuda.is_available():
        has = torch.cuda.get_device_capability()[0] >= _AMPERE
        processor = torch.cuda.get_device_name()
    else:
        capabilities = cpu_capabilities()
        has = any(capabilities.get(name) for name in _BF16)
        processor = f"this machine's {os.uname().machine} CPU"
    return ("bf16", f"{processor} computes it natively") if has else ("fp32", f"{processor} is not known to have bf16")


def cpu_capabilities() -> dict[str, Any]:
    """What PyTorch says of this machine's CPU; nothing where it does not tell, as torch 2.11."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return told


def print_slow_arithmetic(console: Console, config: TrainingConfig) -> None:
    """Say so if this processor has to emulate bf16: a training step then takes a multiple of its time in fp32."""
    has = cpu_capabilities()
    lacks = has.get("architecture") == "x86_64" and not (has.get("avx512_bf16") or has.get("amx_bf16"))
    if config.recipe.precision == "bf16" and lacks:
        console.print(
            "recipe.precision=bf16 is slow here: this processor has no instructions for it, and fp32 would be several "
            "times as fast",
            soft_wrap=True,
        )


def _has_depthwise(plan: Plan[Cell, Any]) -> bool:
    """Whether a network of the plan has convolutions each of whose filters reads one channel."""
    images: dict[NetworkSpec, Shape] = {
        training.network: training.recipe.seen_shape(plan.datasets[training.task.fingerprint].train_images.shape[1:])
        for training in plan.trainings
    }
    return any(
        isinstance(module, torch.nn.Conv2d) and module.groups == module.in_channels > 1
        for network, image in images.items()
        for module in build(network, image=image, classes=2, seed=0).module.modules()
    )


def _trained(plan: Plan[Cell, Any], done: set[str]) -> int:
    """How many trainings of a plan have finished."""
    return sum(isinstance(spec, TrainingSpec) for trial, spec in plan.trials.items() if trial in done)
