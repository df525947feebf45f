"""When do features transfer best? Transfer from checkpoints along pretraining (Liu et al. 2019, section 5.3)."""

from raytransfer.cli import main
from raytransfer.config import StageConfig

if __name__ == "__main__":
    main(__file__, __doc__, StageConfig)
