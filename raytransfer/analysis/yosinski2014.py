"""The networks of Yosinski et al. 2014, as results that the analysis takes like our own."""

from importlib.resources import files

import pandas as pd


def yosinski2014() -> pd.DataFrame:
    """Results of the 148 networks of the 2014 paper whose logs survive, one row per network.

    Source: computed from the training logs of the authors' networks (Yosinski, Clune, Bengio, Lipson 2014, *How
    transferable are features in deep neural networks?*, arXiv 1411.1792), which evaluate every 1000 iterations.
    CaffeNet (N = 8 layers) on ILSVRC12, on four random halvings of its 1000 classes (``random0`` to ``random3``), on
    natural (half A, 449 classes) against man-made (half B, 551 classes), and on all classes.

    Columns follow ``raytransfer.store.schema``; ``id`` is the authors' name of the network, ``seed`` is 0 throughout,
    as they ran each cell once, and these differ or are added:

    - top1: top-1 accuracy at the last evaluation, a fraction;
    - top1_best10: mean of the 10 best evaluations, the score the paper reports, a fraction;
    - loss_nats_best10, train_loss_nats_best10: means of the 10 lowest losses, in nats, which are not the losses after
      the last step;
    - per_class: training images kept of each class, missing where all were.

    Whole ILSVRC12 has halves and split ``all``, with ``baseB`` and ``RnB``; it has no second half, and ``A->B`` only
    fills the column. Its bases on fewer images are of a treatment of their own, ``baseB-reduced``, and each volume of
    halves and split of its own (``all-1000``: 1000 images a class), so that no mean takes them in. They ran for 200 000
    iterations, the others for 450 000.

    What did not survive or was never run: every AnB+ of the random halves has direction ``A->B`` and every BnB and BnB+
    ``B->A``, and the fine-tuned runs come from two of the four splits, one of them with gaps.
    """
    with (files(__package__) / "yosinski2014_networks.csv").open(encoding="utf-8") as file:
        networks = pd.read_csv(file, dtype={"frozen": "boolean", "per_class": "Int64"})
    return networks.assign(dataset="ilsvrc12", network="caffenet", seed=0)
