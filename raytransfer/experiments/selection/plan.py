"""Which checkpoint to start from: from its configuration to a plan."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytransfer.config.rules import as_list, check_names
from raytransfer.errors import UserError
from raytransfer.experiments.checks import check_told_apart, checked_setup, data_source, without_cuts
from raytransfer.experiments.probing import with_probes
from raytransfer.experiments.selection.cells import Candidate, SelectionCell, scored, trainings
from raytransfer.experiments.selection.config import SelectionConfig
from raytransfer.experiments.weights import Checkpoint, checkpoint, read
from raytransfer.networks import Shape, build
from raytransfer.report.rows import places_of
from raytransfer.scores import SCORES
from raytransfer.specs import TaskSpec
from raytransfer.storage.addresses import without_options
from raytransfer.store import Store, read_table
from raytransfer.sweep.plan import Plan, Read, plan_of
from raytransfer.tasks import Dataset, DataSource, class_indices, open_dataset, task_spec

_TARGET_KEYS = ("data", "classes")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a checkpoint before anything is measured.

    Attributes:
        network: Its network.
        parameters: Numbers in the network's parameters, with a head for the first target.
        accuracy: Published top-1 accuracy on its own data, 0..1; None where it is not known.
        stages: Names of its network's stages, the head last.
    """

    network: str
    parameters: int
    accuracy: float | None
    stages: tuple[str, ...]


Design = Mapping[str, Known]
"""What is known of every checkpoint, by name."""

SelectionPlan = Plan[SelectionCell, Design]

_ALIKE = 5.0  # times the smallest norm of a fresh head, up to which heads count as starting alike


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """A checkpoint that has been read and fits the images of every target.

    Its ``head_norm`` is the mean norm of the weights of one class in its fresh head.
    """

    candidate: Candidate
    known: Known
    read: Read
    opened: list[tuple[DataSource, Dataset]]
    config: SelectionConfig
    shape: Shape
    head_norm: float


def make_plan(config: SelectionConfig) -> SelectionPlan:
    """Open the data for every checkpoint and read it, checking everything that can be checked before training.

    With ``best`` the plan has the scores alone; the one that follows it has the trainings of those that they choose.

    Raises:
        UserError: Something asked for cannot be done.
    """
    entries = as_list(config.weights)
    if not entries or None in entries:
        raise UserError("weights has no value: name the checkpoints, as weights=[torchvision/resnet18@IMAGENET1K_V1]")
    if config.best is not None and config.best > len(entries):
        raise UserError(f"best={config.best} must not exceed the number of checkpoints: weights name {len(entries)}")
    check_names("scores", config.scores, [name for name, score in SCORES.items() if score.reads != "reference"])
    checkpoints = told_apart([checkpoint(entry, config) for entry in entries])
    twice = [label for label, count in Counter(entry.label for entry in checkpoints).items() if count > 1]
    if twice:
        raise UserError(f"weights name {twice[0]} twice: give one of them another label")
    prepared = [_prepared(entry) for entry in checkpoints]
    cells = [cell for one in prepared for cell in _scored(one)]
    if config.best is None:
        told = [] if config.scores else without_cuts(config, config.treatments)
        return _plan(prepared, [*cells, *(cell for one in prepared for cell in _trained(one))], told)

    def then(store: Store) -> SelectionPlan:
        best = _best(config, prepared, cells, store)
        return _plan(prepared, [*cells, *(cell for one in best for cell in _trained(one))])

    return replace(_plan(prepared, cells), then=then)


def told_apart(checkpoints: Sequence[Checkpoint[SelectionConfig]]) -> list[Checkpoint[SelectionConfig]]:
    """The checkpoints; of those with one label of ours, as resnet18@default of two libraries, with longer ones."""
    counts = Counter(entry.label for entry in checkpoints)
    return [
        replace(entry, source=replace(entry.source, label=entry.source.full_label))
        if counts[entry.label] > 1 and entry.label == entry.source.short_label
        else entry
        for entry in checkpoints
    ]


def _plan(prepared: Sequence[_Prepared], cells: Sequence[SelectionCell], accounts: Sequence[str] = ()) -> SelectionPlan:
    opened = {dataset.fingerprint: (source, dataset) for one in prepared for source, dataset in one.opened}
    design: Design = {one.candidate.name: one.known for one in prepared}
    accounts = [*_unlike_heads(prepared), *accounts]
    return plan_of(cells, list(opened.values()), design, [one.read for one in prepared], accounts)


def _unlike_heads(prepared: Sequence[_Prepared]) -> list[str]:
    """Say that fresh heads start at different sizes, which may decide what trains best, if they do."""
    norms = {one.candidate.name: one.head_norm for one in prepared if one.head_norm > 0}  # of 0 all classes start alike
    if not norms or max(norms.values()) <= _ALIKE * min(norms.values()):
        return []
    least, most = (f"{of(norms.values()):.2g} ({of(norms, key=lambda name: norms[name])})" for of in (min, max))
    return [
        f"fresh heads start unlike: the weights of a class have a norm of {least} to {most}; what a large one has to "
        "unlearn counts against its checkpoint; init=gaussian draws all heads alike"
    ]


