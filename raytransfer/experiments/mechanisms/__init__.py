"""Why features transfer: the mechanisms of Liu et al. 2019."""
