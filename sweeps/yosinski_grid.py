"""How transferable are features in deep neural networks? The grid of Yosinski et al. 2014, on any image data.

For every n, the first n layers of a base network are copied into a new one, frozen or fine-tuned, and the rest is
trained anew: on the base's own half of the classes (BnB, BnB+) or on the other (AnB, AnB+). RnB leaves the first n
layers random, baseB-2x trains a base for twice the steps.

    python sweeps/yosinski_grid.py                      scikit-learn's digits: no network, a few minutes on two cores
    python sweeps/yosinski_grid.py --plan               what would run, and about how long
    python sweeps/yosinski_grid.py data=cifar10         real images: hours on two cores
"""

from raytransfer.cli import main

if __name__ == "__main__":
    main(__file__, __doc__)
