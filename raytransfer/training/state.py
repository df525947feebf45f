"""The state of a training between two steps, from which it can resume with the same bits."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from raytransfer.networks import Network, cpu_copies
from raytransfer.specs import UNCUT, Surgery
from raytransfer.training.images import DeviceData
from raytransfer.training.schedule import evaluation_steps, phases
from raytransfer.training.step import KINDS, Step, buffer_kinds


class Interrupted(Exception):  # noqa: N818 - being told to stop is no error
    """A training was told to stop; its state is saved."""


def never() -> bool:
    """Return False, for a training that nothing stops."""
    return False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One point of a learning curve.

    Attributes:
        step: Optimiser steps done.
        learning_rate: Learning rate of the last of them.
        train_loss_nats: Mean cross-entropy of the training batches since the last evaluation, with the recipe's label
            smoothing.
        top1: Test accuracy, 0..1.
        loss_nats: Test cross-entropy.
    """

    step: int
    learning_rate: float
    train_loss_nats: float
    top1: float
    loss_nats: float


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingState:
    """All that the rest of a training depends on, beside its spec. Tensors are contiguous and on the CPU.

    Attributes:
        step: Optimiser steps done, 1..recipe.steps.
        since: Batches since the last evaluation.
        seconds: Seconds spent on steps, without evaluation and saving.
        wall_time_s: Seconds that the trial has taken so far; set by the caller that stores the state.
        curve: The evaluations so far.
        weights: State dict of the module.
        optimizer: The optimiser's buffers by kind and name of their parameter, such as ``momentum/conv1.0.weight``.
        loss_sum: Sum of the batches' losses since the last evaluation, of shape ().
        random: States of torch's random generators: ``cpu`` and, for a training on a GPU, ``cuda``.
    """

    step: int
    since: int
    seconds: float
    wall_time_s: float = 0.0
    curve: tuple[Evaluation, ...]
    weights: Mapping[str, torch.Tensor]
    optimizer: Mapping[str, torch.Tensor]
    loss_sum: torch.Tensor
    random: Mapping[str, torch.Tensor]

    @classmethod
    def capture(
        cls, network: Network, one_step: Step, *, step: int, since: int, seconds: float, curve: Sequence[Evaluation]
    ) -> Self:
        """Copy the state of a training after optimiser step ``step``, which waits for the device."""
        return cls(
            step=step,
            since=since,
            seconds=seconds,
            curve=tuple(curve),
            weights=cpu_copies(network.module.state_dict()),
            optimizer=cpu_copies(one_step.buffers()),
            loss_sum=one_step.loss_sum.to("cpu", copy=True),
            random=_random(one_step.loss_sum.device),
        )

    def put_back(self, one_step: Step) -> None:
        """Restore the optimiser's buffers and torch's random state; nothing may draw before the next step.

        Weights are not restored here, as they are needed before outputs of frozen layers are stored.
        """
        one_step.set_buffers(self.optimizer)
        one_step.loss_sum.copy_(self.loss_sum)
        torch.set_rng_state(self.random["cpu"])
        if "cuda" in self.random:
            torch.cuda.set_rng_state(self.random["cuda"], one_step.loss_sum.device)

    def check(self, network: Network, data: DeviceData, surgery: Surgery = UNCUT) -> None:
        """Check that this is a state of a training of this network with the recipe of ``data`` and this surgery.

        Args:
            network: As before its first step.
            data: The task and the recipe.
            surgery: As for ``raytransfer.training.train``.

        Raises:
            ValueError: It belongs to another training, or to another kind of device.
        """
        recipe = data.recipe
        if not 0 < self.step <= recipe.steps:
            raise ValueError(f"its step {self.step} is not in 1..{recipe.steps}")
        due = [step for step in evaluation_steps(recipe) if step <= self.step]
        if [evaluation.step for evaluation in self.curve] != due:
            raise ValueError(f"its learning curve has other steps than {due}")
        _check_alike("weights", self.weights, network.module.state_dict())
        plan = phases(recipe.steps, network.frozen, surgery.thaw)
        frozen = next(phase.frozen for phase in plan if self.step <= phase.last)
        released = {name for i in network.frozen - frozen for name in network.stages[i].tensors} - network.fixed
        expected = {
            f"{kind}/{name}": torch.zeros(()) if kind == "step" else parameter
            for kind in buffer_kinds(recipe)
            for name, parameter in network.module.named_parameters()
            if parameter.requires_grad or name in released
        }
        _check_alike("optimiser's buffers", self.optimizer, expected)
        _check_alike("loss", {"sum": self.loss_sum}, {"sum": torch.zeros(())})
        _check_alike("random", self.random, _random(data.device))

    def to_bytes(self) -> bytes:
        """Content of a safetensors file; the same state always gives the same bytes."""
        tensors = {f"weights/{name}": tensor for name, tensor in self.weights.items()}
        tensors |= self.optimizer
        tensors |= {f"random/{name}": tensor for name, tensor in self.random.items()}
        numbers = {
            "step": self.step,
            "since": self.since,
            "seconds": self.seconds,
            "wall_time_s": self.wall_time_s,
            "curve": [asdict(evaluation) for evaluation in self.curve],
        }
        # a single entry of metadata, as safetensors writes several in no fixed order
        content: bytes = save({**tensors, "loss/sum": self.loss_sum}, {"state": json.dumps(numbers)})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of ``to_bytes``.

        Raises:
            ValueError: The content is damaged, or no state.
        """
        groups: dict[str, dict[str, torch.Tensor]] = {"weights": {}, "optimizer": {}, "random": {}, "loss": {}}
        kinds = {kind for kinds in KINDS.values() for kind in kinds}
        try:
            for key, tensor in load(content).items():
                group, _, name = key.partition("/")
                if group in kinds:
                    groups["optimizer"][key] = tensor
                else:
                    groups[group][name] = tensor
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
            numbers = json.loads(header["__metadata__"]["state"])
            return cls(
                curve=tuple(Evaluation(**evaluation) for evaluation in numbers.pop("curve")),
                weights=groups["weights"],
                optimizer=groups["optimizer"],
                loss_sum=groups["loss"]["sum"],
                random=groups["random"],
                **numbers,
            )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no state of a training, or a damaged one ({type(error).__name__}: {error})") from error


def _random(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of the random generators that a training on this device may use."""
    states = {"cpu": torch.get_rng_state()}
    return states | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else states


def _check_alike(what: str, found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Compare names, shapes and types.

    Raises:
        ValueError: They differ.
    """
    if found.keys() != expected.keys():
        raise ValueError(f"its {what} differ in name: {sorted(found.keys() ^ expected.keys())}")
    for name, tensor in expected.items():
        if (found[name].shape, found[name].dtype) != (tensor.shape, tensor.dtype):
            shapes = f"{tuple(found[name].shape)} {found[name].dtype}, not {tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"its {what} differ: {name} is {shapes}")
