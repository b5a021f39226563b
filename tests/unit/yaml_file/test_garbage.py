import gc
import threading

import pytest

from joblet_agent.yaml_file.garbage import collections_paused


def test_the_last_of_several_goes_on_with_it() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with collections_paused():
            inside.set()
            leave.wait(20)

    assert gc.isenabled()
    thread = threading.Thread(target=other)
    with collections_paused():
        assert not gc.isenabled()
        thread.start()
        assert inside.wait(20)
    assert not gc.isenabled()
    leave.set()
    thread.join(20)
    assert gc.isenabled()


def test_an_error_ends_it() -> None:
    with pytest.raises(ValueError, match="x"), collections_paused():
        raise ValueError("x")
    assert gc.isenabled()


def test_what_was_switched_off_stays_so() -> None:
    gc.disable()
    try:
        with collections_paused(), collections_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
