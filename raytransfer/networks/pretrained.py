"""Pretrained weights: read and match them, and convert them for the images of a sweep."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from raytransfer.errors import UserError, first_line
from raytransfer.networks.checkpoint_files import read_file
from raytransfer.networks.foreign import Match, match
from raytransfer.networks.sources import default_image_size, module_of, timm_config, timm_module
from raytransfer.networks.stages import Shape
from raytransfer.networks.weights_source import WeightsSource
from raytransfer.specs import NetworkSpec
from raytransfer.words import some_of

# With weights of torchvision's by name, and only then, these turn its usual normalisation into one to -1..1 inside.
_NORMALISING = ("googlenet", "inception_v3")
# Names in torchvision's files of its densenets and vision transformers, and what it makes of them when it loads them.
_OLD_NAMES = (
    (re.compile(r"(\bdenselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"(\bencoder_layer_\d+\.mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(\bencoder_layer_\d+\.mlp\.)linear_2\."), r"\g<1>3."),
)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How images are preprocessed for some weights.

    Attributes:
        resize_px: The shorter side is resized to this.
        crop_px: Side of the square crop that the network sees.
        mean: For each channel, what is subtracted from pixels of 0..1.
        std: For each channel, what the difference is divided by.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    resize_px: int
    crop_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"


@dataclass(frozen=True, kw_only=True, eq=False)
class Pretrained:
    """Weights for a network that takes the images of a sweep.

    Attributes:
        state: State dict; without the classifier's tensors if the weights have no classifier.
        outputs: Outputs of the classifier; None if there is none.
        account: What matched, in a line for the user.
    """

    state: dict[str, torch.Tensor]
    outputs: int | None
    account: str


def preprocessing(source: WeightsSource, spec: NetworkSpec) -> Preprocessing:
    """How images are preprocessed for weights, by the user's entry or by their publisher.

    Raises:
        UserError: There are no such weights, or their normalisation is unknown.
    """
    family, _, name = spec.name.partition("/")
    if family == "torchvision" and not source.is_file:
        made = _torchvision_weights(name, source.weights).transforms()
        mean, std = tuple(made.mean), tuple(made.std)
        if name in _NORMALISING and "transform_input" not in json.loads(spec.args):
            mean = std = (0.5,) * 3
        found = Preprocessing(
            resize_px=int(made.resize_size[0]),
            crop_px=int(made.crop_size[0]),
            mean=mean,
            std=std,
            interpolation=made.interpolation.value,
        )
    elif family == "timm":
        config = _timm_config(source, name)
        side = default_image_size(replace(spec, name=f"timm/{_tagged(source, name)}"))  # it may depend on the tag
        found = Preprocessing(
            resize_px=int(side / config.crop_pct),
            crop_px=side,
            mean=tuple(config.mean),
            std=tuple(config.std),
            interpolation=config.interpolation,
        )
    elif source.mean:
        side = default_image_size(spec)
        found = Preprocessing(resize_px=side, crop_px=side, mean=source.mean, std=source.std)
    else:
        if not _file(source, spec).exists():
            raise UserError(f"weights={source.weights} of network={spec.name} do not exist")
        raise UserError(
            f"weights={source.weights} of network={spec.name} come with no normalisation: say mean and std, as "
            "{network: ..., weights: FILE, mean: [...], std: [...]} (ImageNet's are [0.485, 0.456, 0.406] and "
            "[0.229, 0.224, 0.225])"
        )
    return replace(found, mean=source.mean, std=source.std) if source.mean else found


def published_accuracy(source: WeightsSource, spec: NetworkSpec) -> float | None:
    """Top-1 accuracy, 0..1, from the user's entry or from torchvision; None if unknown."""
    family, _, name = spec.name.partition("/")
    if source.accuracy is not None or family != "torchvision" or source.is_file:
        return source.accuracy
    metrics = _torchvision_weights(name, source.weights).meta.get("_metrics", {})
    published = metrics.get("ImageNet-1K", {}).get("acc@1")
    return None if published is None else published / 100


