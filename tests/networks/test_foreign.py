"""Checkpoints made elsewhere: each usual wrapping gives the very tensors; what does not fit is refused in a line."""

import argparse
import copy
import fractions
import json
import re
import struct
import warnings
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file, save_model
from torch import nn

from raytransfer.errors import UserError
from raytransfer.networks.checkpoint_files import read_file
from raytransfer.networks.foreign import match

HEAD = ("fc.weight", "fc.bias")


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)) + x)


class Net(nn.Module):
    """What names there are: modules in a row, statistics, a bare parameter, a buffer, a head."""

    def __init__(self, width=4, classes=5, depth=2):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, width, 1, 1))
        self.register_buffer("offset", torch.randn(width, 1, 1))
        self.stem = nn.Conv2d(3, width, 3)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x) * self.token + self.offset).mean((2, 3)))


def net(seed, **arguments):
    """A network that has trained a little: statistics and counters have moved."""
    torch.manual_seed(seed)
    module = Net(**arguments)
    for _ in range(3):
        module(torch.randn(4, 3, 8, 8))
    return module.eval()


ONE, TWO = net(1), net(2)
IMAGES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def under(prefix, state, **others):
    return {**{prefix + name: tensor for name, tensor in state.items()}, **others}


def state(module=ONE):
    return module.state_dict()


def body(module=ONE):
    return {name: tensor for name, tensor in module.state_dict().items() if name not in HEAD}


def projection(prefix):
    return {f"{prefix}.{i}.weight": torch.randn(4, 4) for i in (0, 2)}


def optimizer_state():
    module = copy.deepcopy(ONE)
    optimizer = torch.optim.Adam(module.parameters())
    module(IMAGES).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def averaged():
    return torch.optim.swa_utils.AveragedModel(ONE).state_dict()


def matched(content, **arguments):
    with torch.device("meta"):
        expected = Net().state_dict()
    return match(content, expected, head=HEAD, name="a.pth", **arguments)


def assert_is(found, module, *, head=True):
    """The network with what was found computes to the bit what the original does, from a start of its own."""
    start = net(77)
    start.load_state_dict({**start.state_dict(), **found.tensors})
    assert found.head is head
    if not head:
        assert found.tensors.keys() == body().keys()
        start.fc = module.fc
    assert torch.equal(start(IMAGES), module(IMAGES))
    original = module.state_dict()
    for name, tensor in found.tensors.items():
        assert tensor.is_contiguous()
        assert tensor.dtype == original[name].dtype
        assert torch.equal(tensor, original[name]) or name in found.missing


