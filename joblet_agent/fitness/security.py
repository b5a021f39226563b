"""Security modules of the kernel, as far as they can be in the agent's way."""

import re
from collections.abc import Sequence

from joblet_agent.fitness.finding import Probe, Subject, Verdict, ok, unknown, warning
from joblet_agent.fitness.scene import Scene

_LISTED = "/sys/kernel/security/lsm"
_PROFILES = "/sys/kernel/security/apparmor/profiles"
_DNSMASQ = re.compile(r"^\S*dnsmasq \(enforce\)$", re.MULTILINE)


def _modules(scene: Scene) -> Verdict:
    host = scene.host
    if host.text("/sys/fs/selinux/enforce") == "1":
        return warning(
            "SELinux enforces its policy, and the agent has none for it",
            "jobs, networks or volumes may be denied what they need",
            "look for denials after a first job: ausearch -m avc -ts recent; or set it to permissive",
        )
    listed = host.text(_LISTED)
    if listed is None:
        return unknown("which security modules there are: securityfs is not mounted here")
    lockdown = re.search(r"\[(\w+)\]", host.text("/sys/kernel/security/lockdown") or "")
    mode = f", lockdown {lockdown[1]}" if lockdown else ""
    return ok(f"{listed}{mode}: nothing of it keeps jobs from running")


def _apparmor(scene: Scene) -> Verdict | None:
    if "apparmor" not in (scene.host.text(_LISTED) or ""):
        return None
    if not _DNSMASQ.search(scene.host.text(_PROFILES) or ""):
        return ok("no AppArmor profile confines dnsmasq")
    return warning(
        "an AppArmor profile confines dnsmasq",
        "name servers of networks may not read what the agent writes for them: jobs find no names",
        "allow it /run/joblet/dns/** r in /etc/apparmor.d/local/usr.sbin.dnsmasq, then apparmor_parser -r",
    )


PROBES: Sequence[Probe] = (
    Probe("SECURITY_MODULES", Subject.SECURITY, _modules),
    Probe("SECURITY_APPARMOR_DNSMASQ", Subject.SECURITY, _apparmor),
)
