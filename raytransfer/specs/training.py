"""What is trained, how, and from which weights: networks, recipes, bases and transfers."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from raytransfer.errors import UserError
from raytransfer.specs.identity import NAME, Identified
from raytransfer.specs.task import TaskSpec


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """A network, how it is cut into stages, and how its weights start.

    Attributes:
        name: Key of ``raytransfer.networks.ZOO``, ``torchvision/NAME``, ``timm/NAME`` or ``package.module:function``.
        init: ``network`` for the network's own initialisation, ``kaiming`` (normal, fan-in, ReLU gain) or ``gaussian``
            (standard deviation 0.01) for all its weights; the biases are zero in the latter two.
        args: What its builder is given beside the number of classes, as canonical JSON.
        granularity: How finely it is cut into stages.
        table: Stages of the user's own in place of that, as canonical JSON; None for none.
        structure: Digest of its stages, the shapes of their tensors and, where it is the user's, its source; None for
            the project's own networks, which do not change under their names.
    """

    name: str
    init: Literal["network", "kaiming", "gaussian"] = "network"
    args: str = "{}"
    granularity: Literal["block", "fine", "coarse"] = "block"
    table: str | None = None
    structure: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one network is trained: SGD with momentum, or AdamW, on the cross-entropy.

    Attributes:
        steps: Optimiser steps.
        batch_size: Images a step; a task with fewer training images takes all of them each step.
        learning_rate: Peak learning rate.
        optimizer: ``sgd``, or ``adamw`` (Loshchilov and Hutter 2019, arXiv 1711.05101).
        momentum: Momentum of SGD (not Nesterov's).
        beta1: AdamW's decay rate of the mean of gradients.
        beta2: AdamW's decay rate of the mean of their squares.
        weight_decay: Coefficient of SGD's L2 penalty, or of AdamW's decay, which the learning rate multiplies.
        schedule: ``constant``, ``step`` (times ``gamma`` at each milestone) or ``cosine`` (to zero).
        milestones: Where the step schedule drops, as fractions of ``steps``.
        gamma: Factor of each drop of the step schedule.
        warmup_steps: Steps over which the learning rate first rises linearly.
        bias_lr_multiplier: Learning rate of biases relative to that of weights (2 in the 2014 recipe). AdamW counts
            every parameter of one dimension as a bias, scales of normalisation layers too, as recipes for it do.
        bias_decay_multiplier: Weight decay of biases relative to that of weights (0 in the 2014 recipe).
        label_smoothing: Share of a label that is spread evenly over all classes (Szegedy et al. 2016, section 7).
        clip_norm: Largest norm of the gradient of all trained parameters together, to which a longer one is shortened;
            null for none.
        mirror: Whether each training image is mirrored with probability one half.
        pad_px: Zero padding on every side before a training image is cropped.
        crop_px: Side of the random training crop and the central test crop; null for the image's own side.
        crop_area: Least share of an image's area that a training crop takes before it is resized to ``crop_px``, the
            most being all of it (random-resized crop, Szegedy et al. 2015, arXiv 1409.4842, section 6: 0.08); null for
            crops of one size.
        brightness: Factors 1 ± this at most on a training image's pixels.
        contrast: The same on their distance to the image's mean.
        saturation: The same on their distance to grey.
        hue: Most that the hue of a training image is turned by, as a share of the circle.
        rand_augment: Operations of RandAugment on a training image, one after the other (Cubuk et al. 2019, arXiv
            1909.13719); they come after crop and mirror, and before the four above.
        rand_augment_magnitude: Their magnitude, 0..30.
        normalization: ``standard`` (zero mean and unit variance per channel of the data set's training images),
            ``mean`` (only the mean is subtracted, pixels stay on 0..255, as in the 2014 recipe) or ``given`` (by
            ``channel_mean`` and ``channel_std``, such as those that pretrained weights were made with).
        channel_mean: What ``given`` subtracts from each channel's pixels, on a scale of 0..1.
        channel_std: What ``given`` then divides each channel by, on the same scale.
        precision: ``fp32``, or ``bf16`` for autocast to bfloat16. The option takes ``auto``, too: bf16 where this
            machine computes it natively (on a CPU not with depthwise convolutions), else fp32; a sweep that goes on
            keeps what its trainings have.
        channels_last: Whether images and weights lie in channels-last memory.
        evaluations: Evaluations on the test images, evenly spaced, the last after the last step.
    """

    steps: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 5e-4
    schedule: Literal["constant", "step", "cosine"] = "cosine"
    milestones: tuple[float, ...] = ()
    gamma: float = 0.1
    warmup_steps: int = 0
    bias_lr_multiplier: float = 1.0
    bias_decay_multiplier: float = 1.0
    label_smoothing: float = 0.0
    clip_norm: float | None = None
    mirror: bool = False
    pad_px: int = 0
    crop_px: int | None = None
    crop_area: float | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: int = 0
    rand_augment_magnitude: int = 9
    normalization: Literal["standard", "mean", "given"] = "standard"
    channel_mean: tuple[float, ...] = ()
    channel_std: tuple[float, ...] = ()
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = False
    evaluations: int = 20

    def seen_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of what a network sees of images of this shape: the crop's, or their own."""
        return shape if self.crop_px is None else (shape[0], self.crop_px, self.crop_px)