# By name: the content, the place and prefix, whether the head is there.
WRAPPINGS = {
    "plain": (state, "", "", True),
    "without a head": (body, "", "", False),
    "another head": (lambda: state(net(1)) | {"fc.weight": torch.ones(9, 4), "fc.bias": torch.ones(9)}, "", "", False),
    "state_dict and optimizer": (
        lambda: {"state_dict": state(), "optimizer": optimizer_state()},
        "state_dict",
        "",
        True,
    ),
    "model": (lambda: {"model": state(), "epoch": 3, "best": 0.5}, "model", "", True),
    "model_state_dict": (
        lambda: {"epoch": 3, "model_state_dict": state(), "optimizer_state_dict": optimizer_state()},
        "model_state_dict",
        "",
        True,
    ),
    "parameters": (lambda: {name: nn.Parameter(t, False) for name, t in state().items()}, "", "", True),
    "DataParallel": (lambda: nn.DataParallel(ONE).state_dict(), "", "module.", True),
    "MoCo-like epoch file of DataParallel": (
        lambda: {"epoch": 9, "arch": "net", "state_dict": under("module.", state())},
        "state_dict",
        "module.",
        True,
    ),
    "torch.compile": (lambda: under("_orig_mod.", state()), "", "_orig_mod.", True),
    "compiled, then DataParallel": (lambda: under("module._orig_mod.", state()), "", "module._orig_mod.", True),
    "DeepSpeed": (lambda: {"module": state(), "global_steps": 7}, "module", "", True),
    "Lightning, model": (
        lambda: {
            "state_dict": under("model.", state(), **{"metric.total": torch.tensor(3.0)}),
            "hyper_parameters": {"lr": 0.1},
            "loops": {"fit_loop": {"state_dict": {}}},
            "optimizer_states": [optimizer_state()],
        },
        "state_dict",
        "model.",
        True,
    ),
    "Lightning, net": (lambda: {"state_dict": under("net.", state()), "epoch": 1}, "state_dict", "net.", True),
    "MoCo without its key encoder": (
        lambda: {"state_dict": under("module.encoder_q.", body(), **projection("module.encoder_q.fc"))},
        "state_dict",
        "module.encoder_q.",
        False,
    ),
    "SimCLR": (
        lambda: {"state_dict": under("backbone.", body(), **projection("backbone.fc"))},
        "state_dict",
        "backbone.",
        False,
    ),
    "SimSiam": (
        lambda: {"state_dict": under("module.encoder.", body(), **projection("module.predictor"))},
        "state_dict",
        "module.encoder.",
        False,
    ),
    "SwAV": (
        lambda: under("module.", body(), **projection("module.projection_head"), **projection("module.prototypes")),
        "",
        "module.",
        False,
    ),
    "MAE": (lambda: {"model": body() | projection("decoder") | {"mask_token": torch.ones(4)}}, "model", "", False),
    "DINO's teacher": (
        lambda: {"teacher": under("module.backbone.", body(), **projection("module.head.mlp")), "epoch": 1},
        "teacher",
        "module.backbone.",
        False,
    ),
    "mmcls": (
        lambda: {
            "meta": {"epoch": 1},
            "state_dict": under("backbone.", body(), **{"head.fc.weight": torch.ones(5, 4)}),
        },
        "state_dict",
        "backbone.",
        False,
    ),
    "moving average alone": (lambda: {"ema": under("module.", state())}, "ema", "module.", True),
    "AveragedModel": (averaged, "", "module.", True),
    "timm, its options in a namespace": (
        lambda: {"arch": "net", "args": argparse.Namespace(lr=0.1), "state_dict": state()},
        "state_dict",
        "",
        True,
    ),
    "fastai": (lambda: {"model": state(), "opt": optimizer_state()}, "model", "", True),
    "three levels down": (
        lambda: {"run": {"best": {"net": under("vision.", state())}}},
        "run.best.net",
        "vision.",
        True,
    ),
    "twice the same": (
        lambda: {"model": state(), "state_dict": under("module.", state(copy.deepcopy(ONE)))},
        "model",
        "",
        True,
    ),
    "profiled": (lambda: state() | {"blocks.0.conv.total_ops": torch.zeros(1, dtype=torch.float64)}, "", "", True),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])
