"""What real ImageNet weights say of two photographs, once they are read from a file and matched by name.

    python tests/benchmarks/imagenet_files.py mobilenet_v2-b0353104.pth efficientnet-lite0-57934424.pth

The files begin with mobilenet_v2 (torchvision's names) or efficientnet-lite0, -lite1 or -lite2 (names of their own,
which are renamed to those of timm's tf_efficientnet_lite networks). Prints the three likeliest classes of two pictures
of scikit-learn's with their probabilities: china.jpg, a temple (698 is palace), and flower.jpg (985 is daisy).
"""

import re
import sys
from pathlib import Path

import timm
import torch
from sklearn.datasets import load_sample_image
from torch import nn
from torchvision.models import mobilenet_v2
from torchvision.transforms import v2

from raytransfer.networks.checkpoint_files import read_file
from raytransfer.networks.foreign import match

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALF = ([0.5] * 3, [0.5] * 3)
BICUBIC, BILINEAR = v2.InterpolationMode.BICUBIC, v2.InterpolationMode.BILINEAR
LITE_PX = (224, 240, 260)
# Parts of a block in the files, and in timm; the first stage's blocks do not expand.
FIRST = {"depthwise_conv": "conv_dw", "bn1": "bn1", "project_conv": "conv_pw", "bn2": "bn2"}
LATER = {
    "expand_conv": "conv_pw",
    "bn0": "bn1",
    "depthwise_conv": "conv_dw",
    "bn1": "bn2",
    "project_conv": "conv_pwl",
    "bn2": "bn3",
}


def lite_renaming(stages: list[int]) -> dict[str, str]:
    """The renaming to timm's names, which count blocks by stage: from the number of blocks in each stage."""
    rules = {
        "^_conv_stem": "conv_stem",
        "^_bn0": "bn1",
        "^_conv_head": "conv_head",
        "^_bn1": "bn2",
        "^_fc": "classifier",
    }
    blocks = [(stage, block) for stage, count in enumerate(stages) for block in range(count)]
    for i, (stage, block) in enumerate(blocks):
        for old, new in (FIRST if stage == 0 else LATER).items():
            rules[rf"^_blocks\.{i}\._{old}\."] = f"blocks.{stage}.{block}.{new}."
    return rules


def network(path: Path) -> tuple[nn.Module, v2.Transform]:
    """The network that the file's name says, with the file's weights, and how its images are made."""
    lite = re.match(r"efficientnet-lite([012])", path.name)
    if lite:
        side = LITE_PX[int(lite[1])]
        module = timm.create_model(f"tf_efficientnet_lite{lite[1]}")
        blocks = [len(list(stage.children())) for stage in module.get_submodule("blocks").children()]
        head, rename = "classifier", lite_renaming(blocks)
        make = [v2.Resize(round(side / 0.875), BICUBIC), v2.CenterCrop(side), v2.Normalize(*HALF)]
    else:
        module, head, rename = mobilenet_v2(), "classifier.1", {}
        make = [v2.Resize(256, BILINEAR), v2.CenterCrop(224), v2.Normalize(*IMAGENET)]
    found = match(
        read_file(path),
        module.state_dict(),
        head=(f"{head}.weight", f"{head}.bias"),
        name=path.name,
        rename=rename,
    )
    print(f"{path.name}: head {found.head}, unused {list(found.unused)}, missing {list(found.missing)}")
    module.load_state_dict(found.tensors)
    *resize, normalize = make
    return module.eval(), v2.Compose([*resize, v2.ToDtype(torch.float32, scale=True), normalize])


@torch.no_grad()
def main() -> None:
    """Classify both photographs by each file."""
    for path in map(Path, sys.argv[1:]):
        module, make = network(path)
        for photograph in ("china.jpg", "flower.jpg"):
            pixels = torch.tensor(load_sample_image(photograph)).permute(2, 0, 1)
            best = module(make(pixels)[None]).softmax(1)[0].topk(3)
            classes = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            print(f"  {photograph}: {', '.join(f'{i} {probability:.3f}' for i, probability in classes)}")


if __name__ == "__main__":
    main()
