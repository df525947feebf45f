r"""The same sweep written plainly, after Ray Tune's and PyTorch's tutorials: what ``versus_plain.py`` measures against.

    python tests/benchmarks/plain_sweep.py data=digits halves=[random] splits=1 seeds=1 directions=[A->B] n_layers=[4] \
        out=/tmp/plain

It takes the options of ``sweeps/yosinski_grid.py``, runs the same cells, and writes their results to
``out``/results.csv. These are 7 cells, which take 33 s on two cores and end with such a table:

      treatment  n_layers      top1      loss  train_top1
    0     baseB         0  0.912946  0.223484         1.0
    3       AnB         4  0.857143  0.392687         1.0

It is what a careful user writes who knows both libraries and looks for no trick: ``tune.grid_search`` over the cells, a
function that calls ``tune.report`` at every evaluation, a new process for each trial, Tune's own loggers;
``torch.utils.data`` and torchvision's transforms on PIL images. Trials of a grid search know nothing of each other, so
each one that copies from a base trains it first, without evaluating it: the trial baseB does that. Network, surgery,
recipe and the images of each task are raytransfer's own. Given the same batches, its loop gives the accuracies of
``raytransfer.training.train``, and losses that differ in the seventh digit; its batches are other random draws.

``workers=N`` sets the worker processes of each ``DataLoader``; the default is the cores that a slot has beyond its
first. Two CIFAR-10 trials of 200 steps and 5 evaluations side by side on two cores, four to six runs of each: at best
8.9 s a trial with none, 10.5 s with one and 11.8 s with two, for the cores are busy with training already.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from ray import tune
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.yosinski.cells import GridCell
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import Network, build, copy_first, freeze, train_mode, trainable
from raytransfer.specs import PretrainSpec, Recipe, TrainingSpec, TransferSpec
from raytransfer.specs.dependencies import needs
from raytransfer.store import Store
from raytransfer.sweep.arithmetic import settled
from raytransfer.sweep.slots import check_slots
from raytransfer.tasks import Dataset as ImageSet
from raytransfer.tasks import DataSource, Part, TaskData, load_task, open_fingerprint
from raytransfer.training import evaluation_steps, learning_rate, stream_seed

YAML = EXPERIMENTS["yosinski"].defaults
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MOST_WORKERS = 8

Batch = tuple[torch.Tensor, torch.Tensor]


class Images(Dataset[tuple[torch.Tensor, int]]):
    """A task's images as ``torchvision.datasets.CIFAR10`` has them: an array in memory, a PIL image for each item."""

    def __init__(self, part: Part, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        images = part.images[part.rows].transpose(0, 2, 3, 1)
        self._images = np.ascontiguousarray(images[..., 0] if images.shape[-1] == 1 else images)
        self._labels: list[int] = part.labels.tolist()
        self._transform = transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._images[index])), self._labels[index]