def test_each_wrapping_gives_the_network_that_was_saved(tmp_path, wrapping, zipped):
    make, path, prefix, head = WRAPPINGS[wrapping]
    torch.save(make(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = matched(read_file(tmp_path / "a.pth"))
    assert (found.path, found.prefix, found.missing) == (path, prefix, ())
    assert_is(found, ONE, head=head)


@pytest.mark.parametrize("file", ["model.safetensors", "model.bin"])
def test_safetensors_are_known_by_content(tmp_path, file):
    save_file(under("model.", state()), tmp_path / file, metadata={"format": "pt"})
    found = matched(read_file(tmp_path / file))
    assert (found.path, found.prefix, found.unused) == ("", "model.", ())
    assert_is(found, ONE)


def test_the_account_names_what_was_not_used_and_what_was_missing():
    content = {
        "state_dict": under("m.", body(), queue=torch.ones(3)),
        "optimizer": {"state": {0: {"exp": torch.ones(2)}}},
    }
    for i in range(2):
        del content["state_dict"][f"m.blocks.{i}.bn.num_batches_tracked"]
    found = matched(content)
    assert found.unused == ("state_dict.queue", "optimizer.state.0.exp")
    assert found.missing == ("blocks.0.bn.num_batches_tracked", "blocks.1.bn.num_batches_tracked")
    assert found.tensors[found.missing[0]] == 0  # as PyTorch has it for such files
    assert_is(found, ONE, head=False)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_the_networks(tmp_path, dtype):
    stored = {name: t.to(dtype) if t.is_floating_point() else t.int() for name, t in state().items()}
    torch.save(stored, tmp_path / "a.pth")
    found = matched(read_file(tmp_path / "a.pth"))
    for name, tensor in found.tensors.items():
        assert tensor.dtype == state()[name].dtype
        assert torch.equal(tensor, stored[name].to(tensor.dtype))


def test_tensors_that_share_memory_or_lie_crosswise_come_apart(tmp_path):
    everything = torch.cat([tensor.flatten() for tensor in body().values() if tensor.is_floating_point()])
    shared, start = dict(body()), 0
    for name, tensor in body().items():
        if tensor.is_floating_point():
            shared[name] = everything[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()
    shared["stem.weight"] = shared["stem.weight"].permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    shared["blocks.0.bn.weight"] = torch.ones(1).expand(4)
    torch.save(shared, tmp_path / "a.pth")
    expected = copy.deepcopy(ONE)
    expected.blocks[0].bn.weight.data = torch.ones(4)
    found = matched(read_file(tmp_path / "a.pth"))
    assert_is(found, expected, head=False)
    save(found.tensors)  # refuses what shares memory


class Tied(Net):
    """Two blocks with one convolution."""

    def __init__(self):
        super().__init__()
        self.blocks[1].conv.weight = self.blocks[0].conv.weight


def test_a_tensor_with_two_names_is_there_by_one_and_must_be_the_same_by_both(tmp_path):
    torch.manual_seed(3)
    tied, new = Tied().eval(), Tied().eval()
    save_model(tied, str(tmp_path / "tied.safetensors"))
    content = read_file(tmp_path / "tied.safetensors")
    assert len(content) == len(tied.state_dict()) - 1
    new.load_state_dict(match(content, new.state_dict(), head=HEAD, name="tied").tensors)
    assert torch.equal(new(IMAGES), tied(IMAGES))
    with pytest.raises(
        UserError,
        match=r'^apart does not fit the network: key="" prefix="" has other numbers for blocks.0.conv.weight and '
        r"blocks.1.conv.weight, one tensor in the network$",
    ):
        match(state(), new.state_dict(), head=HEAD, name="apart")


def test_a_compressed_file_is_read(tmp_path):
    torch.save(state(), tmp_path / "stored.pth")
    with zipfile.ZipFile(tmp_path / "stored.pth") as stored, zipfile.ZipFile(tmp_path / "a.pth", "w", 8) as packed:
        for entry in stored.infolist():
            packed.writestr(entry.filename, stored.read(entry))
    assert_is(matched(read_file(tmp_path / "a.pth")), ONE)


AMBIGUOUS = {
    "MoCo": (
        {"state_dict": {**under("module.encoder_q.", state(ONE)), **under("module.encoder_k.", state(TWO))}},
        {"prefix": "module.encoder_q."},
        {"prefix": "module.encoder_k."},
    ),
    "DINO": (
        {"student": under("module.backbone.", body(ONE)), "teacher": under("backbone.", body(TWO))},
        {"key": "student"},
        {"key": "teacher"},
    ),
    "BYOL": (
        {**under("online_network.", body(ONE)), **under("target_network.", body(TWO))},
        {"prefix": "online_network."},
        {"prefix": "target_network."},
    ),
    "timm's moving average": (
        {"state_dict": state(ONE), "state_dict_ema": state(TWO)},
        {"key": "state_dict"},
        {"key": "state_dict_ema", "prefix": ""},
    ),
    "average beside plain": (
        {**state(ONE), **under("ema.module.", state(TWO))},
        {"prefix": ""},
        {"prefix": "ema.module."},
    ),
    "top level and below": ({**state(ONE), "ema": state(TWO)}, {"key": ""}, {"key": "ema"}),
    "heads alone differ": ({"a": state(ONE), "b": {**state(ONE), "fc.bias": torch.ones(5)}}, {"key": "a"}, None),
}


@pytest.mark.parametrize("wrapping", AMBIGUOUS)
def test_two_networks_that_fit_are_refused_until_one_is_chosen(tmp_path, wrapping):
    content, first, second = AMBIGUOUS[wrapping]
    torch.save(content, tmp_path / "a.pth")
    content = read_file(tmp_path / "a.pth")
    with pytest.raises(
        UserError, match=r'holds 2 networks that fit: choose one by key= or prefix=: key="\S*" prefix="'
    ):
        matched(content)
    for choice, module in ((first, ONE), (second, TWO)):
        if choice is not None:
            found = matched(content, **choice)
            assert_is(found, module, head="fc.weight" in found.tensors)


def test_of_two_copies_the_one_with_the_head_is_taken():
    found = matched({"backbone": body(), "model": state()})
    assert (found.path, found.head) == ("model", True)


def without(*names):
    return {name: tensor for name, tensor in state().items() if name not in names}


def quantised():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch warn that they will give it up
        return {**state(), "stem.weight": torch.quantize_per_tensor(torch.ones(4, 3, 3, 3), 0.1, 0, torch.qint8)}


UNFIT = {
    "another width": (
        lambda: state(net(1, width=6)),
        r'a.pth does not fit the network: key="" prefix="" comes closest, with 2 of 16 tensors; token is '
        "1 x 6 x 1 x 1, not 1 x 4 x 1 x 1, offset is 6 x 1 x 1, not 4 x 1 x 1, stem.weight is 6 x 3 x 3 x 3, "
        "not 4 x 3 x 3 x 3 and 11 more$",
    ),
    "fewer blocks": (
        lambda: {"model": state(net(1, depth=1))},
        r'key="model" prefix="" comes closest, with 10 of 16 tensors; it lacks blocks.1.conv.weight, '
        "blocks.1.bn.weight, blocks.1.bn.bias and 2 more$",
    ),
    "more blocks": (
        lambda: state(net(1, depth=3)),
        r'key="" prefix="" has all of it, and 5 more inside, as another architecture would: blocks.2.conv.weight, '
        "blocks.2.bn.weight, blocks.2.bn.bias and 2 more; if they do not matter, leave them out with "
        "rename={PATTERN: null}",
    ),
    "a bias more": (lambda: state() | {"blocks.0.conv.bias": torch.ones(4)}, "1 more inside.*: blocks.0.conv.bias;"),
    "a module more": (lambda: state() | {"blocks.1.se.weight": torch.ones(4)}, "1 more inside.*: blocks.1.se.weight;"),
    "a bare parameter more": (lambda: state() | {"pos_embed": torch.ones(4)}, "1 more inside.*: pos_embed;"),
    "other names": (
        lambda: {name.replace("stem", "conv1").replace("blocks", "layer"): t for name, t in state().items()},
        "with 2 of 16 tensors; it lacks stem.weight, stem.bias, blocks.0.conv.weight and 9 more",
    ),
    "no name in common": (
        lambda: {"w0": torch.ones(2), "w1": torch.ones(3)},
        "it has none of its names; it has w0, w1, and the network token, offset, stem.weight and 13 more",
    ),
    "in the network's order": (lambda: dict(enumerate(state().values())), "holds no tensors by name: it must be"),
    "numbered in order": (
        lambda: {f"{i}": t for i, t in enumerate(state().values())},
        "none of its names; it has 0, 1, 2",
    ),
    "weights swapped": (
        lambda: state() | {"stem.weight": state()["stem.bias"], "stem.bias": state()["stem.weight"]},
        "stem.weight is 4, not 4 x 3 x 3 x 3, stem.bias is 4 x 3 x 3 x 3, not 4$",
    ),
    "statistics missing": (
        lambda: without("blocks.1.bn.running_var"),
        "15 of 16 tensors; it lacks blocks.1.bn.running_var$",
    ),
    "buffer missing": (lambda: without("offset"), "15 of 16 tensors; it lacks offset$"),
    "halves in two places": (
        lambda: {"a": without("stem.weight", "stem.bias"), "b": without("token")},
        "15 of 16 tensors; it lacks token$",
    ),
    "too deep": (lambda: {"a": {"b": {"c": {"d": state()}}}}, "holds no tensors by name"),
    "a list": (lambda: [state()], "holds no tensors by name"),
    "no tensors": (lambda: {"epoch": 3, "model": {"name": "resnet"}}, "holds no tensors by name"),
    "quantised": (quantised, "stem.weight holds qint8, not float32$"),
    "integers": (
        lambda: state() | {"stem.bias": torch.ones(4, dtype=torch.int8)},
        "stem.bias holds int8, not float32$",
    ),
    "sparse": (lambda: state() | {"stem.bias": torch.ones(4).to_sparse()}, "float32 in a sparse layout, not float32$"),
    "meta": (lambda: state() | {"stem.bias": torch.ones(4, device="meta")}, "stem.bias holds no numbers, not float32$"),
}


@pytest.mark.parametrize("content", UNFIT)
def test_what_does_not_fit_is_refused_with_what_comes_closest(tmp_path, content):
    make, message = UNFIT[content]
    torch.save(make(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=message) as raised:
        matched(read_file(tmp_path / "a.pth"))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"key": "ema"}, r'key=ema is not in a.pth; choose from "" \(the top level\), model, optimizer.state.0$'),
        ({"prefix": "module."}, r'prefix=module. is not in a.pth: choose from "" \(none\), net.$'),
        (
            {"key": "optimizer.state.0", "prefix": "x."},
            "prefix=x. is not in a.pth: there is none before a name of the network",
        ),
        ({"key": "optimizer.state.0"}, "it has none of its names"),
        ({"key": ""}, "1 of 16 tensors; it lacks"),
    ],
)
def test_a_place_that_is_not_there_is_refused_with_those_that_are(choice, message):
    content = {
        "token": state()["token"],
        "model": under("net.", state()),
        "optimizer": {"state": {0: {"m": torch.ones(1)}}},
    }
    assert matched(content).path == "model"
    with pytest.raises(UserError, match=message):
        matched(content, **choice)


