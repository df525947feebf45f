"""What every experiment on networks checks before anything trains."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.config.rules import as_list, is_whole_number
from raytransfer.errors import UserError
from raytransfer.networks import Shape, add_lora, build, check_network, resolved, used_elsewhere
from raytransfer.specs import NetworkSpec, PretrainSpec, Recipe, TaskSpec
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.storage.addresses import is_address
from raytransfer.store.root import absolute
from raytransfer.tasks import Dataset, DataSource

_SPREAD = 8  # cuts of a network that has more: the first, the last, and others evenly between them


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What every network of a sweep has in common, once it has been built and run.

    Attributes:
        network: The network.
        recipe: How it is trained.
        stages: Names of its N stages, the head last.
        n_layers: The cuts n that were asked for, each in 1..N-1, ascending where the sweep chose them.
    """

    network: NetworkSpec
    recipe: Recipe
    stages: tuple[str, ...]
    n_layers: list[int]

    @property
    def depth(self) -> int:
        """N, the number of stages."""
        return len(self.stages)

    def pretraining(self, task: TaskSpec, seed: int, recipe: Recipe | None = None) -> PretrainSpec:
        """A training from scratch on a task: with the sweep's recipe, or with another one."""
        return PretrainSpec(task=task, network=self.network, recipe=recipe or self.recipe, seed=seed)


def checked_setup(config: TrainingConfig, shape: Shape, label_counts: Collection[int]) -> Setup:
    """The network, its cuts and its recipe, once the network has been seen to take the images.

    Args:
        config: The configuration.
        shape: Channels, height and width of the images.
        label_counts: Numbers of outputs that the network needs.

    Raises:
        UserError: The images are too small for the recipe, there is no such network, it does not take the images or
            cannot be cut, or a cut that is asked for does not exist.
    """
    recipe = _checked_recipe(config, shape)
    image = recipe.seen_shape(shape)
    network = resolved(network_spec(config), image)
    for labels in sorted(set(label_counts)):
        built = check_network(network, image=image, classes=labels)
    stages = tuple(stage.name for stage in built.stages)
    return Setup(network=network, recipe=recipe, stages=stages, n_layers=_layer_numbers(config, stages))


def network_spec(config: TrainingConfig) -> NetworkSpec:
    """The network that the options name, before it has been looked at.

    Raises:
        UserError: ``network_args`` or ``stages`` are no mappings of the right kind.
    """
    args, stages = config.network_args, config.stages
    if not isinstance(args, Mapping):
        raise UserError(f"network_args={args} must be a mapping of names to values, as {{img_size: 32}}")
    if stages is not None:
        lists = stages.values() if isinstance(stages, Mapping) else ()
        if not lists or not all(isinstance(e, list) and e and all(isinstance(p, str) for p in e) for e in lists):
            raise UserError(
                f"stages={stages} must name the modules of each stage, as {{stem: [conv1, bn1], body: [layer1]}}"
            )
    return NetworkSpec(
        name=config.network,
        init=config.init,  # type: ignore[arg-type]  # one of the spec's, as the configuration checks
        args=canonical(args),
        granularity=config.granularity,  # type: ignore[arg-type]  # likewise
        table=None if stages is None else canonical(stages, ordered=True),
    )


def canonical(value: Any, *, ordered: bool = False) -> str:
    """An option's value as JSON that is the same however it is written; ``ordered`` where the order of keys counts."""
    return json.dumps(value, sort_keys=not ordered, separators=(",", ":"))


def without_cuts(config: TrainingConfig, treatments: Collection[str]) -> list[str]:
    """Say that the option ``n_layers`` changes nothing, where it is given and no treatment has a cut."""
    if config.n_layers == "spread" or any(TREATMENTS[name].has_cut for name in treatments):
        return []
    return [f"n_layers={config.n_layers} changes nothing: none of the treatments is cut at n"]


def _layer_numbers(config: TrainingConfig, stages: Sequence[str]) -> list[int]:
    """Numbers of layers to copy, from numbers, names of layers or fractions of the depth.

    Raises:
        UserError: One is none of the network's, or is there twice.
    """
    highest = len(stages) - 1
    if config.n_layers == "all" or (config.n_layers == "spread" and highest <= _SPREAD):
        return list(range(1, highest + 1))
    if config.n_layers == "spread":
        return [1 + round(i * (highest - 1) / (_SPREAD - 1)) for i in range(_SPREAD)]
    asked = as_list(config.n_layers)
    chosen = [_layer_number(entry, stages) for entry in asked]
    for entry, n in zip(asked, chosen, strict=True):
        if not is_whole_number(n) or not 1 <= n <= highest:
            layers = ", ".join(f"{i} {name}" for i, name in enumerate(stages[:-1], start=1))
            below = f"be a fraction of the depth, or name a layer of {config.network} below its head: {layers}"
            raise UserError(f"n_layers={entry} must lie in 1..{highest}, {below}")
    if not chosen or len(set(chosen)) < len(chosen):
        meant = f", which are {chosen}" if chosen != asked else ""
        raise UserError(f"n_layers={asked}{meant} must name at least one layer, each once")
    return chosen


