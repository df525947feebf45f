"""Weights of others by name and from files, made to fit the images of a sweep."""

import json
import re
from urllib.error import URLError

import pytest
import timm
import torch
from timm.models import save_for_hf
from torchvision import models

from raytransfer.errors import UserError
from raytransfer.experiments.weights import checkpoint
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.networks.pretrained import load_pretrained, preprocessing, published_accuracy
from raytransfer.networks.sources import module_of, resolved
from raytransfer.networks.weights_source import parse
from raytransfer.specs import NetworkSpec, Recipe

VIT = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2}


def spec(name, **args):
    return NetworkSpec(name=name, args=json.dumps(args))


def saved(tmp_path, network, image, classes=7, seed=3):
    """A file with a network's weights, and its state dict."""
    torch.manual_seed(seed)
    module = module_of(network, image, classes)
    torch.save({"model": module.state_dict(), "epoch": 3}, tmp_path / "file.pth")
    return module


def read(tmp_path, network, image, **more):
    entry = {"network": network.name, "weights": str(tmp_path / "file.pth"), **more}
    return load_pretrained(parse(entry, network.name, {}), network, image)


@pytest.mark.parametrize(
    ("network", "image"),
    [(spec("torchvision/mobilenet_v3_small"), (3, 32, 32)), (spec("timm/test_resnet"), (1, 32, 32))],
)
def test_a_file_gives_the_very_network_with_its_classifier(tmp_path, network, image):
    made = saved(tmp_path, network, image).eval()
    found = read(tmp_path, network, image)
    assert found.outputs == 7
    again = module_of(network, image, 7).eval()
    again.load_state_dict(found.state)
    images = torch.randn(2, *image)
    assert torch.equal(again(images), made(images))


def test_timms_networks_are_converted_to_another_size_and_number_of_channels(tmp_path):
    network = spec("timm/vit_tiny_patch16_224", img_size=32, **VIT)
    made = saved(tmp_path, network, (3, 32, 32))
    found = read(tmp_path, spec("timm/vit_tiny_patch16_224", **VIT, img_size=32), (1, 32, 32))
    kernel, summed = made.patch_embed.proj.weight, found.state["patch_embed.proj.weight"]
    torch.testing.assert_close(summed, kernel.sum(1, keepdim=True))
    assert "converted from images of 3x32x32" in found.account
    for name in ("blocks.1.mlp.fc1.weight", "head.weight", "head.bias"):
        assert torch.equal(found.state[name], made.state_dict()[name])
    assert found.outputs == 7


def test_a_folder_or_hub_that_describes_a_network_is_read_as_timm_does(tmp_path):
    torch.manual_seed(0)
    made = timm.create_model("test_resnet", num_classes=9).eval()
    save_for_hf(made, tmp_path / "repository", safe_serialization=True)
    name = f"timm/local-dir:{tmp_path / 'repository'}"
    network = spec(name)
    found = load_pretrained(parse(f"{name}@default", "convnet8", {}), network, (3, 64, 64))
    assert found.outputs == 9
    assert torch.equal(found.state["fc.weight"], made.state_dict()["fc.weight"])
    assert preprocessing(parse(f"{name}@default", "convnet8", {}), network).mean == tuple(made.pretrained_cfg["mean"])
    with pytest.raises(UserError, match="network=timm/local-dir:/no/such is not known to timm"):
        preprocessing(parse("timm/local-dir:/no/such@default", "convnet8", {}), spec("timm/local-dir:/no/such"))


def test_another_description_in_a_folder_is_another_network(tmp_path):
    structures = []
    for act in ("relu", "gelu", "relu"):
        described = {"architecture": "test_resnet", "num_classes": 9, "model_args": {"act_layer": act}}
        (tmp_path / "config.json").write_text(json.dumps({**described, "pretrained_cfg": {"input_size": [3, 64, 64]}}))
        structures.append(resolved(spec(f"timm/local-dir:{tmp_path}"), (3, 64, 64)).structure)
    assert structures[0] == structures[2] != structures[1]


