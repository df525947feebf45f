"""The sweep of transfer against distance: from its configuration to a plan, from its results to a report."""

import json
from collections.abc import Sequence
from dataclasses import asdict, fields

import pandas as pd
from matplotlib.figure import Figure
from rich.console import Console, Group

from raytransfer.analysis import (
    correlations,
    curves,
    dial_means,
    grid_effects,
    grid_means,
    monotonicity,
    outcome_monotonicity,
    transfer_points,
    variance_of_dials,
    variance_of_distances,
)
from raytransfer.analysis.pairs import OUTCOMES
from raytransfer.config import DistanceConfig, to_yaml
from raytransfer.config.kinds import DISTANCE_FEATURES
from raytransfer.distances import DISTANCES
from raytransfer.distances.tree import check_in_tree, parse_tree
from raytransfer.errors import UserError
from raytransfer.experiments.design import Design, DialRow, GridRow, make_design
from raytransfer.figures import (
    correlations_figure,
    dial_grid_figure,
    dials_figure,
    monotonicity_figure,
    transfer_figure,
)
from raytransfer.networks import architecture
from raytransfer.pairs import Measures, PairCell, cells
from raytransfer.plan import Plan, checked_recipe, layer_numbers, plan_of
from raytransfer.probe_cells import with_probes
from raytransfer.report import how_to_read, parquet, places_of, png, write_files
from raytransfer.scores import SCORES
from raytransfer.specs import NetworkSpec, TaskSpec
from raytransfer.store import Store, read_table
from raytransfer.tables import (
    correlations_table,
    grid_effects_table,
    monotonicity_table,
    variance_of_dials_table,
    variance_of_distances_table,
)
from raytransfer.tasks import label_names

_PLACE = ["treatment", "measure", "target", "base", "n_layers", "seed"]
_MEASURED = ["measure", "kind", "target", "base", "n_layers", "seed", "id"]


def make_plan(config: DistanceConfig) -> Plan[PairCell]:
    """Open the data and lay out all pairs, checking everything that can be checked before training.

    Raises:
        UserError: Something asked for cannot be done.
    """
    network = NetworkSpec(name=config.network, init=config.init)  # type: ignore[arg-type]
    n_layers = layer_numbers(config)
    measures = _measures(config)
    design = make_design(config, config.dial_grid)
    seeds = range(config.seeds)
    tasks = {task.spec(seed) for pair in design.pairs for task in (pair.base, pair.target) for seed in seeds}
    (shape,) = {dataset.train_images.shape[1:] for _, dataset in design.opened}
    recipe = checked_recipe(config, network, shape, {task.label_count for task in tasks})
    places = cells(
        design.pairs,
        seeds=seeds,
        network=network,
        recipe=recipe,
        n_layers=n_layers,
        depth=len(architecture(config.network).stages),
        measures=measures,
    )
    plan = plan_of(with_probes(places, config, shape), design.opened)
    _check_measurable(config, plan, tasks)
    return plan


def _measures(config: DistanceConfig) -> Measures:
    for option, names, known in (
        ("distances", config.distances, DISTANCES),
        ("scores", config.scores, SCORES),
    ):
        for name in names:
            if name not in known:
                raise UserError(f"{option} has {name}, which is not known; choose from {', '.join(known)}")
        if len(set(names)) < len(names):
            raise UserError(f"{option}={names} must name each once")
    names = [*SCORES]
    for name, distance in DISTANCES.items():
        names += [f"{name} of {kind}" for kind in DISTANCE_FEATURES] if distance.reads == "features" else [name]
    for option in ("drawn", "input_distance", "label_distance"):
        asked = getattr(config, option)
        for name in asked if isinstance(asked, list) else [asked]:
            if name not in names:
                raise UserError(f"{option} has {name}, which is not known; choose from {', '.join(names)}")
    if config.tree is not None:
        parse_tree(config.tree)
    return Measures(
        distances=[name for name in config.distances if name != "tree" or config.tree is not None],
        features=config.distance_features,
        scores=config.scores,
        images=config.images,
        tree=None if config.tree is None else json.dumps(config.tree, sort_keys=True, separators=(",", ":")),
    )


def _check_measurable(config: DistanceConfig, plan: Plan[PairCell], tasks: set[TaskSpec]) -> None:
    if not config.distances and not config.scores:
        return
    for option in ("train_per_class", "base_per_class"):
        if getattr(config, option) == 1:
            raise UserError(f"{option}=1 must be at least 2: of a single image no measure can say how its class varies")
    if config.tree is not None and "tree" in config.distances:
        tree = parse_tree(config.tree)
        for task in sorted(tasks, key=repr):
            check_in_tree(label_names(plan.datasets[task.fingerprint], task), tree)


def report(console: Console, name: str, plan: Plan[PairCell], store: Store, config: DistanceConfig) -> None:
    """Analyse what has finished, write tables and pictures below ``sweeps/`` in the store, and show them."""
    outcomes = _outcomes(plan.cells, store)
    if outcomes.empty or not outcomes[list(OUTCOMES)].notna().to_numpy().any():
        console.print("No transfer of this sweep has finished.")
        return
    design = make_design(config, config.dial_grid)
    found = _analysed(outcomes, _measured(plan.cells, store), design, config)
    title = _title(plan, config)
    contents = {f"{key}.parquet": parquet(table) for key, table in found.items() if not table.empty}
    contents |= {f"{key}.png": png(figure) for key, figure in _figures(found, title, config).items()}
    contents["config.yaml"] = to_yaml(config).encode()
    data = "-".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    files = write_files(store, f"{name}-{data}", plan.cells, contents)
    console.print()
    for part in _tables(found, config):
        console.print(part)
    console.print("Pictures:", *(place for file, place in files.items() if file.endswith(".png")), soft_wrap=True)
    console.print("Every transfer of the sweep, one row each, in pandas (measures.parquet: every distance and score):")
    console.print(how_to_read(store, "outcomes", files["outcomes.parquet"]), soft_wrap=True)


