"""A short run of the fuzzer (``make fuzz``), which has a listener of its own."""

import pytest

from tests.attacks.fuzz import fuzz

pytestmark = pytest.mark.systemd


def test_c4_nonsense_on_every_layer() -> None:
    assert fuzz(6, tell=lambda _: None) == []
