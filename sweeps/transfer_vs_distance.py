"""Transfer against distance: which measure of how far apart two tasks are predicts how well features transfer.

Base tasks lie at known distances from a target: other data sets and halves, or the target with dials turned (blurred,
shuffled, other classes, random labels, ...). Each is transferred to the target at several cuts, frozen (AnB) and
fine-tuned (AnB+); distances between the tasks and scores of the base's features are measured as trials of their own;
and the report says which of them predicts transfer.

    python sweeps/transfer_vs_distance.py                 digits with dials, no network: 4 to 5 minutes on two cores
    python sweeps/transfer_vs_distance.py --plan          what would run, and about how long
    python sweeps/transfer_vs_distance.py preset=real     CIFAR-10, Fashion-MNIST, MNIST and digits: an hour of one core

On digits (34 bases of one target, 3 seeds) expect frozen transfer to fall from 91% at n = 2 to 69% at n = 6, and
Spearman's rho between it and LogME of 0.38, 0.90 and 0.96 at n = 2, 4 and 6. sweeps/results/distance.md has the
intervals, and the rest. ``raytransfer run distance`` does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("distance", __doc__)
