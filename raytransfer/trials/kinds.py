"""The kinds of measurements: what runs each, and which images it cannot do without.

The measures' libraries take a second to import, and many workers only train: each is imported when it is needed.
"""

from dataclasses import dataclass

from raytransfer.specs import DistanceSpec, MeasureSpec, ProbeSpec, ScoreSpec, TaskSpec, TrialSpec
from raytransfer.trials.site import Site


@dataclass(frozen=True, kw_only=True)
class Look:
    """Training images of a task that a measurement draws, and how many it needs at least.

    Attributes:
        measure: Name of the distance, score or probe.
        task: The task.
        images: How many are drawn, at most; None for all.
        seed: Seed of the draw.
        least_labels: Labels of which two images or more have to be among them: others are left out.
        least_images: Images that have to be there, whatever their labels.
    """

    measure: str
    task: TaskSpec
    images: int | None
    seed: int
    least_labels: int = 0
    least_images: int = 1


def measure(spec: MeasureSpec, site: Site) -> None:
    """Measure what a spec says, and publish what came out."""
    if isinstance(spec, DistanceSpec):
        from raytransfer.trials.measuring import run_distance

        run_distance(spec, site)
    elif isinstance(spec, ScoreSpec):
        from raytransfer.trials.measuring import run_score

        run_score(spec, site)
    elif isinstance(spec, ProbeSpec):
        from raytransfer.trials.probing import run_probe

        run_probe(spec, site)
    else:
        from raytransfer.trials.simulating import run_simulation

        run_simulation(spec, site)


def looks_of(spec: TrialSpec) -> list[Look]:
    """The images that a measurement draws, to be checked before it runs."""
    if isinstance(spec, DistanceSpec):
        from raytransfer.distances import DISTANCES

        if DISTANCES[spec.measure].reads == "classes":
            return []
        least = DISTANCES[spec.measure].least_labels
        return [
            Look(measure=spec.measure, task=task, images=spec.images, seed=spec.seed, least_labels=least)
            for task in (spec.source, spec.target)
        ]
    if isinstance(spec, ScoreSpec):
        from raytransfer.scores.representation import LEAST_LABELS

        return [
            Look(measure=spec.measure, task=spec.task, images=spec.images, seed=spec.seed, least_labels=LEAST_LABELS)
        ]
    if isinstance(spec, ProbeSpec):
        from raytransfer.probes import PROBES

        least = PROBES[spec.probe].least_images
        return [
            Look(measure=spec.probe, task=spec.trained.task, images=spec.images, seed=spec.seed, least_images=least)
        ]
    return []
