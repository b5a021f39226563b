"""Every test here finds the agent up and leaves no unit behind."""

from collections.abc import Iterator

import pytest

from tests.e2e.agent import Client, eventually, units, wait_for_agent


@pytest.fixture
def client() -> Iterator[Client]:
    client = Client()
    wait_for_agent(client)
    yield client
    wait_for_agent(client)
    eventually(units, lambda names: not names)
    client.close()
