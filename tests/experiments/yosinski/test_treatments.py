"""Every treatment on tiny trainings: what ran, what its rows say, and that the report shows it."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

import raytransfer as rt
from raytransfer.analysis import BASES
from raytransfer.config import load_config
from raytransfer.errors import UserError
from raytransfer.experiments.weights import only_checkpoint
from raytransfer.experiments.yosinski.config import GridConfig
from raytransfer.experiments.yosinski.figures import lines_figure, points_figure
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.experiments.yosinski.report import make_report
from raytransfer.networks import adapters, build
from raytransfer.specs import NetworkSpec, Trained
from raytransfer.specs.treatments import TREATMENTS
from raytransfer.store import Store, load_weights, read_table
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.trials import Site
from tests.conftest import TINY
from tests.helpers import Quiet, legend, rendered

NEW = [
    "linear-probe",
    "Head2Toe",
    "fine-tune",
    *(name for name, each in TREATMENTS.items() if name.partition("-")[0] == "AnB"),
]
NEW = [name for name in NEW if "preserve" not in name]
ALL = [name for name in GridConfig.CHOICES["treatments"] if "preserve" not in name]


@pytest.fixture(scope="module")
def grid(tmp_path_factory, cache_dir):
    """A grid of every treatment at two cuts, run in this process."""
    root = tmp_path_factory.mktemp("grid")
    (root / "tiny.yaml").write_text(TINY)
    places = [f"cache_dir={cache_dir}", f"data_dir={root}", f"out={root / 'out'}", "directions=[A->B]"]
    config = load_config(
        GridConfig, root / "tiny.yaml", [*places, f"treatments=[{','.join(ALL)}]", "probes=[deviation]"]
    )
    plan = make_plan(config)
    store = Store(config.out)
    store.create()
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    run_in_process(Run(plan.trials, site, Quiet(), keep_checkpoints=True))
    return config, plan, store


def test_the_new_treatments_are_all_here():
    assert len(NEW) == 9 + 1  # AnB among them


def test_rows_tell_the_treatments_apart(grid):
    config, plan, store = grid
    results = make_report(plan, store, config).frames["results"]
    surgery = ["frozen", "preserved_layers", "thaw", "surgical", "layer_decay", "l2_sp", "lora_rank"]
    at_two = results[results["n_layers"] == 2].set_index("treatment")[[*surgery, "pretrain_id"]]
    told = at_two.apply(lambda row: str(row.tolist()), axis=1)
    assert set(told.index) == {name for name in ALL if TREATMENTS[name].has_cut}
    assert told.nunique() == len(told)
    assert at_two.loc["AnB-surgical", ["surgical", "preserved_layers"]].tolist() == [True, 5]
    assert at_two.loc["AnB-LoRA", "lora_rank"] == 8
    assert at_two.loc["AnB-LP-FT", "thaw"] == "halfway"
    assert at_two.loc["AnB+", ["thaw", "layer_decay"]].tolist() == ["never", 1.0]


def narrow(num_classes):
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2), nn.ReLU(), nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(4, num_classes)
    )


def test_a_checkpoint_that_stands_in_for_base_a_is_named_where_layers_of_the_other_task_would_be(
    tmp_path, cache_dir, no_pictures
):
    torch.save(narrow(10).state_dict(), tmp_path / "mine.pth")
    sweep = rt.run(
        "yosinski",
        network="tests.experiments.yosinski.test_treatments:narrow",
        weights={"weights": str(tmp_path / "mine.pth"), "mean": [0.3], "std": [0.4], "label": "mine"},
        image_size_px=8,
        halves=["random"],
        splits=1,
        treatments=["baseB", "BnB", "AnB", "AnB+"],
        recipe={"steps": 2, "warmup_steps": 0, "evaluations": 1},
        out=tmp_path / "out",
        cache_dir=str(cache_dir),
        backend="in-process",
        quiet=True,
    )
    said = " ".join(sweep.answer)
    assert "frozen layers of mine (AnB)" in said
    assert "layers of mine, fine-tuned (AnB+)," in said
    assert "other task" not in said
    assert {figure.get_suptitle().splitlines()[1] for figure in sweep.figures.values()} == {"A: mine"}
    # Its n are not those of 2014, of which no line is drawn, and no caption speaks.
    page = (Path(sweep.folder) / "report.html").read_text()
    assert "Each reading is the difference" in page
    assert "2014 on ILSVRC12" not in page


@pytest.mark.parametrize("option", ["image_size_px=8", "network_args={image_size: 8}", "preprocessing=own"])
def test_weights_of_ones_own_network_are_not_given_a_size_that_nobody_said(tiny, option):
    name = "tests.experiments.yosinski.test_treatments:narrow"
    entry = "weights={weights: /no/mine.pth, mean: [0.3], std: [0.4]}"
    with pytest.raises(UserError, match=r"^weights=/no/mine.pth of .* come with no size of images: say image_size_px"):
        only_checkpoint(tiny(f"network={name}", entry))
    assert only_checkpoint(tiny(f"network={name}", entry, option)).config.image_size_px in (8, None)


def test_the_caption_tells_of_2014_where_a_line_of_it_is_drawn(grid):
    config, plan, store = grid
    report = make_report(plan, store, config)
    assert "2014, ILSVRC12" in legend(report.figures["readings"])
    assert report.captions["readings"].endswith(" Grey: what came out in 2014 on ILSVRC12.")


def test_treatments_without_a_cut_stand_where_bases_do(grid):
    config, plan, store = grid
    report = make_report(plan, store, config)
    results = report.frames["results"]
    assert set(results.loc[results["n_layers"] == 0, "treatment"]) == {
        "baseB",
        "baseB-2x",
        "linear-probe",
        "Head2Toe",
        "fine-tune",
    }
    assert {"linear-probe", "Head2Toe", "fine-tune"} <= set(BASES)
    trials = read_table(store, "trials").set_index("id")
    probe = results.set_index("treatment").loc["linear-probe"]
    assert trials.loc[probe["id"], "n_layers"] == 7  # in the store it is what it copies
    lines = lines_figure(report.frames["means"], title="t").axes[0].get_lines()
    flat = {line.get_color() for line in lines if len(set(line.get_ydata())) == 1 and len(line.get_ydata()) == 2}
    assert {TREATMENTS[name].color for name in ("baseB", "linear-probe", "Head2Toe", "fine-tune")} <= flat


def test_the_report_shows_every_treatment(grid):
    config, plan, store = grid
    report = make_report(plan, store, config)
    text = " ".join(" ".join(rendered(table, width=400)) for table in report.tables)
    entries = legend(points_figure(report.frames["results"], title="t"))
    assert entries[: len(ALL)] == ALL
    assert [name for name in ALL if name not in text] == []


def test_what_copied_layers_became(grid):
    _, plan, store = grid
    cells = {(cell.treatment, cell.spec.surgery.n_layers): cell.spec for cell in plan.cells if cell.treatment in NEW}
    assert len(cells) == 3 + 7 * 2
    names = [stage.name for stage in build(NetworkSpec(name="convnet8"), image=(1, 8, 8), classes=5, seed=0).stages]
    for (name, n), spec in cells.items():
        base = load_weights(store, spec.weights)
        end = load_weights(store, Trained(training=spec, step=spec.recipe.steps))
        same = {
            key.partition(".")[0] for key in base if key in end and "weight" in key and torch.equal(base[key], end[key])
        }
        surgery = TREATMENTS[name].surgery
        expected = set(names[:n])
        if surgery.surgical:
            expected = set(names[:-1]) - {names[n - 1]}
        elif surgery.thaw != "never" or not surgery.frozen:
            expected = set()
        assert same == expected, name
        assert bool([key for key in end if "lora" in key]) == bool(surgery.lora_rank)
        heads = {key.partition(".")[0] for key in end} - set(names[:-1])
        assert heads == {"all_layers_head" if surgery.reads_all else "fc8"}


def test_probes_see_the_network_with_its_adapters(grid):
    _, plan, store = grid
    lora, frozen = (next(cell.spec for cell in plan.cells if cell.treatment == name) for name in ("AnB-LoRA", "AnB"))
    probes, readings = read_table(store, "probes"), read_table(store, "readings")
    moved = readings[readings["quantity"] == "deviation"].merge(probes[["id", "trained_id"]], on="id")
    values = moved.set_index(["trained_id", "stage"])["value"]
    assert [values[lora.id, stage] > 0 for stage in ("conv1", "conv2", "conv3", "fc8")] == [True] * 4
    assert [values[frozen.id, stage] > 0 for stage in ("conv1", "conv2", "conv3", "fc8")] == [False] * 2 + [True] * 2


def test_rows_of_an_older_store_have_nulls_in_new_columns(grid, tmp_path):
    _, _, store = grid
    old = Store(str(tmp_path / "old"))
    for i, name in enumerate(store.names("trials")[:2]):
        content = store.read(f"trials/{name}")
        (tmp_path / name).write_bytes(content)
        table = pq.read_table(tmp_path / name)
        if i == 0:
            pq.write_table(table.drop_columns(["thaw", "lora_rank"]), tmp_path / name)
        old.write(f"trials/{name}", (tmp_path / name).read_bytes())
        old.write(f"curves/{name}", store.read(f"curves/{name}"))
    rows = read_table(old, "trials")
    assert len(rows) == 2
    assert list(rows) == list(read_table(store, "trials"))
    assert rows["thaw"].isna().any()


def test_a_cut_without_a_layer_for_adapters_is_refused_before_training(tiny, monkeypatch):
    monkeypatch.setattr(adapters, "ADAPTED", {torch.nn.Linear: adapters.LoRALinear})
    message = "treatments=AnB-LoRA cannot be run on network=convnet8 at n_layers=2: LoRA adapts layers of type Linear"
    with pytest.raises(UserError, match=message):
        make_plan(tiny("treatments=[AnB-LoRA]"))


class Tied(torch.nn.Sequential):
    """Three layers and a head, of which the second and the third have one weight."""

    def __init__(self, num_classes):
        convolutions = [torch.nn.Conv2d(channels, 4, 3, padding=1) for channels in (1, 4, 4)]
        convolutions[2].weight = convolutions[1].weight
        pool = torch.nn.AdaptiveAvgPool2d(1)
        super().__init__(*convolutions, pool, torch.nn.Flatten(), torch.nn.Linear(4, num_classes))


def tied(num_classes):
    return Tied(num_classes)


def test_adapters_beside_a_weight_of_two_layers_are_refused_before_training(tiny):
    network = "tests.experiments.yosinski.test_treatments:tied"
    make_plan(tiny(f"network={network}", "n_layers=[1]", "treatments=[AnB-LoRA]"))
    message = (
        f"^treatments=AnB-LoRA cannot be run on network={network} at n_layers=3: .* the weight of 1, too, and would"
    )
    with pytest.raises(UserError, match=message):
        make_plan(tiny(f"network={network}", "n_layers=[1,3]", "treatments=[AnB-LoRA]"))


def test_configurations_keep_what_is_new(grid):
    _, plan, store = grid
    configs = read_table(store, "trials")["config"].map(json.loads)
    assert {config["surgery"]["thaw"] for config in configs if "surgery" in config} == {"never", "halfway", "gradual"}
    assert len(plan.trials) > len(configs)  # probes beside them


def test_a_plan_says_that_nothing_is_cut(tiny):
    told = "n_layers=[2] changes nothing: none of the treatments is cut at n"
    assert make_plan(tiny("n_layers=[2]", "treatments=[baseB,linear-probe]")).accounts == [told]
    assert make_plan(tiny("n_layers=spread", "treatments=[baseB]")).accounts == []
    assert make_plan(tiny("n_layers=[2]", "treatments=[baseB,AnB]")).accounts == []
