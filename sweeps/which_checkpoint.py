"""Which pretrained checkpoint to start from, cut where, and whether a score foretells it.

Checkpoints are read from files or from torchvision's and timm's hubs, scored on the target's training images at every
cut, and transferred, frozen (AnB) and fine-tuned (AnB+), against the same network from scratch (baseB) and on random
frozen layers (RnB). Beside the scores stand baselines that look at no image: published accuracy, size, and the ranking
on targets of other sources.

    python sweeps/which_checkpoint.py data=/my/images weights=[torchvision/resnet18@default,timm/resnet18@default]
    python sweeps/which_checkpoint.py data=/my/images weights=[...] best=3     score all, then train the best three

Weights that are no files are downloaded once. ``raytransfer run selection`` does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("selection", __doc__)
