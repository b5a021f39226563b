"""Ids that jobs get."""

import uuid

import pytest

from joblet_agent.model.ids import new_job_id


def test_the_short_id_of_a_job_is_never_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    made = iter(["20084598-3f0c-4d2e-8a55-0123456789ab", "2008459a-3f0c-4d2e-8a55-0123456789ab"])
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(next(made)))
    assert new_job_id() == "2008459a-3f0c-4d2e-8a55-0123456789ab"