def test_what_does_not_fit_the_images_is_refused(tmp_path):
    network = spec("torchvision/squeezenet1_1")
    saved(tmp_path, network, (3, 64, 64))
    other = spec("torchvision/mobilenet_v3_small")
    with pytest.raises(UserError, match=r"file\.pth does not fit the network: it has none of its names"):
        read(tmp_path, other, (3, 64, 64))
    with pytest.raises(UserError, match="must be a file: only torchvision/NAME and timm/NAME have weights by name"):
        load_pretrained(parse("best", "convnet8", {}), spec("convnet8"), (1, 8, 8))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", ["features.3.squeeze.bias", "classifier.1.bias"])
def test_weights_of_a_training_that_diverged_are_refused(tmp_path, place, value):
    network = spec("torchvision/squeezenet1_1")
    state = saved(tmp_path, network, (3, 64, 64)).state_dict()
    state[place][1] = value
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(UserError, match=rf"file\.pth is of a training .*: {re.escape(place)} holds {value}"):
        read(tmp_path, network, (3, 64, 64))


def test_torchvisions_weights_go_by_name(monkeypatch, tmp_path):
    name = "torchvision/mobilenet_v3_small"
    network, source = spec(name), parse(f"{name}@IMAGENET1K_V1", "convnet8", {})
    made = module_of(network, (3, 32, 32), 1000)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: made.state_dict())
    found = load_pretrained(source, network, (3, 32, 32))
    assert found.outputs == 1000
    assert torch.equal(found.state["classifier.3.weight"], made.state_dict()["classifier.3.weight"])
    how = preprocessing(source, network)
    assert (how.resize_px, how.crop_px, how.interpolation) == (256, 224, "bilinear")
    assert (how.mean, how.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    metrics = models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.meta["_metrics"]
    assert published_accuracy(source, network) == pytest.approx(metrics["ImageNet-1K"]["acc@1"] / 100)

    def offline(*_, **__):
        raise URLError("no route")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(
        UserError, match=r"are not at .*mobilenet_v3_small-.*\.pth and could not be downloaded: .*no route"
    ):
        load_pretrained(source, network, (3, 32, 32))


def old_densenet(name):
    return re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name)


def old_transformer(name):
    return name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")


@pytest.mark.parametrize(("name", "old"), [("densenet121", old_densenet), ("vit_b_32", old_transformer)])
def test_names_in_torchvisions_own_files_are_read_as_torchvision_reads_them(tmp_path, monkeypatch, name, old):
    whole, small = models.VisionTransformer, {"num_layers": 11, "hidden_dim": 12, "num_heads": 2, "mlp_dim": 8}
    place = "torchvision.models.vision_transformer.VisionTransformer"
    monkeypatch.setattr(place, lambda **given: whole(**(given | small)))  # one of 88 million parameters is slow
    network = spec(f"torchvision/{name}")
    state = saved(tmp_path, network, (3, 32, 32)).state_dict()
    torch.save({"model": {old(key): tensor for key, tensor in state.items()}}, tmp_path / "file.pth")
    found = read(tmp_path, network, (3, 32, 32))
    assert found.outputs == 7
    assert sum(old(key) != key for key in state) > 40
    assert found.state.keys() == state.keys()
    assert all(torch.equal(found.state[key], tensor) for key, tensor in state.items())
    if name == "vit_b_32":
        rename = {r"linear_1\.": "0.", r"linear_2\.": "3."}
        assert read(tmp_path, network, (3, 32, 32), rename=rename).state.keys() == state.keys()