class Clock:
    """Seconds by part of a trial; a part inside another counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._part, self._since = "other", time.perf_counter()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time of the block for this part."""
        outer = self._switch(name)
        yield
        self._switch(outer)

    def loading(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The batches; the time that waiting for each takes counts as the loading of the part under way."""
        iterator = iter(batches)
        while True:
            with self.part(f"{self._part}: loading"):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    def _switch(self, name: str) -> str:
        now, left = time.perf_counter(), self._part
        self.seconds[left] += now - self._since
        self._part, self._since = name, now
        return left


def loader(part: Part, task: TaskData, recipe: Recipe, workers: int, *, training: bool) -> DataLoader[Any]:
    """Batches of augmented images in random order for training, else of all images as they are, for evaluation."""
    side = recipe.crop_px or part.images.shape[-1]
    mean, std = task.channel_mean / 255, task.channel_std / 255
    if recipe.normalization == "given":
        mean, std = np.array(recipe.channel_mean), np.array(recipe.channel_std)
    if recipe.normalization == "mean":
        std = np.full_like(std, 1 / 255)
    steps: list[Callable[[Any], Any]] = []
    if training and (recipe.pad_px or recipe.crop_px):
        steps.append(transforms.RandomCrop(side, padding=recipe.pad_px))
    elif recipe.crop_px:
        steps.append(transforms.CenterCrop(side))
    if training and recipe.mirror:
        steps.append(transforms.RandomHorizontalFlip())
    steps += [transforms.ToTensor(), transforms.Normalize(mean.tolist(), std.tolist())]
    images = Images(part, transforms.Compose(steps))
    return DataLoader(
        images,
        batch_size=min(recipe.batch_size, len(images)) if training else 500,
        shuffle=training,
        drop_last=training,
        num_workers=workers,
        persistent_workers=workers > 0,  # else every epoch and every evaluation would start them anew
        pin_memory=DEVICE.type == "cuda",
    )


def on_device(batch: Batch, recipe: Recipe) -> Batch:
    """A batch on the device, in the recipe's memory format."""
    images, labels = (tensor.to(DEVICE, non_blocking=True) for tensor in batch)
    return images.contiguous(memory_format=torch.channels_last) if recipe.channels_last else images, labels


def train(
    network: Network, recipe: Recipe, frozen: int, batches: DataLoader[Any], clock: Clock
) -> Iterator[tuple[int, float]]:
    """Train the network in place, stopping at every evaluation for its step and the mean loss since the one before."""
    biases = [parameter for name, parameter in trainable(network) if name.endswith(".bias")]
    weights = [parameter for name, parameter in trainable(network) if not name.endswith(".bias")]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    of_biases = {"lr": rate * recipe.bias_lr_multiplier, "weight_decay": decay * recipe.bias_decay_multiplier}
    optimizer = torch.optim.SGD(
        [{"params": weights}, {"params": biases, **of_biases}],  # type: ignore[arg-type]  # a list of mappings it is
        lr=rate,
        momentum=recipe.momentum,
        weight_decay=decay,
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(recipe, step) / rate)
    due, since, loss_sum = set(evaluation_steps(recipe)), 0, torch.zeros((), device=DEVICE)
    train_mode(network)
    epochs = chain.from_iterable(repeat(batches))  # without end
    for step, batch in zip(range(1, recipe.steps + 1), clock.loading(epochs), strict=False):
        images, labels = on_device(batch, recipe)
        optimizer.zero_grad()
        with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = network.module(images)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(network.module.parameters(), recipe.clip_norm)
        optimizer.step()
        scheduler.step()
        loss_sum += loss.detach()  # not .item(), which would wait for the GPU at every step
        since += 1
        if step in due:
            yield step, loss_sum.item() / since
            train_mode(network)
            loss_sum.zero_()
            since = 0


@torch.no_grad()
def evaluate(network: Network, recipe: Recipe, batches: DataLoader[Any], clock: Clock) -> tuple[float, float]:
    """Accuracy (0..1) and mean cross-entropy (nats)."""
    network.module.eval()
    correct, loss = torch.zeros((), device=DEVICE), torch.zeros((), device=DEVICE)
    with clock.part("evaluation"):
        for batch in clock.loading(batches):
            images, labels = on_device(batch, recipe)
            with torch.autocast(DEVICE.type, dtype=torch.bfloat16, enabled=recipe.precision == "bf16"):
                logits = network.module(images)
            correct += (logits.argmax(1) == labels).sum()
            loss += functional.cross_entropy(logits.float(), labels, reduction="sum")
        count = len(batches.dataset)  # type: ignore[arg-type]
        return correct.item() / count, loss.item() / count


def fresh(spec: TrainingSpec, task: TaskData, phase: str) -> Network:
    """A network with fresh weights on the device; a base and a transfer of one seed start from different ones."""
    network = build(
        spec.network,
        image=spec.recipe.seen_shape(task.train.images.shape[1:]),
        # not len(spec.task.classes): in a function that uses torch, cloudpickle takes that name for torch.classes
        classes=int(task.train.labels.max()) + 1,
        seed=stream_seed(spec.seed, phase, spec.task.stream, "init"),
    )
    network.module.to(DEVICE)
    if spec.recipe.channels_last:
        network.module.to(memory_format=torch.channels_last)
    torch.manual_seed(stream_seed(spec.seed, phase, spec.task.stream))  # of batches, augmentation and dropout
    return network


def trained_base(base: PretrainSpec, dataset: ImageSet, workers: int, clock: Clock) -> Network:
    """A base trained from the start; how accurate it is, is for the trial baseB to report."""
    task = load_task(dataset, base.task)
    network = fresh(base, task, "pretrain")
    with clock.part("base training"):
        for _ in train(network, base.recipe, 0, loader(task.train, task, base.recipe, workers, training=True), clock):
            pass
    return network


def trial(config: dict[str, str], cells: dict[str, GridCell], source: DataSource, workers: int) -> None:
    """What Tune calls: one cell of the grid, beginning with its base where it copies from one."""
    start_s = time.process_time()  # CPU time: Ray may have started the process long before it had a trial for it
    clock, cell = Clock(), cells[config["cell"]]
    spec = cell.spec
    assert isinstance(spec, TrainingSpec), "a grid has no others"
    frozen = spec.surgery.frozen_layers
    base = next((weights.training for weights in needs(spec) if isinstance(weights.training, PretrainSpec)), None)
    recipe = spec.recipe
    dataset = open_fingerprint(source, spec.task.fingerprint)
    base_network = trained_base(base, dataset, workers, clock) if base else None
    task = load_task(dataset, spec.task)
    network = fresh(spec, task, "pretrain" if isinstance(spec, PretrainSpec) else "transfer")
    n_layers = spec.surgery.n_layers if isinstance(spec, TransferSpec) else 0
    if base_network is not None:
        copy_first(base_network.module.state_dict(), network, n_layers)
    freeze(network, range(frozen))
    training = loader(task.train, task, recipe, workers, training=True)
    test = loader(task.test, task, recipe, workers, training=False)
    trained_on = loader(task.train, task, recipe, workers, training=False)
    metrics: dict[str, Any] = {}
    with clock.part("target training"):
        for step, train_loss in train(network, recipe, frozen, training, clock):
            top1, loss = evaluate(network, recipe, test, clock)
            metrics = {"step": step, "train_loss": train_loss, "top1": top1, "loss": loss}
            if step < recipe.steps:
                with clock.part("reports to Tune"):
                    tune.report(metrics)
    metrics["train_top1"], metrics["train_loss"] = evaluate(network, recipe, trained_on, clock)
    metrics |= {"treatment": cell.treatment, "n_layers": n_layers, "threads": torch.get_num_threads()}
    with clock.part("end"):  # closes the part before it
        seconds = {"process start and imports": start_s, **clock.seconds}
        ended_at = time.time()
        tune.report(metrics | {"seconds": seconds, "began_at": ended_at - sum(seconds.values()), "ended_at": ended_at})


def name_of(cell: GridCell) -> str:
    """A cell in a few words, for Tune's tables."""
    n = f" n={cell.spec.surgery.n_layers}" if isinstance(cell.spec, TransferSpec) else ""
    return f"{cell.treatment}{n} {cell.split} {cell.direction} seed={cell.spec.seed}"


def main() -> None:
    """Run the grid that the sweep's YAML and the overrides ask for; the results go to ``out``/results.csv."""
    wanted = [argument for argument in sys.argv[1:] if argument.startswith("workers=")]
    config = load_config(GridConfig, YAML, [argument for argument in sys.argv[1:] if argument not in wanted])
    config, plan, _ = settled(config, Store(config.out), make_plan)
    cells = {name_of(cell): cell for cell in plan.cells}
    gpus, cores = torch.cuda.device_count(), os.cpu_count() or 1
    gpu_share = 1.0 if config.gpus_per_trial == "auto" else config.gpus_per_trial
    slots = check_slots(config.slots, gpus or cores, gpu_share if gpus else 1.0, "GPU" if gpus else "CPU")
    workers = int(wanted[-1].partition("=")[2]) if wanted else min(max(0, cores // slots - 1), MOST_WORKERS)
    to_run = tune.with_parameters(trial, cells=cells, source=plan.sources[0][1], workers=workers)
    out = Path(config.out).resolve()
    results = tune.Tuner(
        tune.with_resources(to_run, {"cpu": 1, "gpu": gpu_share if gpus else 0}),
        param_space={"cell": tune.grid_search(list(cells))},
        tune_config=tune.TuneConfig(max_concurrent_trials=config.slots),
        run_config=tune.RunConfig(name="plain_sweep", storage_path=str(out)),
    ).fit()
    table = results.get_dataframe()
    table["slots"], table["workers"] = slots, workers
    table.to_csv(out / "results.csv", index=False)
    print(table[["treatment", "n_layers", "top1", "loss", "train_top1"]].to_string())
    sys.exit(1 if results.errors else 0)


if __name__ == "__main__":
    main()
