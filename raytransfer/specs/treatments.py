"""The treatments of Yosinski et al. 2014, their controls and those that came after: each a value, and a table of all.

A treatment says where a network's layers come from, which of them train, and how tables and figures show it. No other
module types its name: what needs a certain treatment imports it from here, what shows treatments shows those there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from raytransfer.errors import UserError
from raytransfer.specs.training import UNCUT, PretrainSpec, Surgery, Trained, TrainingSpec, TransferSpec, Weights
from raytransfer.words import number_of


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """One way to make a network for the target task B.

    Attributes:
        name: As in the papers. B is the target, A the other task, R random; the number n of layers is left open.
        meaning: One line for people.
        source: Whose weights the layers 1..n come from: the ``target``'s own base (B), the ``other`` task's (A), or
            ``random`` ones; None where nothing is copied.
        surgery: What becomes of the layers; its n is left open.
        whole: Whether all layers below the head are copied, whatever the cuts.
        steps: How many times the recipe's steps it trains for.
        color: Its colour in figures: blue on the target's own layers, red on another task's, pale when fine-tuned, as
            in the paper; those that came after have colours of their own.
        marker: Its marker in figures, as Matplotlib names them.
    """

    name: str
    meaning: str
    source: Literal["target", "other", "random"] | None = None
    surgery: Surgery = UNCUT
    whole: bool = False
    steps: int = 1
    color: str
    marker: str

    @property
    def has_cut(self) -> bool:
        """Whether it has a cut n; else one run of it stands against those of every n."""
        return self.source is not None and not self.whole

    def cuts(self, n_layers: Sequence[int], depth: int) -> list[int]:
        """Those of the cuts that leave it room in a network of ``depth`` layers; all below the head where it is whole.

        Raises:
            UserError: None does.
        """
        if self.whole:
            return [depth - 1]
        preserved = self.surgery.preserved
        fitting = [n for n in n_layers if n + preserved < depth]
        if not fitting:
            raise UserError(
                f"treatments={self.name} copies {number_of(preserved, 'layer')} above n, and "
                f"n_layers={list(n_layers)} leave no room for them below the head, layer {depth}: name a smaller n"
            )
        return fitting

    def transfers(self, weights: Weights | None, target: PretrainSpec, n_layers: Sequence[int]) -> list[TransferSpec]:
        """The transfers of some weights at every n, trained as the target's own base is.

        Args:
            weights: What is copied; None for layers left random.
            target: The target's own base: gives task, network, recipe and seed.
            n_layers: The cuts.
        """
        return [
            TransferSpec(
                weights=weights,
                surgery=replace(self.surgery, n_layers=n),
                task=target.task,
                network=target.network,
                recipe=target.recipe,
                seed=target.seed,
            )
            for n in n_layers
        ]

    def base(self, target: PretrainSpec) -> PretrainSpec:
        """The training of a treatment that copies nothing: the target's own base, its schedule stretched."""
        recipe = target.recipe
        stretched = replace(recipe, steps=self.steps * recipe.steps, warmup_steps=self.steps * recipe.warmup_steps)
        return replace(target, recipe=stretched)


_FROZEN = Surgery(n_layers=0, frozen=True)

BASE_B = Treatment(name="baseB", meaning="trained on B from random weights", color="#000000", marker="o")
BASE_B_2X = Treatment(
    name="baseB-2x",
    meaning="baseB for twice the steps: as many as the base and the fine-tuning of AnB+ together",
    steps=2,
    color="#7a7a7a",
    marker="D",
)
BNB = Treatment(
    name="BnB",
    meaning="layers 1..n from baseB, frozen (selffer)",
    source="target",
    surgery=_FROZEN,
    color="#1f5fbf",
    marker="s",
)
BNB_PLUS = Treatment(
    name="BnB+", meaning="layers 1..n from baseB, fine-tuned", source="target", color="#6fb7ea", marker="P"
)
ANB = Treatment(
    name="AnB",
    meaning="layers 1..n from baseA, frozen (transfer)",
    source="other",
    surgery=_FROZEN,
    color="#b2182b",
    marker="v",
)
ANB_PLUS = Treatment(
    name="AnB+", meaning="layers 1..n from baseA, fine-tuned", source="other", color="#f4866a", marker="^"
)
RNB = Treatment(
    name="RnB", meaning="layers 1..n random, frozen", source="random", surgery=_FROZEN, color="#b59b00", marker="X"
)
BASE_A = Treatment(name="baseA", meaning="trained on A, for what copies from it", color="#b8b8b8", marker="h")

