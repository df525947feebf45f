"""The grid of Yosinski et al. 2014."""
