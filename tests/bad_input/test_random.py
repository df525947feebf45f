"""Random option strings and random damage to a store: each works or is refused in one line, never a traceback."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raytransfer.config import options
from raytransfer.experiments import EXPERIMENTS
from raytransfer.sweep import estimate
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
    nothing = estimate.Estimate(seconds={}, kinds=0, measured=0, broken_off=0)
    monkeypatch.setattr(estimate, "estimate", lambda *_: nothing)


@BOUNDED
@given(ARGUMENTS)
@pytest.mark.usefixtures("no_measuring", "one_thread")
def test_random_options_are_planned_or_refused(tmp_path, cache_dir, drawn):
    experiment, arguments = drawn
    code, _, error = call("plan", experiment, *QUICK.get(experiment, []), *arguments, folder=tmp_path, cache=cache_dir)
    assert code in (0, 2), error
    if code == 2 and "--help" not in arguments:
        assert error.startswith("error: ")
        assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