def load_pretrained(source: WeightsSource, spec: NetworkSpec, image: Shape) -> Pretrained:
    """Read weights and convert them for a network that takes images of this shape.

    Weights for another image size or number of channels are converted only for timm's networks, by timm (position
    embeddings and patch kernels are resampled, filters of the first convolution summed over channels), and for
    torchvision's vision transformers (position embeddings are resampled).

    Raises:
        UserError: They cannot be read, do not match the network, or do not fit the images.
    """
    family, _, name = spec.name.partition("/")
    if family == "timm" and not source.is_file:
        return _from_timm_tag(source, spec, image)
    if family == "torchvision" and not source.is_file:
        content = _downloaded(name, source.weights)
    else:
        content = read_file(_file(source, spec))
    if family == "torchvision" and source.rename is None:
        content = _with_new_names(content)
    try:
        return _matched(content, source, spec, image)
    except UserError as error:
        side = default_image_size(spec)
        native = (3, side, side)
        if native == image or family not in ("torchvision", "timm"):
            raise
        try:
            made = _matched(content, source, spec, native)
        except UserError:
            raise error from None
        return _converted(made, source, spec, native, image)


def _with_new_names(content: Any) -> Any:
    """What was read of a torchvision network, with old names of its tensors as they are today."""
    if not isinstance(content, Mapping):
        return content
    renamed = {}
    for name, value in content.items():
        new = name
        for old, replacement in _OLD_NAMES if isinstance(name, str) else ():
            new = old.sub(replacement, new)
        renamed[name if new in content else new] = _with_new_names(value)
    return renamed


def _file(source: WeightsSource, spec: NetworkSpec) -> Path:
    """The weights' file.

    Raises:
        UserError: They are given by a name, which their network does not support.
    """
    if not source.is_file:
        raise UserError(
            f"weights={source.weights} of network={spec.name} must be a file: only torchvision/NAME and timm/NAME have "
            "weights by name"
        )
    return Path(source.weights).expanduser()


def _matched(content: Any, source: WeightsSource, spec: NetworkSpec, image: Shape) -> Pretrained:
    """The weights of a file for a network as it is built for images of this shape."""
    one, two = (_empty(spec, image, classes) for classes in (2, 3))
    classifier = [name for name, tensor in one.items() if tensor.shape != two[name].shape]

    def found_with(expected: Mapping[str, torch.Tensor]) -> Match:
        return match(
            content,
            expected,
            head=classifier,
            name=source.weights,
            key=source.key,
            prefix=source.prefix,
            rename=source.rename,
        )

    found = found_with(one)
    outputs = {shape[0] for shape in found.head_shapes.values() if shape}
    if len(outputs) == 1 and len(found.head_shapes) == len(classifier):
        (count,) = outputs
        with_head = found_with(_empty(spec, image, count))
        if with_head.head:
            _check_numbers(source, with_head.tensors)
            return Pretrained(state=with_head.tensors, outputs=count, account=_account(source, with_head, count))
    body = {name: tensor for name, tensor in found.tensors.items() if name not in classifier}
    _check_numbers(source, body)
    return Pretrained(state=body, outputs=None, account=_account(source, found, None))


def _check_numbers(source: WeightsSource, tensors: Mapping[str, torch.Tensor]) -> None:
    """Check that weights hold no NaN or +inf; attention masks may hold -inf.

    Raises:
        UserError: They do.
    """
    for name, tensor in tensors.items():
        wrong = tensor[tensor.isnan() | tensor.isposinf()]
        if len(wrong):
            raise UserError(f"{source.weights} is of a training that diverged: {name} holds {wrong[0].item()}")


def _empty(spec: NetworkSpec, image: Shape, classes: int) -> dict[str, torch.Tensor]:
    """The state dict of a new network, for its names, shapes and dtypes."""
    with torch.random.fork_rng(devices=[]):
        return module_of(spec, image, classes).state_dict()


def _account(source: WeightsSource, found: Match, outputs: int | None) -> str:
    place = ", ".join(
        part for part in (found.path and f"key {found.path}", found.prefix and f"prefix {found.prefix}") if part
    )
    head = f"with its classifier of {outputs} classes" if outputs else "without a classifier"
    line = f"{source.label}: {len(found.tensors)} tensors matched{f' ({place})' if place else ''}, {head}"
    if found.missing:
        line += f"; {len(found.missing)} counters of batches were not in the file"
    if found.unused:
        line += f"; not used: {some_of(found.unused, 3)}"
    return line