@pytest.mark.parametrize(
    "args", [{}, {"transform_input": True}, {"transform_input": False}], ids=["as it comes", "inside", "not inside"]
)
def test_networks_that_normalise_images_themselves_see_the_same_images(monkeypatch, args):
    torch.manual_seed(0)
    torchvisions = {**args, "init_weights": False}
    state = models.googlenet(num_classes=1000, **torchvisions).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    weights, pixels = models.GoogLeNet_Weights.IMAGENET1K_V1, torch.rand(2, 3, 64, 64)
    plain, seen = models.googlenet(weights=weights, **torchvisions).eval(), []
    plain.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

    def normalised(by):
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (by.mean, by.std))
        return (pixels - mean) / std

    plain(normalised(weights.transforms()))
    entry = {"network": "torchvision/googlenet", "network_args": args, "weights": "IMAGENET1K_V1"}
    network = spec("torchvision/googlenet", **torchvisions)
    ours = module_of(network, (3, 64, 64), 1000).eval()
    ours.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    ours(normalised(preprocessing(parse(entry, "convnet8", {}), network)))
    torch.testing.assert_close(seen[1], seen[0])


def test_the_preprocessing_is_the_weights_own():
    lite = spec("timm/tf_efficientnet_lite0")
    how = preprocessing(parse("/x/lite0.pth", lite.name, {}), lite)
    assert (how.mean, how.std, how.crop_px, how.resize_px) == ((0.5,) * 3, (0.5,) * 3, 224, 256)
    assert how.interpolation == "bicubic"
    larger = parse("timm/convnext_tiny@in12k_ft_in1k_384", lite.name, {})  # 224 without a tag
    how = preprocessing(larger, spec(larger.network))
    assert (how.crop_px, how.resize_px) == (384, 384)
    given = parse({"weights": "/x/lite0.pth", "mean": [0.1] * 3, "std": [0.2] * 3}, lite.name, {})
    assert preprocessing(given, lite).mean == (0.1,) * 3


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "torchvision/resnet18@IMAGENET21K",
            "weights=IMAGENET21K are not known to torchvision for resnet18; ",
        ),
        (
            "torchvision/resnet19@default",
            r"network=torchvision/resnet19 is not known; did you mean torchvision/resnet18",
        ),
        ("timm/resnet18@none_such", "weights=none_such are not known to timm for resnet18; choose from a1_in1k, "),
        ({"weights": ""}, r"weights=\{'weights': ''\} must be WEIGHTS, NETWORK@WEIGHTS or a mapping"),
        ({"weights": "a.pth", "rename": "/no/such.json"}, r"rename=/no/such\.json is no JSON file that can be read"),
        (
            {"weights": "a.pth", "mean": [0.5] * 2, "std": [0.5] * 2},
            r"weights=\{.*\} must have mean and std of 3 channels, or of 1 for grey images",
        ),
        (
            {"weights": "a.pth", "mean": [124.0, 117.0, 104.0], "std": [1.0] * 3},
            r"weights=\{.*\} must have mean and std together, on a scale of 0\.\.1, std above 0",
        ),
        ("/no/such.pth", r"weights=/no/such\.pth of network=convnet8 do not exist"),
        ("best", "weights=best of network=convnet8 must be a file: only torchvision/NAME and timm/NAME have"),
        ({"weights": "a.pth", "rename": {"a": 3}}, r"rename=\{'a': 3\} must map patterns of names in the file"),
    ],
)
def test_entries_that_name_nothing_are_refused(entry, message):
    def look() -> None:
        source = parse(entry, "convnet8", {})
        preprocessing(source, spec(source.network))

    with pytest.raises(UserError, match=message):
        look()


def test_channels_that_the_weights_were_not_made_for_are_refused_by_the_name_of_the_weights():
    recipe = Recipe(steps=1, batch_size=1, learning_rate=0.1)
    with pytest.raises(UserError, match=r"^weights=resnet18@default are for images of 3 channels, .* channels=1: "):
        checkpoint("timm/resnet18@default", GridConfig(channels=1, recipe=recipe))
    entry = {"network": "timm/resnet18", "weights": "default", "mean": [0.4], "std": [0.2]}
    assert checkpoint(entry, GridConfig(channels=1, recipe=recipe)).config.recipe.channel_mean == (0.4,)
