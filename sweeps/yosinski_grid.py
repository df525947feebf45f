"""How transferable are features in deep neural networks? The grid of Yosinski et al. 2014, on any image data.

For every n, the first n layers of a base network are copied into a new one, frozen or fine-tuned, and the rest is
trained anew: on the base's own half of the classes (BnB, BnB+) or on the other (AnB, AnB+). RnB leaves the first n
layers random, baseB-2x trains a base for twice the steps. ``raytransfer list treatments`` has all of them.

    python sweeps/yosinski_grid.py                    scikit-learn's digits, no network: 90 seconds on two cores
    python sweeps/yosinski_grid.py --plan             what would run, and about how long
    python sweeps/yosinski_grid.py data=cifar10       real images: an hour on two cores, as --plan estimates

On digits (8 units on random halves, 95% intervals) expect a base of 92.7% (89.1 to 96.3); AnB to fall from 93.2% at n =
1 to 69.2% at n = 7 (64.5 to 74.0); RnB to fall to 59.1% (51 to 67); AnB+ 0.8 points above baseB (-1.4 to 2.9).
sweeps/results/digits.md has the rest. ``raytransfer run yosinski`` does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("yosinski", __doc__)
