"""How many classes two tasks share."""

from raytransfer.distances.sample import Sample


def class_overlap(source: Sample, target: Sample) -> float:
    """1 − |A ∩ B| / |A ∪ B|, the Jaccard distance of the sets of class names.

    Returns:
        0 (the same classes) to 1 (none shared).
    """
    a, b = set(source.classes), set(target.classes)
    return 1 - len(a & b) / len(a | b)
