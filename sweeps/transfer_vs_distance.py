"""How far apart are two tasks, and does that predict how well features transfer, at which layer?

Base tasks lie at known distances from a target: other data sets and halves, or the target with dials turned (blurred,
shuffled, other classes, random labels, ...). Each is transferred to the target at several cuts, frozen and fine-tuned;
distances between the tasks and scores of the base's features are measured as trials of their own; and the report says
which of them predicts transfer.
"""

from raytransfer.cli import main
from raytransfer.config import DistanceConfig

if __name__ == "__main__":
    main(__file__, __doc__, DistanceConfig)
