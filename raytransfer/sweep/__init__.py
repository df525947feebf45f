"""A sweep: its plan, what of it is left to do, and how that is run, here or on Ray."""
