import gc

import pytest

from raytransfer.sweep.collector import lasting


def ends_the_process():
    raise SystemExit(2)


def test_the_collector_rests_and_then_passes_over_what_was_made(request):
    request.addfinalizer(gc.unfreeze)
    before = gc.get_freeze_count()
    with lasting():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() >= before + len(kept)


def test_it_works_again_after_an_import_that_fails(request):
    request.addfinalizer(gc.unfreeze)
    with pytest.raises(SystemExit, match="2"), lasting():
        ends_the_process()
    assert gc.isenabled()
