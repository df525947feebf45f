"""Why do features transfer? Fine-tuned networks against networks trained from scratch (Liu et al. 2019)."""

from raytransfer.cli import main
from raytransfer.config import WhyConfig

if __name__ == "__main__":
    main(__file__, __doc__, WhyConfig)
