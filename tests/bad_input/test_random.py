"""Random option strings and random damage to a store: each works or is refused in one line, never a traceback."""

import shutil

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raytransfer.commands import forecasting
from raytransfer.config import options
from raytransfer.experiments import EXPERIMENTS
from raytransfer.store import Store
from raytransfer.sweep.estimate import Estimate
from tests.bad_input.commands import QUICK, call

BOUNDED = settings(
    derandomize=True,
    database=None,
    max_examples=120,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NAMES = {
    name: [row.name for row in options(experiment.config, experiment.defaults, ["weights=[x]"] * (name == "selection"))]
    for name, experiment in EXPERIMENTS.items()
}
PLACES = ("out", "cache_dir", "data_dir", "backend")  # where the test itself writes, and how it runs
WORDS = [
    *("null", "~", "true", "no", "all", "spread", "auto", "last", "digits", "A", "random", "convnet8", "resnet18"),
    *("0", "1", "2", "-1", "3.5", "1e-9", "1e308", ".inf", ".nan", "-.inf", "2147483647", "99999999999999999999"),
    *("0x10", "1_000", "007", "1:30", "2024-11-26", "!!python/none x", "&a 1", "*a", "<<", "? x", "%", "@x", "`"),
    *("[]", "{}", "[[]]", "[1,1]", "[null]", "[1, a]", "[0.5]", "{a: 1}", "{a: {}}", "{a: null}", "{1: 2}", "{[]: 1}"),
    *("{a: {classes: all}}", "{a: {classes: [0,1]}, b: {classes: [2,3]}}", "{a: {classes: [0, 99]}}", "{blur_px: [1]}"),
    *("{shuffle_px: [3]}", "[baseB]", "[AnB, RnB]", "{A: [1], B: [2]}", "[conv1]", "[LogME]", "[OTDD]", "[CKA]"),
    *("'", '"', "[", "}", ":", "#", " ", "a b", "a=b", "\n", "\t", "\0", "ü", "\u2028", "$", "/", "..", "~nobody/x"),
]
VALUES = st.one_of(
    st.sampled_from(WORDS),
    st.text(max_size=12),
    st.integers(-10, 10**12).map(str),
    st.floats().map(str),
    st.lists(st.sampled_from(WORDS), max_size=3).map(lambda words: f"[{', '.join(words)}]"),
    st.tuples(st.sampled_from(WORDS), st.sampled_from(WORDS)).map(lambda pair: f"{{{pair[0]}: {pair[1]}}}"),
)
ARGUMENTS = st.sampled_from(sorted(NAMES)).flatmap(
    lambda experiment: st.tuples(
        st.just(experiment),
        st.lists(
            st.one_of(
                st.tuples(st.sampled_from([n for n in NAMES[experiment] if n not in PLACES]), VALUES).map("=".join),
                st.tuples(st.text(min_size=1, max_size=6), VALUES).map("=".join),
                st.text(min_size=1, max_size=8),
            ),
            min_size=1,
            max_size=3,
        ),
    )
)


@pytest.fixture
def no_measuring(monkeypatch):
    """A plan that says nothing of times, which are measured for seconds."""
    nothing = Estimate(seconds={}, kinds=0, measured=0, broken_off=0)
    monkeypatch.setattr(forecasting, "estimate", lambda *_, **__: nothing)


@BOUNDED
@given(ARGUMENTS)
@pytest.mark.usefixtures("no_measuring")
def test_random_options_are_planned_or_refused(tmp_path, cache_dir, drawn):
    experiment, arguments = drawn
    code, _, error = call("plan", experiment, *QUICK.get(experiment, []), *arguments, folder=tmp_path, cache=cache_dir)
    assert code in (0, 2), error
    if code == 2 and "--help" not in arguments:
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()


SMALL = ["treatments=[baseB,AnB,RnB]", *QUICK["yosinski"]]
FOREIGN = {
    "text": b"nothing of ours",
    "null": b"null",
    "a list": b"[1, 2]",
    "a mapping": b'{"id": 3, "error": null, "schema_version": []}',
    "a foreign table": pd.DataFrame({"x": [1, 2]}).to_parquet(),
    "a table of other types": pd.DataFrame({"id": [1.5], "step": ["a"], "top1": [None]}).to_parquet(),
    "a table without rows": pd.DataFrame({"id": []}).to_parquet(),
}
DAMAGE = st.one_of(
    st.tuples(st.just("truncate"), st.floats(0, 1)),
    st.tuples(st.just("flip"), st.floats(0, 1)),
    st.tuples(st.just("replace"), st.sampled_from(sorted(FOREIGN))),
    st.tuples(st.sampled_from(["delete", "folder", "empty", "beside", "a file for its folder"]), st.none()),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, cache_dir, no_pictures):
    """A store with rows, curves, weights, a report, a state and a note of a failure; with the trials of another."""
    folder = tmp_path_factory.mktemp("whole")
    code, _, error = call("run", "yosinski", *SMALL, folder=folder, cache=cache_dir)
    assert code == 0, error
    store = Store(str(folder / "out"))
    trial = store.names("checkpoints")[0]
    store.write(f"failed/{trial}.json", b'{"id": "x", "error": "boom"}')
    store.write(f"states/{trial}.safetensors", b"half a state")
    store.write("gpu_sharing.json", b"{}")
    call("run", "yosinski", *SMALL, "recipe.steps=3", "treatments=[baseB]", folder=folder, cache=cache_dir)
    shutil.rmtree(folder / "out" / "sweeps")  # which nothing reads
    return folder / "out"


def harm(path, how, what):
    content = path.read_bytes()
    place = int(len(content) * what) if isinstance(what, float) else 0
    if how == "truncate":
        path.write_bytes(content[:place])
    elif how == "flip":
        path.write_bytes(
            content[:place] + bytes(255 - byte for byte in content[place : place + 3]) + content[place + 3 :]
        )
    elif how == "replace":
        path.write_bytes(FOREIGN[what])
    elif how == "beside":
        path.with_name(f"{path.stem} copy{path.suffix}").write_bytes(content)
    elif how == "a file for its folder":
        shutil.rmtree(path.parent)
        path.parent.touch()
    else:
        path.unlink()
        if how == "folder":
            path.mkdir()
        elif how == "empty":
            path.touch()


@settings(BOUNDED, max_examples=20)  # half a second each
@given(st.data())
@pytest.mark.usefixtures("no_measuring", "no_pictures")
def test_random_damage_to_a_store_is_mended_or_refused(tmp_path, cache_dir, whole, data):
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole, out)
    for _ in range(data.draw(st.integers(1, 2))):
        files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
        if files:
            harm(out / data.draw(st.sampled_from(files)), *data.draw(DAMAGE))
        if not out.is_dir():
            break
    command, more = data.draw(st.sampled_from([("plan", []), ("report", []), ("run", []), ("run", ["mode=retry"])]))
    code, printed, error = call(command, "yosinski", *SMALL, *more, folder=tmp_path, cache=cache_dir)
    assert code in (0, 1, 2, 3), printed + error
    assert "Traceback" not in error
    if code in (2, 3):
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
