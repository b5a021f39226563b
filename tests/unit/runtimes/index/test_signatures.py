"""Signatures that ssh-keygen has made (recorded/, OpenSSH 9.2), and what is none."""

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import WrongState
from joblet_agent.runtimes.index.signatures import read_signature, verify
from joblet_agent.runtimes.index.signers import Signer, read_line, read_signers

RECORDED = Path(__file__).with_name("recorded")
NOW = datetime(2027, 1, 31, tzinfo=UTC)
DATA = (RECORDED / "registry.json").read_bytes()
ONE = read_line((RECORDED / "one.pub").read_text())
TWO = read_line((RECORDED / "two.pub").read_text())
KEY = (RECORDED / "one.pub").read_text().split()[1]


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.sig").read_bytes()


def refusal(signature: bytes, *, data: bytes = DATA, signers: tuple[Signer, ...] = (ONE,)) -> str:
    with pytest.raises(WrongState) as raised:
        verify(data, signature, signers, NOW, "https://host.example/registry.json")
    assert raised.value.reason == "RUNTIME_SIGNATURE_INVALID"
    start = "cannot trust the signature of https://host.example/registry.json: "
    assert str(raised.value).startswith(start)
    assert "ssh-keygen -Y sign -n joblet-runtime" in (raised.value.hint or "")
    return str(raised.value).removeprefix(start)


@pytest.mark.parametrize("name", ["good", "sha256"])
def test_what_ssh_keygen_has_signed_is_trusted(name: str) -> None:
    assert verify(DATA, recorded(name), [TWO, ONE], NOW, "x") is ONE


def test_a_signature_for_another_namespace_is_none() -> None:
    assert refusal(recorded("file")) == "it is for the namespace 'file', expected 'joblet-runtime'"


def test_a_signature_by_another_key_is_none() -> None:
    assert refusal(recorded("other")) == "it is by a key that this host does not trust"
    assert refusal(recorded("good"), signers=()) == "it is by a key that this host does not trust"


def test_a_signature_by_a_key_of_another_type_is_none() -> None:
    assert refusal(recorded("ecdsa")) == "it is by a key of another type, expected ed25519"


def test_each_changed_byte_of_the_file_is_seen() -> None:
    for place in range(len(DATA)):
        changed = DATA[:place] + bytes([DATA[place] ^ 1]) + DATA[place + 1 :]
        assert refusal(recorded("good"), data=changed) == "the file is not the one that was signed"
    assert refusal(recorded("good"), data=DATA + b"\n") == "the file is not the one that was signed"


def test_each_changed_byte_of_the_signature_is_seen() -> None:
    begin, *inner, end = recorded("good").decode().strip().splitlines()
    blob = base64.b64decode("".join(inner))
    for place in range(len(blob)):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        refusal(f"{begin}\n{base64.b64encode(changed).decode()}\n{end}\n".encode())
    for size in range(len(blob)):
        refusal(f"{begin}\n{base64.b64encode(blob[:size]).decode()}\n{end}\n".encode())
    longer = base64.b64encode(blob + b"x").decode()
    assert refusal(f"{begin}\n{longer}\n{end}\n".encode()) == "there is something behind its end"


def test_a_key_that_counts_for_others_or_at_other_times_does_not_count() -> None:
    def with_options(options: str) -> Signer:
        return read_line(f"me@example {options} ssh-ed25519 {KEY}")

    day = timedelta(days=1)
    before, after = (f"{time:%Y%m%d}Z" for time in (NOW - day, NOW + day))
    for options in (f'valid-before="{before}"', f'valid-after="{after}"', 'namespaces="file,git"'):
        assert refusal(recorded("good"), signers=(with_options(options),)).startswith("the key of me@example")
    fine = with_options(f'namespaces="git,joblet-*",valid-after="{before}",valid-before="{after}"')
    assert verify(DATA, recorded("good"), [fine], NOW, "x") == fine


@pytest.mark.parametrize(
    "line",
    [
        f"ssh-ed25519 {KEY}",
        f"ssh-ed25519 {KEY} some words behind",
        f"me@example ssh-ed25519 {KEY}",
        f'"two words" namespaces="joblet-runtime" ssh-ed25519 {KEY} comment',
    ],
)
def test_keys_are_read_in_each_of_their_forms(line: str) -> None:
    assert read_line(line).key == ONE.key


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("ssh-ed25519", "expected a public key"),
        ("hello", "expected a public key"),
        (f"a b c ssh-ed25519 {KEY}", "expected a public key"),
        ("ssh-ed25519 AAAA", "no such key"),
        (f"ssh-ed25519 {KEY[:-4]}", "no such key"),
        (f"ssh-ed25519 {KEY}AAAA", "no such key"),
        ((RECORDED / "ec.pub").read_text(), "of the type ecdsa-sha2-nistp256, expected ssh-ed25519"),
        ("sk-ssh-ed25519@openssh.com AAAA", "of the type sk-ssh-ed25519@openssh.com"),
        (f"me cert-authority ssh-ed25519 {KEY}", "the option cert-authority is not known"),
        (f'me namespaces="x",other="y" ssh-ed25519 {KEY}', "the option other is not known"),
        (f'me namespaces="joblet-*,!joblet-runtime" ssh-ed25519 {KEY}', "expected namespaces"),
        (f'me valid-before="tomorrow" ssh-ed25519 {KEY}', "expected a time"),
        (f'me valid-before="20271399" ssh-ed25519 {KEY}', "does not match|unconverted"),
    ],
)
def test_a_line_that_cannot_be_used_is_an_error(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read_line(line)


def test_keys_of_a_directory_are_those_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "a.pub").write_bytes((RECORDED / "one.pub").read_bytes())
    (tmp_path / "others").write_text(f"# ours\n\n{(RECORDED / 'two.pub').read_text()}")
    (tmp_path / ".swp").write_text("no key")
    (tmp_path / "directory").mkdir()
    assert [signer.name for signer in read_signers(tmp_path)] == ["one@example", "two@example"]


def test_where_there_is_no_key_nothing_is_trusted(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "keys").write_text(f"# one\nssh-ed25519 {KEY}\nssh-rsa AAAA\n")
    for directory, problem in [
        (tmp_path / "none", "has no key"),
        (tmp_path, "has no key"),
        (tmp_path / "bad", "keys, line 3: the key is of the type ssh-rsa, expected ssh-ed25519"),
    ]:
        with pytest.raises(WrongState, match=problem) as raised:
            read_signers(directory)
        assert raised.value.reason == "RUNTIME_KEYS_UNUSABLE"


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_refused(data: bytes) -> None:
    armoured = b"-----BEGIN SSH SIGNATURE-----\n%b\n-----END SSH SIGNATURE-----\n" % base64.b64encode(data)
    for text in (data, armoured, armoured.replace(b"=", b"")):
        with pytest.raises(ValueError, match=r"^(it|its|there) "):
            read_signature(text)
