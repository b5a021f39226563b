"""The agent's way in over the network, with certificates that the test makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

import grpc

from tests.certificates import Pair, furnish, make_server
from tests.e2e.host import configured

PKI = Path("/etc/joblet/pki")
PORT = 50051


@contextmanager
def listening(ca: Pair, config: str) -> Iterator[None]:
    """Let the agent listen with a certificate of this CA, and with this configuration, within the block."""
    furnish(PKI, make_server(ca), ca)
    with configured(config):
        try:
            yield
        finally:
            rmtree(PKI)  # before the agent starts again: it would begin to listen


@contextmanager
def channel(pair: Pair | None, ca: Pair, *more: tuple[str, int]) -> Iterator[grpc.Channel]:
    """Connect as whom the certificate names; without one as nobody."""
    credentials = grpc.ssl_channel_credentials(ca.pem, pair.key if pair else None, pair.pem if pair else None)
    options = [("grpc.ssl_target_name_override", "joblet"), ("grpc.use_local_subchannel_pool", 1), *more]
    with grpc.secure_channel(f"127.0.0.1:{PORT}", credentials, options) as made:
        yield made
