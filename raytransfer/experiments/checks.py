"""What every experiment on networks checks before anything trains."""

from collections.abc import Collection
from dataclasses import replace

from raytransfer.config import SweepConfig, TrainingConfig
from raytransfer.errors import UserError
from raytransfer.networks import Shape, architecture, check_network
from raytransfer.specs import NetworkSpec, Recipe
from raytransfer.store.root import absolute
from raytransfer.tasks import DataSource


def layer_numbers(config: TrainingConfig) -> list[int]:
    """Numbers of layers to copy, from numbers or names of layers.

    Raises:
        UserError: A number or name is not one of the network's, or is there twice.
    """
    names = [stage.name for stage in architecture(config.network).stages]
    highest = len(names) - 1
    if config.n_layers == "all":
        return list(range(1, highest + 1))
    asked = config.n_layers if isinstance(config.n_layers, list) else [config.n_layers]
    chosen = [names.index(entry) + 1 if entry in names else entry for entry in asked]
    for entry, n in zip(asked, chosen, strict=True):
        if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= highest:
            layers = ", ".join(f"{i} {name}" for i, name in enumerate(names[:-1], start=1))
            below = f"name a layer of {config.network} below its head: {layers}"
            raise UserError(f"n_layers={entry} must lie in 1..{highest} or {below}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"n_layers={asked} must name at least one layer, each once")
    return chosen


def checked_recipe(config: TrainingConfig, network: NetworkSpec, shape: Shape, label_counts: Collection[int]) -> Recipe:
    """The recipe, once the network has been seen to take its images.

    Args:
        config: The configuration.
        network: The network.
        shape: Channels, height and width of the images.
        label_counts: Numbers of outputs that the network needs.

    Raises:
        UserError: The images are too small for the recipe, or the network does not take them.
    """
    recipe: Recipe = config.recipe
    _, height, width = shape
    side = min(height, width)
    if recipe.crop_px is not None and recipe.crop_px > side:
        raise UserError(f"recipe.crop_px={recipe.crop_px} must not exceed the images' side: {height} x {width} pixels")
    if recipe.pad_px > side:
        raise UserError(f"recipe.pad_px={recipe.pad_px} must not exceed the images' side: {height} x {width} pixels")
    if network.name == "caffenet" and network.init == "network" and recipe.normalization != "mean":
        raise UserError(
            f"recipe.normalization={recipe.normalization} starves caffenet, whose small initial weights are made for "
            "pixels on 0..255: choose recipe.normalization=mean, or init=kaiming"
        )
    for labels in sorted(set(label_counts)):
        check_network(network, image=seen_shape(recipe, shape), classes=labels)
    return replace(recipe, crop_px=None) if recipe.crop_px == height == width else recipe


def seen_shape(recipe: Recipe, shape: Shape) -> Shape:
    """The shape of what a network sees of images: the crop's, or the images' own."""
    return shape if recipe.crop_px is None else (shape[0], recipe.crop_px, recipe.crop_px)


def data_source(config: SweepConfig, data: str) -> DataSource:
    """Where a data set is, as the configuration says.

    Raises:
        UserError: A path is empty, or names the home of a user that does not exist.
    """
    is_path = bool(data) and "/" in data
    return DataSource(
        data=absolute("data", data) if is_path or not data else data,
        data_dir=absolute("data_dir", config.data_dir),
        cache_dir=absolute("cache_dir", config.cache_dir),
        image_size_px=config.image_size_px,
        channels=config.channels,
        label_column=config.label_column,
    )
