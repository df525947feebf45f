"""How transferable are a network's features, layer by layer, and why? Sweeps of transfer experiments on Ray."""
