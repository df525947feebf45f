"""What a task is: some classes of a data set, which of their training images, and how both are changed."""

from dataclasses import dataclass, field, replace
from typing import Literal

from raytransfer.specs.identity import NAME


@dataclass(frozen=True, kw_only=True)
class Dials:
    """How a task's images and labels differ from its data set's. Several compose, pixels in the order given here.

    The labels are made from the images as they were, training and test images alike: a task is a distribution of both.

    Attributes:
        resolution_px: Side to which images are reduced, by area, before they are enlarged again, bilinearly; None
            leaves them.
        blur_px: Standard deviation of a Gaussian blur.
        grey: Share of colour taken out, 0..1: 1 leaves luma (Rec. 601) in all channels.
        inverted: Whether pixels x become 255 - x.
        noise: Standard deviation of Gaussian noise on pixels of 0..255, the same for an image whenever it is seen.
        shuffle_px: Side of square blocks that one permutation shuffles in all images alike; None leaves them
            (Neyshabur et al. 2020, section 3).
        labelling: ``class``, or ``brightness`` for as many labels as there were classes, by the rank of an image's mean
            pixel.
        merged: Labels into which the classes are merged, at random and as evenly as they go; None leaves them.
        split: Parts into which every class is split, each a label, by the rank of an image's mean pixel in its class.
        random_labels: Share of images, 0..1, whose label is drawn anew from all labels alike (Zhang et al. 2017).
        seed: Seed of the permutation, the noise, the merging and the random labels; 0 where none is.
    """

    resolution_px: int | None = None
    blur_px: float = 0.0
    grey: float = 0.0
    inverted: bool = False
    noise: float = 0.0
    shuffle_px: int | None = None
    labelling: Literal["class", "brightness"] = "class"
    merged: int | None = None
    split: int | None = None
    random_labels: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """Some classes of one data set, which of their training images, and how both are changed.

    Attributes:
        dataset: The data set's name, for people; no part of the identity.
        label: The task's name in tables, likewise.
        fingerprint: Hash of its decoded images and labels, so that other data under the same name is another task.
        classes: Class indices in the data set, ascending; without dials, the task's label i is ``classes[i]``.
        train_per_class: Training images drawn of each class, or None for all. Test images are always all.
        draw_seed: Seed of that draw, whose stream the classes name, too; 0 where all images are used.
        dials: What is changed; None where nothing is.
        paired_with: Classes of another task of the data set, from whose streams of random numbers it draws; none for
            its own. So a base that shares some of a target's classes stays paired with the one that has them all.
    """

    dataset: str = field(metadata=NAME)
    label: str = field(default="", metadata=NAME)
    fingerprint: str
    classes: tuple[int, ...]
    train_per_class: int | None
    draw_seed: int
    dials: Dials | None = None
    paired_with: tuple[int, ...] = ()

    @property
    def stream(self) -> str:
        """Names its streams of random numbers: its draw of images, and the weights and batches of its networks.

        Tasks of other classes draw anew, also with the same seed: else all splits of a grid would share one
        initialisation, and a mean over splits would not average it. Neither dials nor the number of images count: the
        variants of a task differ in what was changed alone, not in the draw.
        """
        return f"{self.fingerprint} {' '.join(map(str, self.paired_with or self.classes))}"

    @property
    def plain(self) -> "TaskSpec":
        """The task with its dials unturned: as many images of the same shape, without the time that dials take."""
        return replace(self, dials=None)

    @property
    def label_count(self) -> int:
        """Number of different labels: the outputs that a network needs."""
        if self.dials is None:
            return len(self.classes)
        return (self.dials.merged or len(self.classes)) * (self.dials.split or 1)
