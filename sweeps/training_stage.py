"""When do features transfer best? Transfer from checkpoints along pretraining (Liu et al. 2019, section 5).

One base run for each learning-rate schedule leaves checkpoints, evenly on a logarithmic axis and around every drop of
the rate; from each, a frozen and a fine-tuned transfer start as soon as it exists. The report says where the best
checkpoint lies, whether transfer rises and then declines, and what a drop does that training longer does not.

    python sweeps/training_stage.py                    digits, no network: 3 minutes on two cores
    python sweeps/training_stage.py --plan             what would run, and about how long
    python sweeps/training_stage.py preset=cifar10     CIFAR-10 at 16 pixels: 18 minutes; or preset=fashion_mnist

On digits (3 seeds, both directions, cosine) expect frozen transfer to rise by about 4.5 points at n = 3 and 12 at
n = 6, fine-tuned transfer not to change measurably, and no decline worth the name. ``raytransfer run checkpoints`` does
the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("checkpoints", __doc__)
