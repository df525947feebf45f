"""What can start when weights come one after the other."""

from raytransfer.experiments.yosinski.plan import make_plan
from raytransfer.specs.dependencies import needs
from raytransfer.sweep.queue import Queue


def test_a_trial_starts_when_all_the_weights_that_it_reads_are_there(tiny):
    plan = make_plan(tiny("probes=[deviation]", "treatments=[baseB]", "n_layers=[2]", "directions=[A->B]"))
    specs = {trial: spec for trial, spec in plan.trials.items() if not needs(spec) or len(needs(spec)) > 1}
    (probe, spec) = next((trial, spec) for trial, spec in specs.items() if needs(spec))
    (training,) = {weights.training.id for weights in needs(spec)}
    first, last = sorted(weights.step for weights in needs(spec))
    queue = Queue({training: specs[training], probe: spec})
    assert (queue.next(), queue.next()) == (training, None)
    assert queue.awaited(training) == {first, last}
    queue.arrive(training, last)
    assert queue.awaited(training) == {first}
    assert queue.peek() is None
    queue.arrive(training, first)
    assert (queue.awaited(training), queue.peek(), queue.next(), queue.next()) == (set(), probe, probe, None)
    assert queue.unfinished == {training, probe}
    assert queue.fail(training) == []  # whose weights are there all the same
