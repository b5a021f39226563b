"""Secret files of a job as they are typed: ``NAME=PATH``. No error tells their content."""

from collections.abc import Iterable

from rnx.exits import RnxError, UsageError

LARGEST = 1024 * 1024


def read_secret_files(words: Iterable[str]) -> dict[str, bytes]:
    """Return the contents by name; of two with one name the later wins."""
    return dict(_file(word) for word in words)


def _file(word: str) -> tuple[str, bytes]:
    name, _, path = word.partition("=")
    if not name or not path:
        raise UsageError(
            "cannot read --secret-file: expected NAME=PATH", hint="for example key=/home/me/key.pem"
        )
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise RnxError(f"cannot read --secret-file {path}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise RnxError(f"cannot send --secret-file {path}: larger than {LARGEST // 2**20} MB")
    return name, content