def renamed():
    return {
        re.sub(r"blocks\.(\d)\.", lambda found: f"layer_{int(found[1]) + 1}_", name).replace("stem", "conv1"): tensor
        for name, tensor in state().items()
    }


RULES = {r"layer_1_": "blocks.0.", r"layer_2_": "blocks.1.", r"^conv1\.(\w+)$": r"stem.\1"}


def test_a_renaming_is_stated_by_patterns():
    content = {"state_dict": {f"module.{name}": tensor for name, tensor in renamed().items()}}
    rules = {**RULES, r"^module\.conv1": "module.stem"}
    del rules[r"^conv1\.(\w+)$"]
    found = matched(content, rename=rules)
    assert (found.path, found.prefix, found.unused) == ("state_dict", "module.", ())
    assert_is(found, ONE)


def test_of_several_patterns_only_the_first_counts_so_that_names_can_be_swapped():
    swapped = {{"stem.bias": "offset", "offset": "stem.bias"}.get(name, name): t for name, t in state().items()}
    assert_is(matched(swapped, rename={"^offset$": "stem.bias", r"^stem\.bias$": "offset"}), ONE)


def test_tensors_that_do_not_matter_are_left_out_by_a_renaming_to_nothing():
    deeper = net(1, depth=3)
    shallower = copy.deepcopy(deeper)
    shallower.blocks = shallower.blocks[:2]
    assert_is(matched(deeper.state_dict(), rename={r"blocks\.2\.": None}), shallower)


