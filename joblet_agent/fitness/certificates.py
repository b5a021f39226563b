"""Certificates of the network listener: there, of one pair, valid, renewed in time."""

from collections.abc import Sequence
from datetime import UTC, datetime

from joblet_agent.config import Listening
from joblet_agent.errors import JobletError
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, unknown, warning
from joblet_agent.fitness.scene import Scene
from joblet_agent.fitness.units import RENEWAL
from joblet_agent.model.certificate import CertificateLife, CertificateState

_NEEDED = ("ca.crt", "server.crt", "server.key")
_FIRST = "/usr/lib/systemd/system/joblet-agent-certificates.service"
_CLOSED = "the agent does not listen on the network"


def _files(scene: Scene) -> Verdict | None:
    listener, directory = scene.loaded.config.listener, scene.loaded.config.tls.directory
    if listener.enabled is Listening.NO:
        return None
    missing = _missing(scene)
    if len(missing) == len(_NEEDED):
        if listener.enabled is Listening.AUTO:
            return ok("none: the agent serves local sockets alone")
        if scene.host.is_there(_FIRST):
            return ok("none yet: the agent's first start makes them")
    if missing:
        text = f"no {', '.join(missing)} in {directory}"
        return _unusable(scene, text, "joblet-agent pki init, or a CA of your own")
    return _pair(scene)


def _missing(scene: Scene) -> list[str]:
    directory = scene.loaded.config.tls.directory
    return [name for name in _NEEDED if not scene.host.is_there(directory / name)]


def _pair(scene: Scene) -> Verdict:
    from joblet_agent.pki.certificates import read_key  # noqa: PLC0415 - cryptography
    from joblet_agent.pki.listener_files import ListenerFiles, fits  # noqa: PLC0415

    directory = scene.host.path(scene.loaded.config.tls.directory)
    try:
        server = ListenerFiles(directory).server()
        key = read_key((directory / "server.key").read_bytes())
    except PermissionError:
        return unknown("whether server.key is the key of server.crt", "run it as root")
    except JobletError as error:
        return _unusable(scene, str(error), error.hint or "")
    except ValueError as error:  # an RSA key of another CA may be fine
        return unknown(f"whether server.key is the key of server.crt: {error}")
    if server is None or not fits(server, key):
        text = "server.key is not the key of server.crt"
        return _unusable(scene, text, "put the two files of one pair there")
    return ok("ca.crt, server.crt and its key")


def _time(scene: Scene) -> Verdict | None:
    if scene.loaded.config.listener.enabled is Listening.NO or _missing(scene):
        return None
    from joblet_agent.pki.certificates import span_of  # noqa: PLC0415 - cryptography
    from joblet_agent.pki.listener_files import ListenerFiles  # noqa: PLC0415

    files = ListenerFiles(scene.host.path(scene.loaded.config.tls.directory))
    try:
        server, trusted = files.server(), files.trusted()
    except JobletError as error:
        return _unusable(scene, str(error), error.hint or "")
    if server is None or not trusted:
        return _unusable(scene, "server.crt or ca.crt has no certificate", "joblet-agent pki init")
    spans = {"server": span_of(server), "ca": max(map(span_of, trusted), key=lambda span: span.until)}
    name, first = min(spans.items(), key=lambda item: item[1].until)
    begin = max(span.since for span in spans.values())
    return _in_time(scene, name, CertificateLife(name, "", begin, first.until))


def _in_time(scene: Scene, name: str, life: CertificateLife) -> Verdict:
    now = datetime.fromtimestamp(scene.host.now(), UTC)
    end, renew = f"{life.until:%Y-%m-%d %H:%M} UTC", f"joblet-agent pki renew {name}"
    if now < life.since:
        return _unusable(
            scene, f"{name}.crt begins at {life.since:%Y-%m-%d %H:%M} UTC", "is it so late? date -u"
        )
    match life.state(now):
        case CertificateState.EXPIRED:
            return _unusable(scene, f"{name}.crt expired at {end}", renew)
        case CertificateState.DUE:
            return warning(f"{name}.crt ends at {end}", "clients refuse it then", renew)
        case _:
            return ok(f"valid until {end}")


def _unusable(scene: Scene, text: str, remedy: str) -> Verdict:
    if scene.loaded.config.listener.enabled is Listening.YES:
        return failed(text, "the agent does not start", remedy)
    return warning(text, _CLOSED, remedy)


def _renewal(scene: Scene) -> Verdict | None:
    index = scene.loaded.config.tls.directory / "ca/index.json"
    if scene.survey is None or not scene.host.is_there(index):
        return None  # without a CA of the host's own there is nothing to renew
    unit = scene.survey.units[RENEWAL]
    if unit.active == "active":
        return ok(f"{RENEWAL} renews them in time")
    state = unit.active if unit.load == "loaded" else unit.load
    return warning(f"{RENEWAL} is {state}", "certificates end", f"systemctl enable --now {RENEWAL}")


PROBES: Sequence[Probe] = (
    Probe("CERTIFICATES", Subject.CERTIFICATES, _files),
    Probe("CERTIFICATES_TIME", Subject.CERTIFICATES, _time),
    Probe("CERTIFICATES_RENEWAL", Subject.CERTIFICATES, _renewal),
)
