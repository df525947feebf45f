"""How transferable are features in deep neural networks? The grid of Yosinski et al. 2014, on any image data.

For every n, the first n layers of a base network are copied into a new one, frozen or fine-tuned, and the rest is
trained anew: on the base's own half of the classes (BnB, BnB+) or on the other (AnB, AnB+). RnB leaves the first n
layers random, baseB-2x trains a base for twice the steps. ``raytransfer list treatments`` has all of them.

    python sweeps/yosinski_grid.py                    scikit-learn's digits, no network: 2 to 3 minutes on two cores
    python sweeps/yosinski_grid.py --plan             what would run, and about how long
    python sweeps/yosinski_grid.py data=cifar10       real images: an hour on two cores, as --plan estimates
    python sweeps/yosinski_grid.py preset=cifar10_gpu
                                                      20 splits of 3,200 steps: 1,554 trainings, 18 minutes on an H200
                                                      by the rate of 1,480 of 800 steps in 264 s; not run as a whole

    python sweeps/yosinski_grid.py --plan preset=imagenet_resnet50 data=FOLDER
                                                      ImageNet and ResNet-50: 328 trainings of 450,410 steps, 3.8e10
                                                      images in all, thousands of GPU-hours; never run as a whole

On digits expect AnB to fall from about 93% at n = 1 to 69% at n = 7, 24 points below BnB; RnB to fall to 57%; and no
boost that four splits resolve. sweeps/results/digits.md has the intervals, and the rest. ``raytransfer run yosinski``
does the same.
"""

from raytransfer.cli import run_script

if __name__ == "__main__":
    run_script("yosinski", __doc__)
