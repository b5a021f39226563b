"""Certificates of the network listener as callers are told of them."""

from collections.abc import Iterable
from datetime import datetime

from joblet_agent.model.certificate import CertificateLife
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import rfc3339


def lives_to_proto(lives: Iterable[CertificateLife], now: datetime) -> list[pb.CertificateStatus]:
    """Return what is the case with certificates now."""
    return [
        pb.CertificateStatus(
            kind=life.kind,
            subject=life.subject,
            not_after=rfc3339(life.until),
            days_left=life.days_left(now),
            state=life.state(now).value,
        )
        for life in lives
    ]
