"""Trials on images that are decoded as they are taken: the rows of those on decoded ones, stopped or not."""

import pytest

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.specs.dependencies import needs
from raytransfer.store import Store, failures, is_unmerged
from raytransfer.training import Interrupted
from raytransfer.trials import Site, attempt, run
from tests.tasks.test_shards import write_shards
from tests.tasks.test_streamed import WRITERS
from tests.trials.test_resume import STEPS, after, assert_same, left_by


@pytest.fixture
def trials(tiny, tmp_path):
    """A base, a transfer of frozen layers from it and a site for them, with images held as wanted."""

    def plan(decoded):
        found = make_plan(
            tiny(
                f"data={tmp_path / 'x'}",
                f"decoded={decoded}",
                f"cache_dir={tmp_path / 'cache'}",
                "image_size_px=10",
                "recipe.crop_px=8",
                "recipe.pad_px=0",
                "train_per_class=null",
                "n_layers=[2]",
                "treatments=[AnB]",
                "directions=[A->B]",
            )
        )
        site = Site(sources=found.sources, root=str(tmp_path / decoded), device="cpu", memory_bytes=10**9)
        return [*found.trials.values()], site

    return plan


def in_order(specs):
    return sorted(specs, key=lambda spec: bool(needs(spec)))


@pytest.mark.parametrize("kind", [*WRITERS, "shards"])
def test_streamed_and_stopped_in_mid_epoch_a_trial_leaves_the_rows_of_decoded_images(tmp_path, trials, kind):
    (WRITERS | {"shards": write_shards})[kind](tmp_path / "x", classes=4)
    specs, site = trials("cache")
    expected = {}
    for spec in in_order(specs):
        run(spec, site, STEPS)
        expected[spec.id] = left_by(spec, site)
    specs, site = trials("stream")
    assert {spec.id for spec in specs} == expected.keys()
    assert len(specs) == 2
    assert [source.decoded for _, source in site.sources] == ["stream"]
    for spec in in_order(specs):
        for steps in (3, 1):  # of 6, each of 8 of the 20 images: in mid-epoch
            with pytest.raises(Interrupted, match="told to stop"):
                attempt(spec, site, STEPS, after(steps))
        run(spec, site, STEPS)
        assert_same(left_by(spec, site), expected[spec.id])
    assert not list((tmp_path / "cache").glob("*/encoded.bin")) or kind == "parquet"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda file: file.unlink(), "was there when the data were opened, and is gone: data must stay as they are"),
        (lambda file: file.write_bytes(b"short"), "bytes when the data were opened, and has 5 now: data must stay"),
    ],
    ids=["gone", "shorter"],
)
def test_a_trial_fails_with_the_name_of_a_file_that_changed_and_goes_on_when_it_is_back(
    tmp_path, trials, change, reason
):
    WRITERS["folder"](tmp_path / "x", classes=4)
    specs, site = trials("stream")
    base = next(spec for spec in specs if not needs(spec))
    with pytest.raises(Interrupted, match="told to stop"):
        attempt(base, site, STEPS, after(1))
    file = tmp_path / "x" / "test" / f"c{base.task.classes[0]}" / "03.jpg"
    content = file.read_bytes()
    change(file)
    failed = attempt(base, site, STEPS)
    assert f"UserError: {file} " in failed
    assert reason in failed.strip().splitlines()[-1]
    assert failures(Store(site.root)).keys() == {base.id}
    file.write_bytes(content)
    assert attempt(base, site, STEPS) is None
    assert is_unmerged(Store(site.root), base.id)
