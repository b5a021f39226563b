"""What was done with certificates, in the audit trail: ``journalctl JOBLET_EVENT=audit``.

Who it was is what journald itself says of the sender: ``_UID``, ``_AUDIT_LOGINUID``, ``_CMDLINE``.
"""

from cryptography.x509 import Certificate
from systemd import journal

from joblet_agent.pki.index import Record, serial_of

_NOTICE = 5  # sd-daemon(3)


def tell_client(act: str, record: Record) -> None:
    """Record what was done with the certificate of a client: ``issue``, ``renew`` or ``revoke``."""
    about = f"certificate {record.serial} of '{record.name}' ({record.role}), until {record.until:%Y-%m-%d}"
    _send(act, about, record.serial, JOBLET_NAME=record.name)


def tell_own(act: str, what: str, certificate: Certificate) -> None:
    """Record what was done with a certificate of the agent's own, or with a CA."""
    _send(act, f"{what} {serial_of(certificate)}", serial_of(certificate))


def _send(act: str, about: str, serial: str, **fields: str) -> None:
    journal.send(
        f"audit: pki/{act}: {about}",
        PRIORITY=str(_NOTICE),
        SYSLOG_IDENTIFIER="joblet-agent",
        JOBLET_EVENT="audit",
        JOBLET_RPC=f"pki/{act}",
        JOBLET_RESULT="done",
        JOBLET_SERIAL=serial,
        **fields,
    )
