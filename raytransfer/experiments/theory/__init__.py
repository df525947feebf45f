"""The two-layer theory of Liu et al. 2019."""
