"""Transfer along the training of the base."""
