"""Commands that are killed at any of their files: the next one finishes the work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from joblet_agent.errors import NotAuthenticated, WrongState
from joblet_agent.model.identity import Role
from joblet_agent.pki import files, listener_files, store
from joblet_agent.pki.renewal import Renewed
from joblet_agent.rpc.material import read_material
from tests.unit.pki.ca import Rig


class Killed(BaseException):
    """kill -9, as far as files are concerned: there is none after it."""


class Files:
    """Lets so many files be written, and then kills."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = 1000
        self._place = files.place
        for module in (store, listener_files):
            monkeypatch.setattr(module, "place", self.place)

    def place(self, path: Path, content: bytes, mode: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed
        self._place(path, content, mode)

    def survived(self, writes: int, work: Callable[[], object]) -> bool:
        self.left = writes
        try:
            work()
        except Killed:
            return False
        finally:
            self.left = 1000
        return True


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(monkeypatch)


def test_init_that_is_killed_can_be_repeated(tmp_path: Path, written: Files) -> None:
    for writes in range(20):
        rig = Rig(tmp_path / str(writes))
        has_ended = written.survived(writes, rig.ca.init)
        if rig.ca.lacks_certificates:  # killed behind its last file, it has made everything
            rig.ca.init()
        with pytest.raises(WrongState):
            rig.ca.init()
        assert not rig.ca.lacks_certificates
        assert len(list((rig.directory / "ca").glob("*.key"))) == 1
        assert rig.judged(rig.ca.issue("carol", Role.VIEWER)).name == "carol"
        if has_ended:
            assert writes > 4
            return
    raise AssertionError("it never ended")


def test_no_certificate_leaves_without_being_known(tmp_path: Path, written: Files) -> None:
    rig = Rig(tmp_path)
    rig.ca.init()
    assert not written.survived(0, lambda: rig.ca.issue("alice", Role.ADMIN))
    assert rig.judged(rig.ca.issue("alice", Role.ADMIN)).name == "alice"


def test_a_revocation_that_is_killed_is_none_or_is_finished_by_the_next_command(
    tmp_path: Path, written: Files
) -> None:
    for writes in range(20):
        rig = Rig(tmp_path / str(writes))
        rig.ca.init()
        bob, eve = (rig.ca.issue(name, Role.ADMIN) for name in ("bob", "eve"))
        has_ended = written.survived(writes, lambda rig=rig: rig.ca.revoke("bob"))  # type: ignore[misc]
        is_known = rig.ca.holding().index.of_name("bob")[0].revoked is not None
        assert is_known is (writes > 0)
        rig.ca.revoke("eve")
        for refused in (eve, *([bob] if is_known else [])):
            with pytest.raises(NotAuthenticated):
                rig.judged(refused)
        if has_ended:
            assert writes > 1
            return
    raise AssertionError("it never ended")


def test_r14_a_renewal_that_is_killed_is_finished_by_the_next_one(tmp_path: Path, written: Files) -> None:
    """Of everything at once: the former CA goes, a new one comes, the agent's certificate follows."""
    for writes in range(30):
        rig = Rig(tmp_path / str(writes))
        rig.ca.init(days=300)
        rig.ca.issue("bob", Role.VIEWER, 50)
        rig.ca.renewal.authority()
        alice, eve = (rig.ca.issue(name, Role.VIEWER, 290) for name in ("alice", "eve"))
        rig.ca.revoke("eve")
        rig.pass_days(250)
        has_ended = written.survived(writes, lambda rig=rig: rig.ca.renewal.due())  # type: ignore[misc]
        assert rig.judged(alice).name == "alice"  # in between, too
        with pytest.raises(NotAuthenticated):
            rig.judged(eve)
        rig.ca.renewal.due()
        holding = rig.ca.holding()
        assert [row.role for row in holding.rows][:3] == ["ca", "ca", "server"]
        assert holding.server is not None
        assert holding.server.issuer == holding.index.authorities[0].subject
        assert read_material(rig.directory).trust.authorities == tuple(reversed(holding.index.authorities))
        assert rig.ca.renewal.due() == Renewed()
        if has_ended:
            assert writes > 5
            return
    raise AssertionError("it never ended")
