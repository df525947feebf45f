"""How far do the weights of a wide two-layer network move? The theory of Liu et al. 2019, section 6, simulated."""

from raytransfer.cli import main
from raytransfer.config import TheoryConfig

if __name__ == "__main__":
    main(__file__, __doc__, TheoryConfig)