def _converted(made: Pretrained, source: WeightsSource, spec: NetworkSpec, native: Shape, image: Shape) -> Pretrained:
    """Convert weights for images of one shape to those of another."""
    family, _, name = spec.name.partition("/")
    size = "x".join(map(str, native))
    account = f"{made.account}; converted from images of {size}"
    if family == "timm":
        if made.outputs is None:
            raise UserError(f"weights={source.weights} have no classifier, and timm converts none such from {size}")
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "weights.safetensors")
            save_file(made.state, file)
            # timm leaves out a classifier of another size than its configuration says, and keeps a random one.
            overlay = {"file": file, "num_classes": made.outputs}
            module = module_of(spec, image, made.outputs, pretrained=True, pretrained_cfg_overlay=overlay)
        return Pretrained(state=module.state_dict(), outputs=made.outputs, account=account)
    wanted = module_of(spec, image, made.outputs or 2)
    state = dict(made.state)
    if name.startswith("vit_") and image[0] == native[0]:
        from torchvision.models.vision_transformer import interpolate_embeddings

        patch: Any = wanted.patch_size
        state = dict(interpolate_embeddings(image_size=image[1], patch_size=patch, model_state=state))
    for key, tensor in wanted.state_dict().items():
        if key in state and state[key].shape != tensor.shape:
            raise UserError(
                f"weights={source.weights} fit images of {size}, and not of {'x'.join(map(str, image))}: {key} is "
                f"{tuple(state[key].shape)}, not {tuple(tensor.shape)}; give channels={native[0]} or another "
                "image_size_px"
            )
    return Pretrained(state=state, outputs=made.outputs, account=account)


def _from_timm_tag(source: WeightsSource, spec: NetworkSpec, image: Shape) -> Pretrained:
    name = spec.name.partition("/")[2]
    config = _timm_config(source, name)
    tagged = NetworkSpec(name=f"timm/{_tagged(source, name)}", args=spec.args)
    try:
        module = module_of(tagged, image, int(config.num_classes), pretrained=True)
    except Exception as error:  # the hub's client raises many kinds
        missing = f"weights={source.weights} of {spec.name} could not be had from the hub"
        raise UserError(f"{missing}: {first_line(error)}") from error
    outputs = int(config.num_classes) or None
    account = f"{source.label}: timm's weights {_tagged(source, name)}, read by timm"
    return Pretrained(state=module.state_dict(), outputs=outputs, account=account)


def _timm_config(source: WeightsSource, name: str) -> Any:
    """Timm's configuration of weights.

    Raises:
        UserError: Timm does not know them.
    """
    try:
        return timm_config(_tagged(source, name))
    except UserError as error:
        known = ", ".join(entry.partition(".")[2] for entry in timm_module().list_pretrained(f"{name}.*"))
        choices = f"choose from {known}" if known else str(error)
        raise UserError(f"weights={source.weights} are not known to timm for {name}; {choices}") from error


def _tagged(source: WeightsSource, name: str) -> str:
    """Timm's name of network and weights; for a file, of the network alone."""
    return name if source.is_file or source.weights == "default" or "." in name else f"{name}.{source.weights}"


def _torchvision_weights(name: str, weights: str) -> Any:
    from torchvision import models

    if name not in models.list_models(module=models):
        module_of(NetworkSpec(name=f"torchvision/{name}"), (3, 224, 224), 2)  # says what is wrong with the name
    known = models.get_model_weights(name)
    wanted = "DEFAULT" if weights == "default" else weights.rpartition(".")[2]
    if wanted not in known.__members__:
        raise UserError(
            f"weights={weights} are not known to torchvision for {name}; choose from {', '.join(known.__members__)}"
        )
    return known[wanted]


def _downloaded(name: str, weights: str) -> Any:
    """The state dict of torchvision's weights, from torch's cache or a download."""
    found = _torchvision_weights(name, weights)
    try:
        return found.get_state_dict(progress=False, check_hash=True)
    except Exception as error:  # from the network, the disk, or a damaged file
        place = Path(torch.hub.get_dir()) / "checkpoints" / Path(found.url).name
        missing = f"weights={weights} of {name} are not at {place} and could not be downloaded"
        raise UserError(f"{missing}: {first_line(error)}") from error
