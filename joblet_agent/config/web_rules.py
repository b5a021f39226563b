"""What the value of a key may be that is an address of the web (see rules.py)."""

from dataclasses import dataclass

from joblet_agent.config.document import Scalar
from joblet_agent.config.texts import text_of, written
from joblet_agent.model.web import file_address, web_address


@dataclass(frozen=True, slots=True)
class WebAddress:
    """An address of a server or, where that is allowed, of a file or directory of this host; or nothing."""

    may_be_file: bool = False
    is_proxy: bool = False
    """A server that is spoken to by http; nothing but its name and port counts."""

    @property
    def expected(self) -> str:
        """Name the form."""
        if self.is_proxy:
            return "an address such as http://proxy.example:3128, or nothing"
        return "an address that begins with https://, http:// or file:///, or nothing"

    def read(self, scalar: Scalar) -> str:
        """Read an address without user and password: every local user may see it."""
        text = text_of(scalar)
        if not text:
            return ""
        if self.may_be_file and text.startswith("file:"):
            file_address(text)
            return text
        parts = web_address(text)
        if self.is_proxy and (parts.scheme != "http" or parts.path.strip("/") or parts.query):
            raise ValueError(f"expected {self.expected}")
        return text

    def write(self, value: str) -> str:
        """Write it, in quotes if need be."""
        return written(value)
