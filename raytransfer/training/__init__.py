"""The training loop in plain PyTorch, independent of Ray and of storage."""

from raytransfer.training.core import use_one_core
from raytransfer.training.frozen import (
    EVALUATION_BATCH,
    BatchSource,
    EvaluationInputs,
    FrozenOutputs,
    evaluation_inputs,
    reusable_stages,
)
from raytransfer.training.images import DeviceData, image_bytes
from raytransfer.training.loop import SAVE_EVERY_S, Outcome, evaluate, stream_seed, train
from raytransfer.training.ranks import ALONE, RankDied, Ranks, check_parts, share_batch_norm
from raytransfer.training.schedule import Phase, evaluation_steps, learning_rate, phases
from raytransfer.training.state import Evaluation, Interrupted, TrainingState, never
from raytransfer.training.step import Step, fastest

__all__ = [
    "ALONE",
    "EVALUATION_BATCH",
    "SAVE_EVERY_S",
    "BatchSource",
    "DeviceData",
    "Evaluation",
    "EvaluationInputs",
    "FrozenOutputs",
    "Interrupted",
    "Outcome",
    "Phase",
    "RankDied",
    "Ranks",
    "Step",
    "TrainingState",
    "check_parts",
    "evaluate",
    "evaluation_inputs",
    "evaluation_steps",
    "fastest",
    "image_bytes",
    "learning_rate",
    "never",
    "phases",
    "reusable_stages",
    "share_batch_norm",
    "stream_seed",
    "train",
    "use_one_core",
]
