"""What TensorBoard is given of a sweep."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event

from raytransfer.errors import UserError
from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.store import Store, read_table
from raytransfer.sweep.failures import places
from raytransfer.sweep.run import Run, run_in_process
from raytransfer.sweep.tensorboard import TensorBoard
from raytransfer.trials import Site


def scalars(folder):
    """What the event files of a run say: tag -> step -> value."""
    found = {}
    for file in folder.iterdir():
        content, place = file.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += length + 16  # with the checksums of the length and of the event
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_each_training_is_a_run_with_its_learning_curve(tiny, tmp_path, one_thread):
    config = tiny("treatments=[AnB]", "n_layers=[2]", "directions=[A->B]", "probes=[deviation]")
    plan, store = make_plan(config), Store(config.out)
    store.create()
    site = Site(sources=plan.sources, root=store.root, device="cpu", memory_bytes=10**9)
    board = TensorBoard(str(tmp_path / "a" / "board"), store, places(plan.trials, plan.cells))
    run_in_process(Run(plan.trials, site, board))
    (transfer,) = (tmp_path / "a" / "board").glob("AnB (*")
    assert transfer.name == "AnB (halves=random, split=random0, direction=A->B, n_layers=2, seed=0)"
    curves = read_table(store, "curves")
    trial = next(cell.spec.id for cell in plan.cells if cell.treatment == "AnB")
    curve = curves[curves["id"] == trial].set_index("step")
    found = scalars(transfer)
    assert set(found) == {"top1", "loss_nats", "train_loss_nats", "learning_rate"}
    for tag, values in found.items():
        assert values == pytest.approx(curve[tag].to_dict(), rel=1e-6)
    assert len(list((tmp_path / "a" / "board").iterdir())) == curves["id"].nunique() == 2  # and nothing of the probes


def test_a_folder_that_cannot_be_made_is_one_line(tiny, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"tensorboard=.*/file/board is no folder that can be made: "):
        TensorBoard(str(tmp_path / "file" / "board"), Store(tiny().out), {})
