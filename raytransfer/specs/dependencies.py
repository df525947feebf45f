"""What a trial needs of others, and in which order trials can run."""

from collections.abc import Iterable

from raytransfer.specs import (
    DistanceSpec,
    MeasureSpec,
    ProbeSpec,
    ScoreSpec,
    SimulationSpec,
    TrainingSpec,
    TransferSpec,
    TrialSpec,
)


def needs(spec: TrialSpec) -> list[tuple[TrainingSpec, int]]:
    """The trainings whose weights a trial reads, each with the training step of its checkpoint."""
    if isinstance(spec, TransferSpec):
        return [(spec.base, spec.pretrain_step)] if spec.base is not None and spec.pretrain_step is not None else []
    if isinstance(spec, ScoreSpec):
        reference = [(spec.reference, spec.reference.recipe.steps)] if spec.reference else []
        return [(spec.base, spec.pretrain_step), *reference]
    if isinstance(spec, DistanceSpec):
        return [(spec.probe, spec.probe.recipe.steps)] if spec.probe else []
    if isinstance(spec, ProbeSpec):
        found = [(spec.trained, spec.step)]
        found += [(spec.trained, spec.since)] if spec.since is not None else []
        return found + ([(spec.other, spec.other_step)] if spec.other and spec.other_step is not None else [])
    return []


def frozen_layers(spec: TrialSpec) -> int:
    """How many layers of a trial stay as they are: n for a frozen transfer, else none."""
    return spec.n_layers if isinstance(spec, TransferSpec) and spec.frozen else 0


_LONG = ("flatness", "landscape", "initial-landscape")  # probes that take too long to wait for each other


def batch_of(spec: TrialSpec) -> str | None:
    """What short measurements have in common that one process does best one after the other; None for other trials.

    They read the same images and networks, which it then reads and runs once.
    """
    if isinstance(spec, ScoreSpec):
        return f"{spec.base.id} {spec.pretrain_step} {spec.task.fingerprint} {spec.task.label} {spec.seed}"
    if isinstance(spec, DistanceSpec):
        return (
            f"{spec.source.fingerprint} {spec.source.label} {spec.target.fingerprint} {spec.target.label} {spec.seed}"
        )
    if isinstance(spec, ProbeSpec) and spec.probe not in _LONG:
        return spec.trained.id
    return None


def in_order(specs: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """The distinct trials by identity: those that others need, then the longest training first, then measurements.

    What a trial reads the weights of counts even where it is not among the specs. Measurements that one process does
    best follow each other.
    """
    found: dict[str, TrialSpec] = {}
    needed: set[str] = set()
    left = list(specs)
    while left:
        spec = left.pop()
        if spec.id not in found:
            found[spec.id] = spec
            trainings = [training for training, _ in needs(spec)]
            needed.update(training.id for training in trainings)
            left += trainings
    return dict(sorted(found.items(), key=lambda item: (item[0] not in needed, *_rank(item[1]), item[0])))


def _rank(spec: TrialSpec) -> tuple[float, str]:
    """Where a trial stands among the needed, or among the others."""
    if isinstance(spec, MeasureSpec):
        depth = spec.n_layers or 0 if isinstance(spec, DistanceSpec | ScoreSpec) else 0
        batch = batch_of(spec)
        return (1.0, f"{batch} {depth:3}") if batch else (0.0, "")  # the long ones first, so that slots end together
    # A rough length: each frozen layer saves its part of the backward pass.
    return -spec.recipe.steps * (1 - 0.08 * frozen_layers(spec)), ""


def checkpoint_steps(specs: Iterable[TrialSpec]) -> dict[str, frozenset[int]]:
    """For each training, the steps at which some of these trials read its weights."""
    steps: dict[str, frozenset[int]] = {}
    for spec in specs:
        for training, step in needs(spec):
            steps[training.id] = steps.get(training.id, frozenset()) | {step}
    return steps


def kind_of(spec: MeasureSpec) -> tuple[str, str, int]:
    """Measurements of one kind take about the same time: what is measured, of what, and how deep or wide."""
    if isinstance(spec, ProbeSpec):
        return "probe", spec.probe, frozen_layers(spec.trained)
    if isinstance(spec, SimulationSpec):
        return "simulation", "", spec.width
    return type(spec).__name__, spec.measure, spec.n_layers or 0
