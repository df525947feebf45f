"""What the command and the library do: plan, run and report sweeps, and tell what stores hold."""
