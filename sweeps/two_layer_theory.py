"""How far do the weights of a wide two-layer network move? The theory of Liu et al. 2019, section 6, simulated.

Two-layer ReLU networks of growing width are trained by gradient descent on a task P and then on Q, which differ by
their labels or by their pixels. The report sets the distance that the weights move on Q, and the gradient where P left
them, against what the Gram matrices of the infinitely wide network say.

    python sweeps/two_layer_theory.py                                 digits, no network: 1 minute on two cores
    python sweeps/two_layer_theory.py "widths=[1000,30000]" images=30    wider, and more images

On digits (20 images, 3 seeds) expect a distance of 0.90 to 1.03 of the bound at width 10,000, and up to 1.21 at 100.
sweeps/results/theory.md has the rest. ``raytransfer run theory`` does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("theory", __doc__)