@dataclass(frozen=True, kw_only=True)
class Surgery:
    """What becomes of the layers of a network that is made from weights. The layers above the copied ones start anew.

    Attributes:
        n_layers: The cut n: layers 1..n, counted from the input, are copied, or stay random where there are no weights
            to copy.
        frozen: Whether layers 1..n stay as they are, or train with the rest.
        preserved: How many layers above n are copied, too, and train: "preserve k" in the code of Yosinski et al. 2014.
        thaw: When frozen layers are released to train: ``never``; ``halfway``, all of them after half of the steps
            (LP-FT, Kumar et al. 2022, arXiv 2202.10054); or ``gradual``, one by one from the top, evenly over the first
            half of the steps (ULMFiT, Howard and Ruder 2018, arXiv 1801.06146, section 3.3).
        surgical: Whether all layers below the head are copied, and layer n alone of them trains (Lee et al. 2023, arXiv
            2210.11466).
        layer_decay: Factor of the learning rate for each layer that lies between a layer and the head, the layer
            counted, 0..1; the head has the recipe's rate.
        l2_sp: Whether weight decay pulls the copied layers towards what was copied, not towards zero (L2-SP, Li et al.
            2018, arXiv 1802.01483).
        lora_rank: Rank of adapters that train in the frozen layers 1..n (LoRA, Hu et al. 2021, arXiv 2106.09685); 0 for
            none.
        reads_all: Whether the head reads all layers below it, and not the last of them alone (Head2Toe, Evci et al.
            2022, arXiv 2201.03529); all are copied and frozen, whatever n.

    Raises:
        UserError: Layers that are not frozen are to be released, left out, adapted or read.
    """

    n_layers: int
    frozen: bool
    preserved: int = 0
    thaw: Literal["never", "halfway", "gradual"] = "never"
    surgical: bool = False
    layer_decay: float = 1.0
    l2_sp: bool = False
    lora_rank: int = 0
    reads_all: bool = False

    def __post_init__(self) -> None:
        of_frozen = self.thaw != "never" or self.surgical or self.lora_rank or self.reads_all
        if of_frozen and not self.frozen:
            raise UserError(
                f"thaw={self.thaw}, surgical={self.surgical}, lora_rank={self.lora_rank} and reads_all="
                f"{self.reads_all} say what becomes of frozen layers: they take frozen=True"
            )

    def copied(self, depth: int) -> int:
        """How many layers of a network of ``depth`` layers are copied."""
        return depth - 1 if self.surgical else self.n_layers + self.preserved

    def frozen_stages(self, depth: int) -> frozenset[int]:
        """The layers, counted from 0, that are frozen when training begins."""
        if not self.frozen:
            return frozenset()
        if self.surgical:
            return frozenset(range(depth - 1)) - {self.n_layers - 1}
        return frozenset(range(self.n_layers))

    def kept_stages(self, depth: int) -> frozenset[int]:
        """The layers, counted from 0, that compute at the end what they computed before training."""
        return self.frozen_stages(depth) if self.thaw == "never" and not self.lora_rank else frozenset()

    @property
    def frozen_layers(self) -> int:
        """How many layers, from the input on, compute the same all the time."""
        if not self.frozen or self.thaw != "never" or self.lora_rank:
            return 0
        return self.n_layers - 1 if self.surgical else self.n_layers


UNCUT = Surgery(n_layers=0, frozen=False)
"""Nothing is copied, and all layers train: a base."""