@pytest.mark.parametrize(
    ("rename", "message"),
    [
        ({"([": "x"}, r"rename=\(\[ is no regular expression: "),
        ({"^features": "x"}, r"rename=\^features changes no name of a.pth that an earlier pattern does not$"),
        ({**RULES, "layer_1_bn": "x"}, "rename=layer_1_bn changes no name of a.pth that an earlier"),
        (
            {"layer_[12]_": "blocks.0."},
            "would make two tensors of a.pth one: layer_1_conv.weight and layer_2_conv.weight, both ",
        ),
        ({"(layer)": r"\2"}, r"rename=\(layer\): .2 cannot replace it: invalid group reference"),
        ({"(layer)": r"\g<a>"}, r"rename=\(layer\): .g<a> cannot replace it: unknown group name"),
        ({".": None}, "a.pth holds no tensors by name"),
        ({"layer_1_": "blocks.1.", "layer_2_": "blocks.0.", "conv1": "other"}, "it lacks stem.weight, stem.bias"),
    ],
)
def test_a_renaming_that_is_wrong_is_refused(rename, message):
    with pytest.raises(UserError, match=message):
        matched(renamed(), rename=rename)


class Unsafe:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code has run')",))


def truncated(content, path, share=0.6, **arguments):
    torch.save(content, path, **arguments)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def lying_header(path, **changes):
    """A file whose header says other than what lies in it."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}
    header = json.dumps({"token": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))


def array(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("array.npy", b"\x93NUMPY")


def program(path):
    with pytest.warns(match="deprecated"):
        torch.jit.script(nn.Linear(2, 2)).save(path)


WHOLE = "is no whole PyTorch file: it is damaged or truncated, or of another kind$"
AGAIN = r"save it again as a plain state dict: torch.save\(model.state_dict\(\), FILE\)$"
UNREADABLE = {
    "missing": (lambda path: None, "a.pth does not exist$"),
    "folder": (lambda path: path.mkdir(), "a.pth is a folder: name the checkpoint file in it$"),
    "empty": (lambda path: path.touch(), "a.pth is empty: it is no checkpoint$"),
    "code": (
        lambda path: torch.save(Unsafe(), path),
        f"a.pth holds objects that are neither tensors nor plain values .exec., which are not made: {AGAIN}",
    ),
    "code before 1.6": (
        lambda path: torch.save({"a": Unsafe()}, path, _use_new_zipfile_serialization=False),
        "nor plain values .exec., which",
    ),
    "a whole module": (
        lambda path: torch.save({"model": ONE}, path),
        f"nor plain values .{__name__}.Net., which.*{AGAIN}",
    ),
    "an object beside the weights": (
        lambda path: torch.save({"state_dict": state(), "lr": fractions.Fraction(1, 3)}, path),
        "nor plain values .fractions.Fraction., which",
    ),
    "truncated": (lambda path: truncated(state(), path), WHOLE),
    "truncated before 1.6": (lambda path: truncated(state(), path, _use_new_zipfile_serialization=False), WHOLE),
    "truncated at its start": (lambda path: truncated(state(), path, 0.001), WHOLE),
    "another zip file": (array, WHOLE),
    "a program": (program, f"is a TorchScript program, which is not run: {AGAIN}"),
    "a page": (
        lambda path: path.write_text("<!DOCTYPE html>\n<html>"),
        r"neither a safetensors nor a.*b'<!DOCTYPE html>.n<htm'$",
    ),
    "a pointer": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"),
        "begins with b'version https://git-",
    ),
    "lying shape": (
        lambda path: lying_header(path, shape=[3]),
        "is no whole safetensors file: it is damaged or truncated$",
    ),
    "lying offsets": (lambda path: lying_header(path, data_offsets=[0, 800]), "is no whole safetensors file"),
    "lying type": (lambda path: lying_header(path, dtype="F99"), "is no whole safetensors file"),
    "truncated safetensors": (lambda path: path.write_bytes(save(body())[:-9]), "is no whole safetensors file"),
}


@pytest.mark.parametrize("content", UNREADABLE)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path, content):
    make, message = UNREADABLE[content]
    make(tmp_path / "a.pth")
    with pytest.raises(UserError, match=message) as raised:
        read_file(tmp_path / "a.pth")
    assert "\n" not in str(raised.value)


@settings(max_examples=40)
@given(
    keys=st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3),
    parts=st.lists(st.sampled_from(["module", "backbone", "blocks", "0", "fc", "stem", "m"]), max_size=4),
    order=st.randoms(use_true_random=False),
    seed=st.integers(0, 3),
)
def test_whatever_is_around_them_the_very_tensors_are_found(keys, parts, order, seed):
    prefix = "".join(f"{part}." for part in parts)
    names = list(state())
    order.shuffle(names)
    generator = torch.Generator().manual_seed(seed)  # every number tells which tensor it belongs to
    mine = {name: torch.rand(state()[name].shape, generator=generator).to(state()[name].dtype) for name in names}
    content = under(prefix, mine, **{"zz.queue": torch.ones(2)})
    for key in reversed(keys):
        content = {"epoch": 3, "optimizer": {"m": torch.ones(3)}, key: content}
    found = matched(content)
    assert (found.path.replace(".", ""), found.prefix) == ("".join(keys).replace(".", ""), prefix)
    assert found.tensors.keys() == state().keys()
    assert all(torch.equal(found.tensors[name], mine[name]) for name in names)
    assert len(found.unused) == 1 + len(keys) - sum(key == "optimizer" for key in keys)


@settings(max_examples=40)
@given(st.data())
def test_one_tensor_changed_in_name_or_shape_is_never_loaded(data):
    content = dict(body())
    name = data.draw(st.sampled_from([name for name in content if not name.endswith("num_batches_tracked")]))
    tensor = content.pop(name)
    if data.draw(st.booleans()):
        content[name] = data.draw(st.sampled_from([tensor[None], tensor[:1], torch.cat([tensor, tensor])]))
        if content[name].shape == tensor.shape:  # the token's first entry is all of it
            content[name] = tensor[None]
    else:
        content[name + "_g"] = tensor
    with pytest.raises(UserError, match="comes closest, with 15 of 16 tensors"):
        matched(content)


def test_a_module_that_continues_the_numbering_beside_the_body_is_refused():
    class Plain(nn.Module):
        def __init__(self, depth):
            super().__init__()
            for i in range(1, depth + 1):
                self.add_module(f"conv{i}", nn.Conv2d(3, 3, 1))
            self.fc = nn.Linear(3, 2)

    with pytest.raises(UserError, match=r"2 more inside, .*: conv3.weight, conv3.bias;"):
        match(Plain(3).state_dict(), Plain(2).state_dict(), head=HEAD, name="a.pth")
    assert match(Plain(2).state_dict(), Plain(2).state_dict(), head=HEAD, name="a.pth").unused == ()


def test_the_shallower_twin_of_a_real_network_is_told_from_it():
    """ResNet-34 has all tensors of ResNet-18 by name and shape; only its further blocks tell."""
    from torchvision.models import resnet18, resnet34

    with torch.device("meta"):
        small, large = resnet18().state_dict(), resnet34().state_dict()
    assert all(large[name].shape == tensor.shape for name, tensor in small.items())
    zeros = {name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) for name, tensor in large.items()}
    with pytest.raises(UserError, match=r"all of it, and 80 more inside, .*: layer1.2.conv1.weight, "):
        match(zeros, small, head=HEAD, name="resnet34.pth")


def test_a_real_network_survives_the_file(tmp_path):
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    original, other = mobilenet_v2(num_classes=7).eval(), mobilenet_v2(num_classes=7).eval()
    torch.save(
        {"model": {f"module.{name}": tensor for name, tensor in original.state_dict().items()}}, tmp_path / "a.pth"
    )
    head = ("classifier.1.weight", "classifier.1.bias")
    found = match(read_file(tmp_path / "a.pth"), other.state_dict(), head=head, name="a.pth")
    assert (found.path, found.prefix, found.head, found.unused, found.missing) == ("model", "module.", True, (), ())
    other.load_state_dict(found.tensors)
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(other(images), original(images))