def _outcomes(cells: Sequence[PairCell], store: Store) -> pd.DataFrame:
    """One row a (target, base, n_layers, seed): accuracies of its treatments, and what they gain over baseB."""
    places = places_of(cells, _PLACE)
    placed = places[places["measure"].isna()].merge(read_table(store, "trials")[["id", "top1"]], on="id", how="left")

    def of(treatment: str, keys: list[str]) -> pd.DataFrame:
        chosen = placed[placed["treatment"] == treatment]
        return chosen[[*keys, "top1"]].rename(columns={"top1": treatment})

    pair = ["target", "base", "n_layers", "seed"]
    table = of("AnB", pair).merge(of("AnB+", pair), on=pair, how="outer")
    table = table.merge(of("RnB", ["target", "n_layers", "seed"]), on=["target", "n_layers", "seed"], how="left")
    table = table.merge(of("baseB", ["target", "seed"]), on=["target", "seed"], how="left")
    table = table.merge(of("baseA", ["target", "base", "seed"]), on=["target", "base", "seed"], how="left")
    table["boost"] = table["AnB+"] - table["baseB"]
    return table.astype({"n_layers": "int64"}).sort_values(pair, ignore_index=True)


def _measured(cells: Sequence[PairCell], store: Store) -> pd.DataFrame:
    """One row a distance or score of a pair: its measure, kind, place, value and trial."""
    places = places_of(cells, _PLACE).rename(columns={"treatment": "kind"}).dropna(subset="measure")
    places = places.astype({"n_layers": "Int64", "seed": "Int64"})[_MEASURED]
    values = pd.concat([read_table(store, table)[["id", "value"]] for table in ("distances", "scores")])
    return places.merge(values, on="id", how="inner")


def _analysed(
    outcomes: pd.DataFrame, measures: pd.DataFrame, design: Design, config: DistanceConfig
) -> dict[str, pd.DataFrame]:
    """Every table of the report by name."""
    dials = pd.DataFrame([asdict(row) for row in design.dials], columns=[field.name for field in fields(DialRow)])
    grid = pd.DataFrame([asdict(row) for row in design.grid], columns=[field.name for field in fields(GridRow)])
    there = set(measures["measure"])
    moves = monotonicity(measures, dials)
    moves["blind"] = [
        of == "distance" and kind in DISTANCES[measure.partition(" of ")[0]].blind_to
        for measure, of, kind in moves[["measure", "kind", "dial_kind"]].itertuples(index=False)
    ]
    found = {
        "outcomes": outcomes,
        "measures": measures,
        "dials": dials.astype({"setting": "string"}),
        "correlations": correlations(outcomes, measures),
        "monotonicity": moves,
        "outcome_monotonicity": outcome_monotonicity(outcomes, dials),
        "dial_means": dial_means(outcomes, dials),
        "grid_means": grid_means(outcomes, grid),
        "grid_effects": grid_effects(outcomes, grid),
        "variance_of_dials": variance_of_dials(outcomes, grid),
    }
    if {config.input_distance, config.label_distance} <= there:
        found["variance_of_distances"] = variance_of_distances(
            outcomes, measures, input_measure=config.input_distance, label_measure=config.label_distance
        )
    for measure in (measure for measure in config.drawn if measure in there):
        found[f"points of {measure}"] = transfer_points(outcomes, measures, measure)
        found[f"curves of {measure}"] = curves(outcomes, measures, measure)
    return found


def _figures(found: dict[str, pd.DataFrame], title: str, config: DistanceConfig) -> dict[str, Figure]:
    """Every picture of the report by name, of what there is to draw."""
    figures = {}
    if found["correlations"]["estimate"].notna().any():
        figures["correlations"] = correlations_figure(found["correlations"], title=title)
    for measure in config.drawn:
        points = found.get(f"points of {measure}")
        if points is not None and not points.empty:
            name = f"transfer-against-{measure.replace(' ', '-')}"
            figures[name] = transfer_figure(points, found[f"curves of {measure}"], title=title)
    for name, draw in (
        ("dial_means", dials_figure),
        ("grid_means", dial_grid_figure),
        ("monotonicity", monotonicity_figure),
    ):
        if not found[name].empty:
            figures[name] = draw(found[name], title=title)
    return figures


def _tables(found: dict[str, pd.DataFrame], config: DistanceConfig) -> list[Group]:
    parts = [correlations_table(found["correlations"])] if not found["correlations"].empty else []
    if not found["monotonicity"].empty:
        parts.append(monotonicity_table(found["monotonicity"]))
    if not found["grid_effects"].empty:
        parts.append(grid_effects_table(found["grid_effects"]))
    if not found["variance_of_dials"].empty:
        parts.append(variance_of_dials_table(found["variance_of_dials"]))
    if "variance_of_distances" in found:
        parts.append(
            variance_of_distances_table(
                found["variance_of_distances"], of_input=config.input_distance, of_label=config.label_distance
            )
        )
    return parts


def _title(plan: Plan[PairCell], config: DistanceConfig) -> str:
    data = ", ".join(dict.fromkeys(dataset.name for dataset in plan.datasets.values()))
    targets = len({cell.target for cell in plan.cells})
    pairs = len({(cell.target, cell.base) for cell in plan.cells if cell.base is not None})
    counted = f"{targets} {'target' if targets == 1 else 'targets'}, {pairs} pairs, {config.seeds} seeds"
    return f"{config.network} on {data}, {config.recipe.steps} steps: {counted}"
