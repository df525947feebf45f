"""What recipe.precision=auto is settled as."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console

from raytransfer.commands.planning import open_sweep
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store
from raytransfer.sweep import arithmetic
from raytransfer.sweep.arithmetic import native_precision, settled


@pytest.fixture
def machine(monkeypatch):
    """A machine that a test makes up."""

    def of(*, capabilities=None, gpu=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu is not None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities or {}, raising=False)

    return of


@pytest.mark.parametrize(
    ("parts", "precision"),
    [
        ({"capabilities": {"avx512_bf16": True}}, "bf16"),
        ({"capabilities": {"amx_bf16": True, "avx512_bf16": False}}, "bf16"),
        ({"capabilities": {"avx2": True, "amx_bf16": False}}, "fp32"),
        ({"capabilities": {}}, "fp32"),
        ({"gpu": (8, 0)}, "bf16"),
        ({"gpu": (7, 5), "capabilities": {"amx_bf16": True}}, "fp32"),
    ],
)
def test_bf16_is_taken_where_the_processor_has_instructions_for_it(machine, parts, precision):
    machine(**parts)
    assert native_precision()[0] == precision


def test_what_is_given_stands(tiny, tmp_path):
    for precision in ("fp32", "bf16"):
        config = tiny(f"recipe.precision={precision}")
        same, plan, said = settled(config, Store(config.out), make_plan)
        assert (same, said) == (config, "")
        assert {spec.recipe.precision for spec in plan.trials.values()} == {precision}


def test_a_sweep_that_goes_on_elsewhere_keeps_what_it_has(tiny, machine, monkeypatch):
    config = tiny("recipe.precision=auto")
    store = Store(config.out)
    machine(gpu=(8, 0))
    first, plan, said = settled(config, store, make_plan)
    assert first.recipe.precision == "bf16"
    assert said == "recipe.precision=auto: bf16, for a GPU computes it natively"
    store.create()
    monkeypatch.setattr(arithmetic, "finished", lambda _: set(list(plan.trials)[:3]))
    machine()
    kept, again, said = settled(config, store, make_plan)
    assert kept.recipe.precision == "bf16"
    assert again.trials == plan.trials
    assert said.startswith("recipe.precision=auto: bf16, as 3 trainings of this sweep had it; anew it")
    anew, _, _ = settled(tiny("recipe.precision=auto", "mode=force"), store, make_plan)
    assert anew.recipe.precision == "fp32"
    other, _, _ = settled(tiny("recipe.precision=auto", "recipe.steps=7"), store, make_plan)
    assert other.recipe.precision == "fp32"


def test_what_was_chosen_is_told_before_what_matched(tiny, machine):
    machine()
    console = Console(width=400, record=True, quiet=False)
    experiment = SimpleNamespace(plan=lambda config: replace(make_plan(config), accounts=["what matched"]))
    _, config, plan = open_sweep(console, experiment, tiny("recipe.precision=auto"))
    assert {config.recipe.precision, *(spec.recipe.precision for spec in plan.trials.values())} == {"fp32"}
    chosen, matched = console.export_text().splitlines()
    assert (chosen.partition(", for")[0], matched) == ("recipe.precision=auto: fp32", "what matched")


def test_depthwise_convolutions_compute_in_fp32_on_a_cpu(tiny, machine):
    def chosen(network):
        config = tiny("recipe.precision=auto", f"network=torchvision/{network}", "n_layers=[0.5]", "channels=3")
        settled_as, plan, said = settled(config, Store(config.out), make_plan)
        assert {spec.recipe.precision for spec in plan.trials.values()} == {settled_as.recipe.precision}
        return said.split(", ")[0]

    machine(capabilities={"amx_bf16": True})
    assert chosen("mobilenet_v3_small") == "recipe.precision=auto: fp32"
    assert chosen("resnet18") == "recipe.precision=auto: bf16"
    machine(gpu=(8, 0))
    assert chosen("mobilenet_v3_small") == "recipe.precision=auto: bf16"


def test_what_is_left_open_is_never_planned(tiny):
    with pytest.raises(ValueError, match="precision=auto is to be settled before"):
        make_plan(tiny("recipe.precision=auto"))