TREATMENTS: dict[str, Treatment] = {
    treatment.name: treatment
    for treatment in (
        BASE_B,
        BASE_B_2X,
        BNB,
        BNB_PLUS,
        ANB,
        ANB_PLUS,
        RNB,
        BASE_A,
        Treatment(
            name="BnB-preserve1",
            meaning="BnB, and layer n+1 starts from baseB, too, and trains (2014's code, unpublished)",
            source="target",
            surgery=replace(_FROZEN, preserved=1),
            color="#0b2f66",
            marker="<",
        ),
        Treatment(
            name="AnB-preserve1",
            meaning="AnB, and layer n+1 starts from baseA, too, and trains (2014's code, unpublished)",
            source="other",
            surgery=replace(_FROZEN, preserved=1),
            color="#5c0a15",
            marker=">",
        ),
        Treatment(
            name="BnB-preserve2",
            meaning="the same with layers n+1 and n+2 from baseB",
            source="target",
            surgery=replace(_FROZEN, preserved=2),
            color="#3b6f8f",
            marker="p",
        ),
        Treatment(
            name="AnB-preserve2",
            meaning="the same with layers n+1 and n+2 from baseA",
            source="other",
            surgery=replace(_FROZEN, preserved=2),
            color="#8f3b5c",
            marker="*",
        ),
        Treatment(
            name="linear-probe",
            meaning="all layers below the head from baseA, frozen: the head alone trains",
            source="other",
            surgery=_FROZEN,
            whole=True,
            color="#3a7d44",
            marker="d",
        ),
        Treatment(
            name="Head2Toe",
            meaning="linear-probe whose head reads all layers, each scaled alike (after Evci et al. 2022)",
            source="other",
            surgery=replace(_FROZEN, reads_all=True),
            whole=True,
            color="#1b5e20",
            marker="h",
        ),
        Treatment(
            name="fine-tune",
            meaning="all layers below the head from baseA, and all train",
            source="other",
            whole=True,
            color="#8cc084",
            marker="8",
        ),
        Treatment(
            name="AnB-surgical",
            meaning="all layers below the head from baseA; layer n and the head train (Lee et al. 2023)",
            source="other",
            surgery=replace(_FROZEN, surgical=True),
            color="#d95f02",
            marker="H",
        ),
        Treatment(
            name="AnB-LP-FT",
            meaning="AnB for half of the steps, then AnB+ from there (Kumar et al. 2022)",
            source="other",
            surgery=replace(_FROZEN, thaw="halfway"),
            color="#7b3294",
            marker="p",
        ),
        Treatment(
            name="AnB-gradual",
            meaning="AnB whose layers are released one by one from n down, over half of the steps (ULMFiT, 2018)",
            source="other",
            surgery=replace(_FROZEN, thaw="gradual"),
            color="#c2a5cf",
            marker="<",
        ),
        Treatment(
            name="AnB-layer-decay",
            meaning="AnB+ whose learning rate falls by 0.75 from each layer to the one below (BEiT, Bao et al. 2022)",
            source="other",
            surgery=replace(UNCUT, layer_decay=0.75),
            color="#e6ab02",
            marker=">",
        ),
        Treatment(
            name="AnB-L2-SP",
            meaning="AnB+ whose copied layers decay towards baseA's weights, not zero (Li et al. 2018)",
            source="other",
            surgery=replace(UNCUT, l2_sp=True),
            color="#a6761d",
            marker="*",
        ),
        Treatment(
            name="AnB-LoRA",
            meaning="AnB with trained adapters of rank 8 in its frozen layers (Hu et al. 2021)",
            source="other",
            surgery=replace(_FROZEN, lora_rank=8),
            color="#1b9e9e",
            marker="D",
        ),
    )
}
"""Every treatment by its name, in the order of tables and legends."""


def treatment_rank(name: str) -> tuple[int, str]:
    """Sorting key of names: the order of the table, what is not in it last, by name."""
    return (list(TREATMENTS).index(name) if name in TREATMENTS else len(TREATMENTS), name)


def treatment_of(spec: TrainingSpec) -> str | None:
    """The name of the treatment that a training is, of itself; None where it is none of the table.

    A sweep may use one training in several places. A base is baseB here, whatever copies from it, and a linear probe is
    AnB with n below the head, as they are the same training.
    """
    if not isinstance(spec, TransferSpec):
        return BASE_B.name
    source = "random" if spec.weights is None else "other"
    if isinstance(spec.weights, Trained) and spec.weights.training.task == spec.task:
        source = "target"
    surgery = replace(spec.surgery, n_layers=0)
    return next(
        (name for name, entry in TREATMENTS.items() if (entry.source, entry.surgery) == (source, surgery)), None
    )
