"""What a trial needs of others, and in which order trials run."""

from collections.abc import Collection, Iterable, Mapping

from raytransfer.specs import (
    DistanceSpec,
    Imported,
    MeasureSpec,
    ProbeSpec,
    ScoreSpec,
    Trained,
    TrainingSpec,
    TransferSpec,
    TrialSpec,
    Weights,
)


def reads(spec: TrialSpec) -> list[Weights]:
    """The weights that a trial reads, whoever made them."""
    found: list[Weights | None] = []
    if isinstance(spec, TransferSpec):
        found = [spec.weights]
    elif isinstance(spec, ScoreSpec):
        found = [spec.weights, spec.reference]
    elif isinstance(spec, DistanceSpec):
        found = [spec.reference]
    elif isinstance(spec, ProbeSpec):
        found = [Trained(training=spec.trained, step=spec.step), spec.other]
        if spec.since is not None:
            found.append(Trained(training=spec.trained, step=spec.since))
    return [weights for weights in found if weights is not None]


def needs(spec: TrialSpec) -> list[Trained]:
    """Those of them that another trial has to train first."""
    return [weights for weights in reads(spec) if isinstance(weights, Trained)]


def checkpoints_read(spec: TrialSpec) -> list[str]:
    """What a trial needs, as IDENTITY/STEP."""
    return [f"{weights.training.id}/{weights.step}" for weights in needs(spec)]


def imports(specs: Iterable[TrialSpec]) -> dict[str, Imported]:
    """The imported weights that some of these trials read, by digest: they have to be in the store before."""
    return {weights.digest: weights for spec in specs for weights in reads(spec) if isinstance(weights, Imported)}


_LONG = ("flatness", "landscape", "initial-landscape")  # probes that take too long to wait for each other


def batch_of(spec: TrialSpec) -> str | None:
    """A key shared by short measurements that one process should run in a row; None for other trials.

    They read the same images and networks, which the process then loads once.
    """
    if isinstance(spec, ScoreSpec):
        step = spec.weights.step
        return f"{spec.weights.source_id} {step} {spec.task.fingerprint} {spec.task.label} {spec.seed}"
    if isinstance(spec, DistanceSpec):
        return (
            f"{spec.source.fingerprint} {spec.source.label} {spec.target.fingerprint} {spec.target.label} {spec.seed}"
        )
    if isinstance(spec, ProbeSpec) and spec.probe not in _LONG:
        return spec.trained.id
    return None


def in_order(specs: Iterable[TrialSpec]) -> dict[str, TrialSpec]:
    """The distinct trials by identity: those that others need, then trainings, longest first, then measurements.

    Trainings that trials need the weights of are added. Measurements of one batch follow each other.
    """
    found: dict[str, TrialSpec] = {}
    needed: set[str] = set()
    left = list(specs)
    while left:
        spec = left.pop()
        if spec.id not in found:
            found[spec.id] = spec
            trainings = [weights.training for weights in needs(spec)]
            needed.update(training.id for training in trainings)
            left += trainings
    return dict(sorted(found.items(), key=lambda item: (item[0] not in needed, *_rank(item[1]), item[0])))


_ONE_SCOUT_IN = 20
_LOOKED_AT = 100  # for the next scout, as large sweeps have thousands of a kind


def scouts_first(specs: Mapping[str, TrialSpec], slots: int) -> dict[str, TrialSpec]:
    """The same trials, with some of each kind (``alike``) moved to the front, so that the time left is known early.

    Of each kind one in 20 is moved, at least one, with the trials it needs. Of measurements it is one more per slot, as
    the first in a process also imports libraries; a batch moves together and counts as one. Out of the next 100, those
    are moved that need the fewest other trials.
    """
    batches: dict[tuple[str, str], list[str]] = {}  # by what they have in common, or by the only trial in it
    kinds: dict[tuple[str | int, ...], dict[tuple[str, str], None]] = {}  # the batches of each, in order
    for trial, spec in specs.items():
        shared = batch_of(spec)
        batch = ("", trial) if shared is None else (shared, "")
        batches.setdefault(batch, []).append(trial)
        kinds.setdefault(alike(spec), {})[batch] = None
    measured = {alike(spec) for spec in specs.values() if isinstance(spec, MeasureSpec)}
    scouts: set[str] = set()
    taken: set[tuple[str, str]] = set()
    for kind, of_kind in kinds.items():
        wanted = max(1, len(of_kind) // _ONE_SCOUT_IN) + (slots if kind in measured else 0)
        while len(of_kind.keys() & taken) < wanted and (left := [batch for batch in of_kind if batch not in taken]):
            more = {batch: _not_yet(batches[batch], specs, scouts) for batch in left[:_LOOKED_AT]}
            nearest = min(more, key=lambda batch: len(more[batch]))
            taken.add(nearest)
            scouts |= more[nearest]
    return dict(sorted(specs.items(), key=lambda item: item[0] not in scouts))


def _not_yet(trials: Iterable[str], specs: Mapping[str, TrialSpec], there: Collection[str]) -> set[str]:
    """These trials and those they need, as far as they are to run and not in ``there``."""
    found: set[str] = set()
    left = list(trials)
    while left:
        trial = left.pop()
        if trial in specs and trial not in there and trial not in found:
            found.add(trial)
            left += [weights.training.id for weights in needs(specs[trial])]
    return found


def _rank(spec: TrialSpec) -> tuple[float, str]:
    """Sort key of a trial among those that others need, or among the rest."""
    if isinstance(spec, MeasureSpec):
        depth = spec.n_layers or 0 if isinstance(spec, DistanceSpec | ScoreSpec) else 0
        batch = batch_of(spec)
        return (1.0, f"{batch} {depth:3}") if batch else (0.0, "")  # the long ones first, so that slots end together
    return -rough_length(spec), ""


def rough_length(spec: TrainingSpec) -> float:
    """About how long a training takes, in steps in which all layers train: each frozen layer saves its part of them."""
    return spec.recipe.steps * max(0.1, 1 - 0.08 * spec.surgery.frozen_layers)


def checkpoint_steps(specs: Iterable[TrialSpec]) -> dict[str, frozenset[int]]:
    """For each training, the steps at which some of these trials read its weights."""
    steps: dict[str, frozenset[int]] = {}
    for spec in specs:
        for weights in needs(spec):
            training = weights.training.id
            steps[training] = steps.get(training, frozenset()) | {weights.step}
    return steps


def alike(spec: TrialSpec) -> tuple[str | int, ...]:
    """A key that trials share if they take about the same time.

    For a training: its network, steps, labels and frozen layers. For a measurement: its kind, what is measured, and how
    deep or wide.
    """
    if isinstance(spec, TrainingSpec):
        return spec.network.name, spec.recipe.steps, spec.task.label_count, spec.surgery.frozen_layers
    if isinstance(spec, ProbeSpec):
        return spec.kind, spec.trained.network.name, spec.probe, spec.trained.surgery.frozen_layers
    if isinstance(spec, DistanceSpec | ScoreSpec):
        return spec.kind, spec.measure, spec.n_layers or 0
    return spec.kind, "", spec.width
