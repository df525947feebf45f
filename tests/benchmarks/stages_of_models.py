"""Of all torchvision classifiers and a random 200 of timm: how many can be cut into stages, and are they exact?

    python tests/benchmarks/stages_of_models.py FILE.md [COUNT]    40 minutes on one core, 8 GB; nothing is downloaded

Each model gets noise on all its weights and statistics. *Found*: cut into at least 2 stages. *Partitioned*: every
parameter and buffer belongs to one of them. *Exact*: the stages one after the other give the outputs, statistics and
random numbers of the whole, in eval and in training mode; asked of models of up to 45 million parameters. *Head alone*:
the last stage owns nothing but the classifier.
"""

import functools
import random
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from raytransfer.errors import UserError
from raytransfer.networks.partition import check_exact, find_stages
from raytransfer.networks.stages import Network
from raytransfer.networks.tracing import all_tensors

SEED = 2026
CLASSES = 10
LARGEST_RUN = 45_000_000


def torchvision_models() -> Iterator[tuple[str, int, Any]]:
    from torchvision import models

    for name in models.list_models(module=models):
        args = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        side = 299 if name == "inception_v3" else 224
        yield (
            f"torchvision/{name}",
            side,
            lambda name=name, args=args: models.get_model(name, num_classes=CLASSES, **args),
        )


def timm_models(count: int) -> Iterator[tuple[str, int, Any]]:
    import timm

    for name in random.Random(SEED).sample(timm.list_models(), count):
        pretrained = timm.get_pretrained_cfg(name)
        assert pretrained is not None, "listed"
        side = pretrained.input_size[-1]
        yield f"timm/{name}", side, functools.partial(timm.create_model, name, num_classes=CLASSES)


def built(make: Any) -> nn.Module:
    """The module: without numbers if it is large, for then it is not run."""
    try:
        with torch.device("meta"):
            empty: nn.Module = make()
            if sum(p.numel() for p in empty.parameters()) > LARGEST_RUN:
                return empty
    except Exception:  # some draw their weights with what meta does not have
        pass
    module: nn.Module = make()
    return module


@torch.no_grad()
def with_noise(module: nn.Module) -> None:
    for name, tensor in all_tensors(module).items():
        if tensor.is_floating_point():
            noise = 0.02 * torch.randn(tensor.shape)
            tensor.add_(noise.abs() if "var" in name else noise)


def look(side: int, make: Any) -> dict[str, Any]:
    module = built(make)
    parameters = sum(p.numel() for p in module.parameters())
    row: dict[str, Any] = {"millions": parameters / 1e6, "stages": 0, "exact": None, "head": None, "remark": ""}
    on_meta = next(module.parameters()).is_meta
    if not on_meta:
        with_noise(module)
    started = time.perf_counter()
    try:
        stages = find_stages(module, (3, side, side))
        row["seconds"] = time.perf_counter() - started
        network = Network(module, stages, (3, side, side))
        row["stages"] = len(stages)
        classifier = {name for name, tensor in module.named_parameters() if tensor.shape[:1] == (CLASSES,)}
        row["head"] = set(stages[-1].tensors) <= classifier
        if not on_meta and parameters <= LARGEST_RUN:
            row["exact"] = False
            check_exact(network)
            row["exact"] = True
    except (UserError, ValueError) as error:
        row["remark"] = str(error)
    return row


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (40 * 2**30, 40 * 2**30))
    out, count = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 200
    rows: dict[str, dict[str, Any]] = {}
    for models in (torchvision_models(), timm_models(count)):
        for name, side, make in models:
            try:
                rows[name] = look(side, make)
            except Exception as error:  # a model that cannot be built, say
                rows[name] = {"stages": 0, "exact": None, "head": None, "remark": f"{type(error).__name__}: {error}"}
            print(name, rows[name], flush=True)
    out.write_text(page(rows))


def page(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| models | tried | found, partitioned | run | exact | head alone |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for family in ("torchvision", "timm"):
        of = [row for name, row in rows.items() if name.startswith(family)]
        found = [row for row in of if row["stages"] >= 2]
        run = [row for row in of if row["exact"] is not None]
        numbers = len(of), len(found), len(run), sum(row["exact"] for row in run), sum(bool(r["head"]) for r in found)
        lines.append(f"| {family} | " + " | ".join(map(str, numbers)) + " |")
    lines += ["", "| model | parameters, millions | stages | exact | s to find | remark |"]
    lines += ["| --- | --- | --- | --- | --- | --- |"]
    for name, row in rows.items():
        exact = {None: "not run", True: "yes", False: "no"}[row["exact"]]
        cells = f"{row.get('millions', 0):.1f}", row["stages"], exact, f"{row.get('seconds', 0):.1f}"
        remark = " ".join(row["remark"].split())[:160].replace("|", "/")
        lines.append(f"| {name} | " + " | ".join(map(str, cells)) + f" | {remark} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
