"""How transferable are a network's features, layer by layer, and why? Sweeps of transfer experiments on Ray.

import raytransfer as rt

plan = rt.plan("yosinski", splits=8)       # what would run, and about how long
sweep = rt.run("yosinski", splits=8)       # run what is missing: its frames, figures and answer
results = rt.load("results")               # what a store holds, as tables of pandas that can be joined
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raytransfer.library import PlannedSweep, Results, Sweep, load, plan, run

__all__ = ["PlannedSweep", "Results", "Sweep", "load", "plan", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"raytransfer has no {name}; it has {', '.join(__all__)}")
    from raytransfer import library  # with torch, which the command's --help need not wait for

    return getattr(library, name)
