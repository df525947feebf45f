"""Images a second that streaming decodes, against plain decoding with as many workers, and the memory that it takes.

    python tests/benchmarks/streaming.py            # 50,000 JPEGs of 256 pixels, 0.9 GB
    python tests/benchmarks/streaming.py 5000 1     # as many images, at least 2500, and rounds of timing instead of 3

Makes JPEGs from crops of scikit-learn's two photographs, and removes them. Each round streams batches of a training in
random order, and lets as many workers decode as many images of the same folder, in random order: threads with
Pillow, threads with torchvision's ``decode_jpeg``, and processes of a ``DataLoader`` of ``ImageFolder``.
Prints images a second of each and images a second of CPU time, which another job on the machine does not change as
much, and the median ratios of ours to each of the others, by both. Then a process
for a fifth of the images, and one for all, streams an epoch: prints the memory at its end and at its peak.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms.functional import pil_to_tensor

from raytransfer.specs import Recipe
from raytransfer.tasks import DataSource, load_task, open_dataset, task_spec
from raytransfer.tasks.threads import THREADS, ahead
from raytransfer.training import DeviceData, use_one_core

SIDE = 256
BATCH = 128
CLASSES = 10


def make(folder: Path, count: int) -> None:
    """Write JPEGs: crops of two photographs, a fiftieth of them test images."""
    photographs = [load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    for part in ("train", "test"):
        for label in range(CLASSES):
            (folder / part / f"c{label}").mkdir(parents=True)

    def write(i: int) -> None:
        rng, part = np.random.default_rng(i), "test" if i % 50 < 1 else "train"
        photograph = photographs[i % 2]
        top, left = (int(rng.integers(0, side - SIDE)) for side in photograph.shape[:2])
        crop = photograph[top : top + SIDE, left : left + SIDE]
        Image.fromarray(crop).save(folder / part / f"c{i // 50 % CLASSES}" / f"{i:06}.jpg", quality=85)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(write, range(count)))


def streamed(folder: Path, cache: Path) -> DeviceData:
    """The task of all classes, its images streamed."""
    source = DataSource(
        data=str(folder), data_dir=str(folder), cache_dir=str(cache), image_size_px=SIDE, channels=3, decoded="stream"
    )
    dataset = open_dataset(source)
    task = load_task(dataset, task_spec(dataset, range(CLASSES), None, 0))
    recipe = Recipe(steps=1, batch_size=BATCH, learning_rate=0.1)
    return DeviceData(task, recipe, torch.device("cpu"), 0)


def batches(data: DeviceData, count: int, seed: int) -> Iterator[int]:
    """Batches of a training as its loop takes them; the number of images of each."""
    views = islice(data.draw(torch.Generator().manual_seed(seed)), count)
    for batch in ahead(data.fetch, views):
        yield len(batch[1])


def pillow(file: str) -> int:
    with Image.open(file) as image:
        return len(np.asarray(image.convert("RGB")))


def torchvision(file: str) -> int:
    return len(decode_jpeg(read_file(file), mode=ImageReadMode.RGB))


def with_threads(decode: Callable[[str], int], files: Sequence[str]) -> None:
    """Decode files with as many threads as streaming has."""
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in pool.map(decode, files):
            pass


def with_loader(folder: Path, count: int) -> None:
    """Decode images with as many processes of PyTorch's own loader."""
    images = ImageFolder(str(folder), pil_to_tensor)
    sampler = RandomSampler(images, num_samples=count)
    for _ in DataLoader(images, BATCH, sampler=sampler, num_workers=THREADS, persistent_workers=False):
        pass


def timed(work: Callable[[], object], count: int) -> tuple[float, float]:
    """Images a second, and images a second of CPU time."""
    started, before = time.perf_counter(), cpu_s()
    work()
    return count / (time.perf_counter() - started), count / (cpu_s() - before)


def cpu_s() -> float:
    """CPU time of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def memory(folder: Path, cache: Path) -> None:
    """Stream an epoch; print the megabytes after the first tenth, at the end, and at the peak."""
    use_one_core()
    data = streamed(folder, cache)
    steps = len(data.train) // BATCH
    seen = []
    for step, _ in enumerate(batches(data, steps, 0)):
        if step in (steps // 10, steps - 1):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(
        f"{len(data.train)} images: {seen[0]:.0f} MB after a tenth, {seen[-1]:.0f} at the end, {peak:.0f} at the peak"
    )


def main() -> None:
    """Make the images, time the four ways, and look at the memory."""
    if sys.argv[1:2] == ["memory"]:
        memory(Path(sys.argv[2]), Path(sys.argv[3]))
        return
    count, rounds = [*map(int, sys.argv[1:]), *(50_000, 3)[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as root:
        folder, fewer = Path(root, "images"), Path(root, "fewer")
        started = time.perf_counter()
        make(folder, count)
        files = [str(file) for file in (folder / "train").glob("*/*")]
        size = sum(Path(file).stat().st_size for file in files) / len(files)
        print(f"{count} JPEGs of {size / 1e3:.1f} kB made in {time.perf_counter() - started:.0f} s; {THREADS} workers")
        started = time.perf_counter()
        data = streamed(folder, Path(root, "cache"))
        print(f"opened in {time.perf_counter() - started:.1f} s")
        torch.set_num_threads(1)
        steps = len(files) // BATCH
        rounds_of = []
        print("images a second (and of CPU time)")
        for index in range(rounds):
            order = np.random.default_rng(index).permutation(len(files))[: steps * BATCH]
            chosen = [files[i] for i in order]
            speeds = {
                "streamed": timed(lambda: sum(batches(data, steps, index)), len(chosen)),  # noqa: B023 - called at once
                "Pillow": timed(lambda: with_threads(pillow, chosen), len(chosen)),  # noqa: B023
                "torchvision": timed(lambda: with_threads(torchvision, chosen), len(chosen)),  # noqa: B023
                "DataLoader": timed(lambda: with_loader(folder / "train", len(chosen)), len(chosen)),  # noqa: B023
            }
            rounds_of.append(speeds)
            print(", ".join(f"{name} {wall:.0f} ({cpu:.0f})" for name, (wall, cpu) in speeds.items()), flush=True)
        for name in list(rounds_of[0])[1:]:
            by_wall, by_cpu = (median(found["streamed"][i] / found[name][i] for found in rounds_of) for i in (0, 1))
            print(f"streamed over {name}: {by_wall:.2f}, by CPU time {by_cpu:.2f}")
        for file in (file for part in ("train", "test") for file in (folder / part).glob("*/*")):
            if int(file.stem) < count // 5:
                place = fewer / file.relative_to(folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, place)
        for images in (fewer, folder):
            subprocess.run([sys.executable, __file__, "memory", str(images), str(Path(root, "cache"))], check=True)


if __name__ == "__main__":
    main()
