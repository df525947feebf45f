"""Weights of others in a sweep: from the option to the network, its images, and what a trial reads."""

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from raytransfer.config import WeightsConfig
from raytransfer.config.rules import as_list
from raytransfer.errors import UserError
from raytransfer.experiments.checks import Setup, network_spec
from raytransfer.networks import Shape, image_size_of_args
from raytransfer.networks.pretrained import load_pretrained, preprocessing, published_accuracy
from raytransfer.networks.weights_source import WeightsSource, parse
from raytransfer.specs import Imported
from raytransfer.store import weights_digest
from raytransfer.sweep.plan import Read
from raytransfer.words import number_of

Config = TypeVar("Config", bound=WeightsConfig)


@dataclass(frozen=True, kw_only=True)
class Checkpoint(Generic[Config]):
    """One entry of the option ``weights``, and the sweep's options as they are for it.

    Attributes:
        source: Where the weights come from.
        config: The options, with its network and, unless ``preprocessing=own``, images as they were made for it.
        accuracy: Published top-1 accuracy, 0..1; None where it is not known.
    """

    source: WeightsSource
    config: Config
    accuracy: float | None

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.source.label


def checkpoint(entry: Any, config: Config) -> Checkpoint[Config]:
    """Look up an entry of ``weights``, before any image is read.

    Raises:
        UserError: It is no entry, there are no such weights, or how their images are made is unknown.
    """
    source = parse(entry, config.network, config.network_args)
    own = replace(config, network=source.network, network_args=dict(source.network_args))
    spec = network_spec(own)
    accuracy = published_accuracy(source, spec)
    if config.preprocessing == "own":
        return Checkpoint(source=source, config=own, accuracy=accuracy)
    made = preprocessing(source, spec)
    recipe = replace(config.recipe, normalization="given", channel_mean=made.mean, channel_std=made.std)
    size = config.image_size_px
    if size is None:
        if ":" in spec.name and image_size_of_args(spec) is None:
            raise UserError(
                f"weights={source.weights} of network={spec.name} come with no size of images: say image_size_px, "
                "the side of those that they were trained on, or preprocessing=own, which leaves images as they are"
            )
        size = made.resize_px
        recipe = replace(recipe, crop_px=config.recipe.crop_px or made.crop_px)
    channels = config.channels or len(made.mean)
    if channels != len(made.mean):
        raise UserError(
            f"weights={source.label} are for images of {number_of(len(made.mean), 'channel')}, by their mean and std, "
            f"and channels={channels}: leave it out, or give mean and std of {number_of(channels, 'channel')}, as "
            "{weights: ..., mean: [...], std: [...]}"
        )
    own = replace(own, recipe=recipe, image_size_px=size, channels=channels, interpolation=made.interpolation)
    return Checkpoint(source=source, config=own, accuracy=accuracy)


def read(checkpoint: Checkpoint[Any], setup: Setup, shape: Shape) -> Read:
    """Read the weights for a network that has been seen to take the images.

    Args:
        checkpoint: Which.
        setup: Its network and recipe.
        shape: Channels, height and width of the images.

    Raises:
        UserError: They cannot be read, or do not fit.
    """
    image = setup.recipe.seen_shape(shape)
    try:
        found = load_pretrained(checkpoint.source, setup.network, image)
    except UserError as error:
        raise UserError(f"weights={checkpoint.label}: {error}") from error
    recipe = setup.recipe
    weights = Imported(
        digest=weights_digest(found.state),
        network=setup.network,
        outputs=found.outputs,
        normalization=recipe.normalization,
        channel_mean=recipe.channel_mean,
        channel_std=recipe.channel_std,
        crop_px=recipe.crop_px,
        label=checkpoint.label,
    )
    return Read(weights=weights, state=found.state, account=found.account)


def only_checkpoint(config: Config) -> Checkpoint[Config] | None:
    """The one entry of ``weights`` of a sweep that takes one; None where it has none.

    Raises:
        UserError: There are several.
    """
    if config.weights is None:
        return None
    entries = as_list(config.weights)
    if len(entries) != 1:
        raise UserError(f"weights={config.weights} must be one entry; sweeps/which_checkpoint.py compares several")
    return checkpoint(entries[0], config)
