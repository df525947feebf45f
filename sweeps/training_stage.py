"""When do features transfer best? Transfer from checkpoints along pretraining (Liu et al. 2019, section 5).

One base run for each learning-rate schedule leaves checkpoints, evenly on a logarithmic axis and around every drop of
the rate; from each, a frozen and a fine-tuned transfer start as soon as it exists. The report says where the best
checkpoint lies, whether transfer rises and then declines, and what a drop does that training longer does not.

    python sweeps/training_stage.py                    digits, no network: 3 minutes on two cores
    python sweeps/training_stage.py --plan             what would run, and about how long
    python sweeps/training_stage.py preset=cifar10     CIFAR-10 at 16 pixels, 200 epochs: an hour of one core
    python sweeps/training_stage.py preset=cifar10_gpu
                                                       CIFAR-10 at 32 pixels, 307 epochs, 12 seeds: 4 minutes on an
                                                       H200, by the rate of other trainings; not run

On digits (3 seeds, both directions) expect nothing to be told of rise or decline: with so few seeds gains of 4 to 11
points would be. ``raytransfer run checkpoints`` does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("checkpoints", __doc__)