def _layer_number(entry: Any, stages: Sequence[str]) -> Any:
    if entry in stages:
        return list(stages).index(entry) + 1
    if isinstance(entry, float) and 0 < entry <= 1:
        return max(1, round(entry * (len(stages) - 1)))
    return entry


def _checked_recipe(config: TrainingConfig, shape: Shape) -> Recipe:
    """The recipe, if the images are large enough for it.

    Raises:
        UserError: They are not, or it does not go with the network.
    """
    recipe: Recipe = config.recipe
    channels, height, width = shape
    side = min(height, width)
    if recipe.crop_px is not None and recipe.crop_px > side:
        raise UserError(f"recipe.crop_px={recipe.crop_px} must not exceed the images' side: {height} x {width} pixels")
    if recipe.pad_px > side:
        raise UserError(f"recipe.pad_px={recipe.pad_px} must not exceed the images' side: {height} x {width} pixels")
    if channels == 1 and (recipe.saturation or recipe.hue):
        raise UserError(
            f"recipe.saturation={recipe.saturation} and recipe.hue={recipe.hue} change nothing of grey images: leave "
            "them out, or decode the images with channels=3"
        )
    if recipe.normalization == "given" and len(recipe.channel_mean) != channels:
        raise UserError(
            f"recipe.channel_mean={list(recipe.channel_mean)} must have one entry for each channel of the images, "
            f"which have {channels}: decode them with channels=1 or channels=3, or give other statistics"
        )
    if config.network == "caffenet" and config.init == "network" and recipe.normalization != "mean":
        raise UserError(
            f"recipe.normalization={recipe.normalization} starves caffenet, whose small initial weights are made for "
            "pixels on 0..255: choose recipe.normalization=mean, or init=kaiming"
        )
    if recipe.crop_area is not None:
        recipe = replace(recipe, pad_px=0)  # the data set's own, which is of crops of one size
    return replace(recipe, crop_px=None) if recipe.crop_px == height == width else recipe


def check_adapters(network: NetworkSpec, image: Shape, n_layers: Collection[int], *, asked: str) -> None:
    """Check that at every cut some of the copied layers take adapters, which can be added to their weights later.

    Args:
        network: The network.
        image: Shape of what it sees.
        n_layers: The cuts.
        asked: The option that asks for adapters, for the message.

    Raises:
        UserError: At a cut none of them does, or the weight of one is used by another layer, too.
    """
    for n in n_layers:
        adapted = build(network, image=image, classes=2, seed=0)
        try:
            add_lora(adapted, n, rank=1, seed=0)
        except UserError as error:
            raise UserError(f"{asked} cannot be run on network={network.name} at n_layers={n}: {error}") from error
        if n == max(n_layers):  # which adapts all that smaller ones do
            layer = used_elsewhere(adapted, build(network, image=image, classes=2, seed=0))
            if layer is not None:
                raise UserError(
                    f"{asked} cannot be run on network={network.name} at n_layers={n}: other parts of the network use "
                    f"the weight of {layer}, too, and would not see its adapter: leave {asked} out"
                )


def data_source(config: SweepConfig, data: str) -> DataSource:
    """Where a data set is, as the configuration says.

    Raises:
        UserError: A path is empty, or names the home of a user that does not exist.
    """
    is_path = not data or ("/" in data and not is_address(data))
    return DataSource(
        data=absolute("data", data) if is_path else data,
        data_dir=absolute("data_dir", config.data_dir),
        cache_dir=absolute("cache_dir", config.cache_dir),
        decoded=config.decoded,
        cache_gb=config.cache_gb,
        image_size_px=config.image_size_px,
        interpolation=config.interpolation,
        channels=config.channels,
        label_column=config.label_column,
    )


def check_told_apart(opened: Iterable[tuple[DataSource, Dataset]]) -> None:
    """Check that data sets have names of their own: by these tasks, labels and what is independent are told apart.

    Raises:
        UserError: Two that differ have one name.
    """
    by_name: dict[str, tuple[DataSource, Dataset]] = {}
    for source, dataset in opened:
        other, same = by_name.setdefault(dataset.name, (source, dataset))
        if same.fingerprint != dataset.fingerprint:
            raise UserError(
                f"{other.data} and {source.data} are different data sets, both named {dataset.name}: results tell data "
                "sets apart by their names; rename one, or give a link to it that has another name"
            )