def _scored(one: _Prepared) -> list[SelectionCell]:
    """The scores of a checkpoint: those of the head only where the weights have one."""
    has_head = one.candidate.weights.outputs is not None
    fitting = [name for name in one.config.scores if SCORES[name].reads != "head" or has_head]
    return scored(one.candidate, fitting, one.config.images)


def _trained(one: _Prepared) -> list[SelectionCell]:
    return with_probes(trainings(one.candidate, one.config.treatments), one.config, one.shape)


def _best(
    config: SelectionConfig, prepared: Sequence[_Prepared], cells: Sequence[SelectionCell], store: Store
) -> list[_Prepared]:
    """The checkpoints that the score ranks highest, on its mean rank over targets and seeds.

    Where none has been scored yet, those that were named first.
    """
    last = {one.candidate.name: one.candidate.setup.depth - 1 for one in prepared}
    chosen = [cell for cell in cells if cell.measure == config.rank_by]
    chosen = [cell for cell in chosen if cell.n_layers in (None, last[cell.checkpoint])]
    values = places_of(chosen, ["checkpoint", "target", "seed"]).merge(read_table(store, "scores")[["id", "value"]])
    ranks = values.groupby(["target", "seed"])["value"].rank(ascending=False)
    means = ranks.groupby(values["checkpoint"]).mean()
    order = sorted(prepared, key=lambda one: float(means.get(one.candidate.name, len(prepared) + 1)))
    return order[: config.best]


def _prepared(entry: Checkpoint[SelectionConfig]) -> _Prepared:
    config = entry.config
    opened: dict[str, tuple[DataSource, Dataset]] = {}
    tasks: dict[tuple[str, int], TaskSpec] = {}
    for name, data, classes in _targets(config):
        if data not in opened:
            source = data_source(config, data)
            opened[data] = source, open_dataset(source)
        dataset = opened[data][1]
        wanted = (
            range(len(dataset.class_names)) if classes is None else class_indices(dataset, f"target {name}", classes)
        )
        for seed in range(config.seeds):
            tasks[name, seed] = task_spec(dataset, wanted, config.train_per_class, seed)
    check_told_apart(opened.values())
    shapes = {dataset.train_images.shape[1:] for _, dataset in opened.values()}
    if len(shapes) > 1:
        sizes = " and ".join("x".join(map(str, shape)) for shape in sorted(shapes))
        raise UserError(f"targets have images of {sizes}: give image_size_px=... and channels=1 or 3 for all")
    (shape,) = shapes
    setup = checked_setup(config, shape, {task.label_count for task in tasks.values()})
    found = read(entry, setup, shape)
    first = next(iter(tasks.values()))
    image = setup.recipe.seen_shape(shape)
    network = build(setup.network, image=image, classes=first.label_count, seed=0)
    head = [tensor for _, tensor in network.tensors(setup.depth - 1) if tensor.shape[:1] == (first.label_count,)]
    norms = [tensor.detach().norm(dim=1).mean().item() for tensor in head if tensor.ndim == 2]
    return _Prepared(
        candidate=Candidate(name=entry.label, weights=found.weights, setup=setup, tasks=tasks),
        known=Known(
            network=setup.network.name,
            parameters=sum(parameter.numel() for parameter in network.module.parameters()),
            accuracy=entry.accuracy,
            stages=setup.stages,
        ),
        read=found,
        opened=list(opened.values()),
        config=config,
        shape=shape,
        head_norm=max(norms, default=0.0),
    )


def _targets(config: SelectionConfig) -> list[tuple[str, str, list[Any] | None]]:
    """Name, data set and classes of each target."""
    if not isinstance(config.targets, Mapping):
        raise UserError(f"targets={config.targets} must be named, as {{mine: {{data: /path, classes: [cat, dog]}}}}")
    if not config.targets:
        return [(without_options(config.data).rpartition("/")[2], config.data, None)]
    found: list[tuple[str, str, list[Any] | None]] = []
    for name, entry in config.targets.items():
        if not isinstance(entry, Mapping) or set(entry) - {*_TARGET_KEYS}:
            raise UserError(f"target {name} is {entry}: it must be a mapping of {' and '.join(_TARGET_KEYS)}")
        classes = entry.get("classes")
        if classes is not None and not isinstance(classes, list):
            raise UserError(f"target {name} has classes={classes}: they must be a list")
        data = entry.get("data", config.data)
        if not isinstance(data, str):
            raise UserError(f"target {name} has data={data}: it must name a data set; leave it out for the option data")
        found.append((str(name), data, classes))
    return found
