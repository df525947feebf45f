"""What a trial needs of others, and in which order trials can run."""

from collections.abc import Iterable, Sequence

from raytransfer.specs import DistanceSpec, PretrainSpec, ScoreSpec, TransferSpec, TrialSpec


def needs(spec: TrialSpec) -> list[tuple[PretrainSpec, int]]:
    """The bases whose weights a trial reads, each with the training step of its checkpoint."""
    if isinstance(spec, TransferSpec):
        return [(spec.base, spec.pretrain_step)] if spec.base is not None and spec.pretrain_step is not None else []
    if isinstance(spec, ScoreSpec):
        reference = [(spec.reference, spec.reference.recipe.steps)] if spec.reference else []
        return [(spec.base, spec.pretrain_step), *reference]
    if isinstance(spec, DistanceSpec):
        return [(spec.probe, spec.probe.recipe.steps)] if spec.probe else []
    return []


def frozen_layers(spec: TrialSpec) -> int:
    """How many layers of a trial stay as they are: n for a frozen transfer, else none."""
    return spec.n_layers if isinstance(spec, TransferSpec) and spec.frozen else 0


def batch_of(spec: TrialSpec) -> str | None:
    """What measurements have in common that one process does best one after the other; None for a training.

    They read the same images and networks, which it then reads and runs once.
    """
    if isinstance(spec, ScoreSpec):
        return f"{spec.base.id} {spec.pretrain_step} {spec.task.fingerprint} {spec.task.label} {spec.seed}"
    if isinstance(spec, DistanceSpec):
        return (
            f"{spec.source.fingerprint} {spec.source.label} {spec.target.fingerprint} {spec.target.label} {spec.seed}"
        )
    return None


def in_order(specs: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """The distinct trials by identity: bases that others need, then the longest training first, then measurements.

    Bases count even where they are not among the specs: what reads their weights needs them. Measurements that one
    process does best follow each other.
    """
    found: dict[str, TrialSpec] = {}
    for spec in specs:
        for base, _ in needs(spec):
            found[base.id] = base
        found[spec.id] = spec
    needed = {base.id for spec in found.values() for base, _ in needs(spec)}
    return dict(sorted(found.items(), key=lambda item: (item[0] not in needed, *_rank(item[1]), item[0])))


def _rank(spec: TrialSpec) -> tuple[float, str]:
    """Where a trial stands among the needed, or among the others."""
    if isinstance(spec, DistanceSpec | ScoreSpec):
        return 1.0, f"{batch_of(spec)} {spec.n_layers or 0:3}"
    # A rough length: each frozen layer saves its part of the backward pass.
    return -spec.recipe.steps * (1 - 0.08 * frozen_layers(spec)), ""


def checkpoint_steps(specs: Sequence[TrialSpec]) -> dict[str, frozenset[int]]:
    """For each base, the training steps at which some trial needs its weights."""
    steps: dict[str, frozenset[int]] = {}
    for spec in specs:
        for base, step in needs(spec):
            steps[base.id] = steps.get(base.id, frozenset()) | {step}
    return steps