@dataclass(frozen=True, kw_only=True)
class PretrainSpec(Identified):
    """A base network: all layers start at random and train on one task.

    Attributes:
        task: What it is trained on.
        network: The network.
        recipe: How it is trained.
        seed: Seed of the weights, the batches and the augmentation, whose streams the task names, too.
    """

    kind: ClassVar[str] = "pretrain"
    surgery: ClassVar[Surgery] = UNCUT

    task: TaskSpec
    network: NetworkSpec
    recipe: Recipe
    seed: int

    @property
    def weights(self) -> "Trained":
        """What it leaves when it has finished."""
        return Trained(training=self, step=self.recipe.steps)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Weights that a training leaves at one of its steps.

    Attributes:
        training: The training.
        step: The step of its checkpoint, 0..recipe.steps.
    """

    kind: ClassVar[str] = "trained"

    training: "TrainingSpec"
    step: int

    @property
    def source_id(self) -> str:
        """Identity of the training."""
        return self.training.id

    @property
    def place(self) -> str:
        """The file of a store that holds them."""
        return f"checkpoints/{self.training.id}/{self.step}.safetensors"

    @property
    def label(self) -> str:
        """What tables call the task that the weights come from."""
        return self.training.task.label

    @property
    def network(self) -> NetworkSpec:
        """The network that they are of."""
        return self.training.network

    @property
    def recipe(self) -> Recipe:
        """How images are made for it."""
        return self.training.recipe

    @property
    def outputs(self) -> int | None:
        """Outputs of its head."""
        return self.training.task.label_count

    @property
    def surgery(self) -> Surgery:
        """What became of the layers in the training."""
        return self.training.surgery


@dataclass(frozen=True, kw_only=True)
class Imported:
    """Weights that were made elsewhere, and lie in the store under the hash of their content.

    Attributes:
        digest: Hash of the tensors, with their names.
        network: The network that they are of.
        outputs: Outputs of its classifier; None where there is none among the weights.
        normalization: How its images are normalised, as in ``Recipe``.
        channel_mean: As in ``Recipe``.
        channel_std: As in ``Recipe``.
        crop_px: Side of the central square that it sees of an image; None for the whole image.
        label: What tables call them.
    """

    kind: ClassVar[str] = "imported"
    surgery: ClassVar[Surgery] = UNCUT

    digest: str
    network: NetworkSpec
    outputs: int | None
    normalization: Literal["standard", "mean", "given"] = "standard"
    channel_mean: tuple[float, ...] = ()
    channel_std: tuple[float, ...] = ()
    crop_px: int | None = None
    label: str = field(default="imported", metadata=NAME)

    @property
    def source_id(self) -> str:
        """The digest."""
        return self.digest

    @property
    def place(self) -> str:
        """The file of a store that holds them."""
        return f"imported/{self.digest}.safetensors"

    @property
    def step(self) -> None:
        """None: nothing is known of their training."""

    @property
    def recipe(self) -> Recipe:
        """How images are made for it: a recipe that trains nothing."""
        return Recipe(
            steps=1,
            batch_size=1,
            learning_rate=1.0,
            normalization=self.normalization,
            channel_mean=self.channel_mean,
            channel_std=self.channel_std,
            crop_px=self.crop_px,
        )


Weights = Trained | Imported


@dataclass(frozen=True, kw_only=True)
class TransferSpec(Identified):
    """A network whose first layers are copied from other weights and whose others start anew.

    Attributes:
        weights: What is copied; None for the control whose first layers stay random (RnB).
        surgery: Which layers are copied, and which of them train.
        task: The target task.
        network: The network, that of the weights where there are some.
        recipe: How the target is trained.
        seed: Seed of the fresh weights, the batches and the augmentation, whose streams the task names, too.
    """

    kind: ClassVar[str] = "transfer"

    weights: Weights | None
    surgery: Surgery
    task: TaskSpec
    network: NetworkSpec
    recipe: Recipe
    seed: int

    def __post_init__(self) -> None:
        if self.weights is not None and self.weights.network != self.network:
            raise UserError(
                f"a transfer copies {self.weights.network} into {self.network}: both must be the same network"
            )
        if self.weights is None and self.surgery != Surgery(n_layers=self.surgery.n_layers, frozen=True):
            raise UserError("a transfer without weights is the frozen random control: fine-tuned, it would be a base")


TrainingSpec = PretrainSpec | TransferSpec
