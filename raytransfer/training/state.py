"""A training between two steps, as bytes: what it needs to go on from there to the same bits."""

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


class Interrupted(Exception):  # noqa: N818 - told to stop is no error
    """A training was told to stop; its state is saved."""


def never() -> bool:
    """Say no: for a training that nobody stops."""
    return False


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One point of a learning curve.

    Attributes:
        step: Optimiser steps done.
        learning_rate: Learning rate of the last of them.
        train_loss_nats: Mean cross-entropy of the training batches since the evaluation before, with labels smoothed as
            the recipe has it.
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
    """All that the further course of a training depends on, but for its spec.

    Attributes:
        step: Optimiser steps done, 1..recipe.steps.
        since: Batches since the last evaluation.
        seconds: Seconds spent on steps, evaluation and saving left out.
        wall_time_s: Seconds that the trial has taken until now; whoever keeps the state fills it in.
        curve: The evaluations until now.
        weights: State dict of the module, in contiguous memory on the CPU, as all tensors here.
        optimizer: The optimiser's buffers by kind and name of their parameter, such as ``momentum/conv1.0.weight``.
        loss_sum: Sum of the batches' losses since the last evaluation, of shape ().
        random: States of torch's random numbers: ``cpu`` and, for a training on a GPU, ``cuda``.
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
        """Copy the state of a training after optimiser step ``step``; waits for the device."""
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
        """Give a new optimiser its buffers, and torch its random numbers: nothing may draw from them in between.

        The weights are not part of it: they have to be there before the outputs of frozen layers are computed.
        """
        one_step.set_buffers(self.optimizer)
        one_step.loss_sum.copy_(self.loss_sum)
        torch.set_rng_state(self.random["cpu"])
        if "cuda" in self.random:
            torch.cuda.set_rng_state(self.random["cuda"], one_step.loss_sum.device)

    def check(self, network: Network, data: DeviceData, surgery: Surgery = UNCUT) -> None:
        """Check that it is a state of the training of this network as the recipe of ``data`` and the surgery say.

        Args:
            network: As it is before its first step.
            data: The task and the recipe.
            surgery: As for ``raytransfer.training.train``.

        Raises:
            ValueError: It is that of another training, or of one on another kind of device.
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
        """As the content of a safetensors file; the same state gives the same bytes."""
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
        # one entry of metadata, for safetensors writes several in any order
        content: bytes = save({**tensors, "loss/sum": self.loss_sum}, {"state": json.dumps(numbers)})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The state that ``to_bytes`` made this of, to the bit.

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
    """The states of the random numbers that a training on this device may draw from."""
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
