"""Why do features transfer? Fine-tuned networks against networks trained from scratch (Liu et al. 2019, sections 3-4).

For each target, networks are fine-tuned from several bases and trained from scratch, all alike, and each once more
from another seed, with the same start and with another one. Probes then look at each along its training:
generalisation gap, deviation of the weights, flatness, landscape, loss and gradient along the gradient, gradients layer
by layer, paths between networks, CKA. The report compares fine-tuned with scratch, paired by target and seed, at the
last step and at matched training loss, and decides about each claim by one test, with the smallest effect that it would
have seen beside it.

    python sweeps/why_transfer.py                    digits, no network: 2 minutes on two cores
    python sweeps/why_transfer.py --plan             what would run, and what each probe takes
    python sweeps/why_transfer.py preset=cifar10     CIFAR-10 at 32 pixels, where fine-tuning gains: 1 to 2 hours
    python sweeps/why_transfer.py preset=cifar10_gpu
                                                     bases of 12,000 steps and 16 seeds: 9 minutes of trainings on an
                                                     H200, by the rate of shorter ones; probes not measured there
    python sweeps/why_transfer.py preset=real        four data sets at 16 pixels: an hour of one core

On digits (4 seeds) expect weights to stay nearer to where they started (relative deviation 0.78 of scratch's, 0.72 to
0.84), gradients to be less alike across layers, barriers between two networks to hang on whether they had one start far
more than on whether they are fine-tuned, and most other claims not to be told.
sweeps/results/liu2019.md has the effects. ``raytransfer run mechanisms`` does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("mechanisms", __doc__)
