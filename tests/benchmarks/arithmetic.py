"""How close a training step comes to the arithmetic it needs, and where the rest of its time goes.

    python tests/benchmarks/arithmetic.py data=cifar10
    python tests/benchmarks/arithmetic.py data=digits
    python tests/benchmarks/arithmetic.py data=cifar10 network=resnet18

For steps with none and with 1, 3, 5 and 7 eighths of the stages frozen (of convnet8 as many layers): the floating-point
operations that the convolutions and full layers need, the time they would take at the machine's matrix rate, and the
time the step takes, its frozen outputs computed at every step or reused. The matrix rate is the best of matrix products
of several sizes and of one large convolution, in the recipe's precision, on one thread (or the GPU). The profile says
what a base's step consists of.
"""

import functools
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from spread import spread, with_defaults
from torch._C._autograd import DeviceType  # what torch.autograd passes on
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from raytransfer.config import load_config
from raytransfer.experiments import EXPERIMENTS
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.networks import freeze, train_mode
from raytransfer.specs import PretrainSpec, Recipe
from raytransfer.store import Store
from raytransfer.sweep.arithmetic import settled
from raytransfer.tasks import TaskData, load_task
from raytransfer.training import DeviceData, FrozenOutputs, Step, fastest, use_one_core
from raytransfer.trials import untrained

STEPS = 20
CPU_KINDS = {
    "convolution": ("conv",),
    "matrix products": ("mm", "linear"),
    "pooling": ("pool",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "optimiser": ("sgd", "optimizer"),
    "images": ("index", "pad", "unfold", "where", "flip", "constant"),
    "conversions and copies": ("copy", "to", "clone"),
}
GPU_KINDS = {  # conversions come first: some are cuDNN's
    "conversions and copies": ("copy", "memcpy", "memset", "nchwtonhwc", "nhwctonchw", "converttensor", "fill"),
    "convolution": ("fprop", "dgrad", "wgrad", "conv", "cudnn"),
    "matrix products": ("gemm", "gemv", "nvjet", "splitk"),
    "pooling": ("pool",),
    "ReLU": ("relu", "threshold", "clamp"),
    "optimiser": ("sgd", "multi_tensor"),
    "images": ("index", "gather", "where", "flip", "pad"),
    "sums over a batch": ("reduce", "softmax", "nll_loss"),
}


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Time of each of some calls."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return times


def matrix_rate(precision: str, device: torch.device) -> float:
    """Floating-point operations a second that this processor reaches at best."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rates = []
    for side in (512, 1024, 2048) if device.type == "cpu" else (2048, 4096, 8192):
        left, right = (torch.randn(side, side, dtype=dtype, device=device) for _ in range(2))
        left @ right
        rates.append(2 * side**3 / min(seconds(functools.partial(torch.matmul, left, right), device, 5)))
    images = torch.randn(64, 64, 32, 32, dtype=dtype, device=device).contiguous(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(64, 64, 3, padding=1, dtype=dtype, device=device).to(memory_format=torch.channels_last)
    with torch.no_grad():
        conv(images)
        rates.append(2 * 9 * 64 * 64 * 64 * 32 * 32 / min(seconds(lambda: conv(images), device, 5)))
    return max(rates)


def measured_step(
    spec: PretrainSpec, task: TaskData, recipe: Recipe, device: torch.device, frozen: int, *, reuse: bool
) -> tuple[float, list[float], Callable[[], None]]:
    """Operations of a step, its times, and the step itself."""
    data = DeviceData(task, recipe, device, 10**10)
    network = untrained(spec, data)
    freeze(network, range(frozen))
    train_mode(network)
    source = FrozenOutputs(network, data, frozen) if reuse else data
    step = Step(network, data, source)
    step.set_rate(1e-3)
    batches = map(source.fetch, data.draw(torch.Generator().manual_seed(0)))
    with FlopCounterMode(display=False) as counter:
        step(next(batches))
    take = fastest(step, data)
    for _ in range(5):
        take(next(batches))
    return counter.get_total_flops(), seconds(lambda: take(next(batches)), device, STEPS), lambda: take(next(batches))


def print_profile(step: Callable[[], object], device: torch.device, step_s: float) -> None:
    """Shares of a step's time by the kind of operation, or on a GPU of kernel; what is left is named for its cause."""
    on_gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as recorded:
        whole_s = sum(seconds(step, device, STEPS))
    if on_gpu:
        whole_s = STEPS * step_s  # the profiler slows launches down, but no kernel
    shares: dict[str, float] = {}
    for event in recorded.key_averages():
        if on_gpu == (event.device_type == DeviceType.CUDA):
            spent_us = event.self_device_time_total if on_gpu else event.self_cpu_time_total
            name = kind(event.key, GPU_KINDS if on_gpu else CPU_KINDS)
            shares[name] = shares.get(name, 0.0) + spent_us / 1e6 / whole_s
    left = "no kernel runs" if on_gpu else "Python and the profiler"
    shares[left] = 1 - sum(shares.values())
    ordered = sorted(shares.items(), key=lambda item: -item[1])
    print("a base's step: " + ", ".join(f"{name} {share:.0%}" for name, share in ordered if share > 0.01))


def kind(operation: str, kinds: Mapping[str, Sequence[str]]) -> str:
    """The kind of an operation of torch's or of a kernel: the first of which the name has a part."""
    name = operation.lower()
    return next((group for group, parts in kinds.items() if any(part in name for part in parts)), "other operations")


def main() -> None:
    """Measure and print."""
    use_one_core()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    options = with_defaults(["seeds=1", "splits=1"], sys.argv[1:])
    config = load_config(GridConfig, EXPERIMENTS["yosinski"].defaults, options)
    _, plan, _ = settled(config, Store(config.out), make_plan)
    spec = plan.longest_base
    task = load_task(plan.datasets[spec.task.fingerprint], spec.task)
    stages = len(untrained(spec, DeviceData(task, spec.recipe, device, 0)).stages)
    for precision in ("fp32", "bf16"):
        rate = matrix_rate(precision, device)
        print(f"{precision}, batch {spec.recipe.batch_size}: matrix rate {rate / 1e9:.0f} GFLOP/s")
        print("  frozen stages   GFLOP   at that rate   computed             share   reused")
        recipe = replace(spec.recipe, precision=precision)
        few_views = replace(recipe, pad_px=0)  # enough that outputs of all views fit
        for frozen in (0, *(stages * eighths // 8 for eighths in (1, 3, 5, 7))):
            flops, times, step = measured_step(spec, task, recipe, device, frozen, reuse=False)
            if frozen == 0:
                base_step, base_step_s = step, median(times)
            line = f"  {frozen:13}   {flops / 1e9:5.2f}   {flops / rate * 1e3:9.2f} ms"
            line += f"   {spread([t * 1e3 for t in times], 2):18} {flops / rate / median(times):6.0%}"
            if frozen:
                _, times, _ = measured_step(spec, task, few_views, device, frozen, reuse=True)
                line += f"   {spread([t * 1e3 for t in times], 2)}"
            print(line, flush=True)
        print_profile(base_step, device, base_step_s)


if __name__ == "__main__":
    main()
