"""What of the kernel comes as modules: networks, limits of bandwidth, images. Nothing is loaded here."""

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence

from joblet_agent.config import FilesystemBacking
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, unknown, warning
from joblet_agent.fitness.scene import Host, Scene
from joblet_agent.model.network import BuiltIn

NETWORKS = {
    "bridge": "CONFIG_BRIDGE",
    "veth": "CONFIG_VETH",
    "nf_tables": "CONFIG_NF_TABLES",
    "nft_ct": "CONFIG_NFT_CT",
    "nft_chain_nat": "CONFIG_NFT_NAT",
    "nft_masq": "CONFIG_NFT_MASQ",
}
BANDWIDTH = {
    "sch_tbf": "CONFIG_NET_SCH_TBF",
    "sch_ingress": "CONFIG_NET_SCH_INGRESS",
    "ifb": "CONFIG_IFB",
    "cls_u32": "CONFIG_NET_CLS_U32",
    "act_mirred": "CONFIG_NET_ACT_MIRRED",
}
IMAGES = {"loop": "CONFIG_BLK_DEV_LOOP", "ext4": "CONFIG_EXT4_FS"}
"""Modules, with the kernel's options that make them."""

_REFUSED = re.compile(r"^\s*install\s+(\S+)\s+(?:\S*/)?(?:false|true)\b", re.MULTILINE)
_PACKAGE = "the modules of the running kernel (linux-image, linux-modules-extra; reboot into it), or modprobe"


class Modules:
    """Which parts the running kernel has or can load; names with ``_``."""

    def __init__(self, host: Host) -> None:
        self._host = host
        release = host.text("/proc/sys/kernel/osrelease") or ""
        listed = [f"/lib/modules/{release}/modules.{kind}" for kind in ("builtin", "dep")]
        self.refused = dict(_refused(host))
        """Modules that modprobe.d(5) does not let in, with the files that say so."""
        self._is_listed = host.is_there(listed[1])
        self._loaded = {line.split()[0] for line in host.lines("/proc/modules")}
        self._builtin = _names(host.lines(listed[0]))
        self._loadable = set() if self._is_locked else _names(host.lines(listed[1])) - set(self.refused)
        self._options = self._read_options(release)

    @property
    def _is_locked(self) -> bool:
        return self._host.text("/proc/sys/kernel/modules_disabled") == "1"

    def is_present(self, name: str, option: str) -> bool:
        """Say whether it is there already."""
        if name in self._loaded or name in self._builtin or self._options.get(option) == "y":
            return True
        return self._host.is_there(f"/sys/module/{name}")

    def has(self, name: str, option: str) -> bool | None:
        """Say whether it is there or would be loaded; None: it cannot be told from here."""
        if self.is_present(name, option) or name in self._loadable:
            return True
        if self._is_locked or name in self.refused or self._is_listed:
            return False
        # In a container the modules are the host's: what its kernel was configured with is all that is known.
        return option in self._options if self._options else None

    def missing(self, wanted: Mapping[str, str]) -> tuple[list[str], bool]:
        """Return which are not there, and whether that could be told of all of them."""
        found = {name: self.has(name, option) for name, option in wanted.items()}
        return [name for name, has in found.items() if has is False], None not in found.values()

    def remedy(self, names: Sequence[str]) -> str:
        """Say how they come in."""
        if files := sorted({self.refused[name] for name in names if name in self.refused}):
            return f"take the lines away from {', '.join(files)}"
        if self._is_locked:
            return f"load them before kernel.modules_disabled=1: {' '.join(names)} in /etc/modules-load.d"
        return f"{_PACKAGE} {' '.join(names)}"

    def _read_options(self, release: str) -> Mapping[str, str]:
        text = self._host.text(f"/boot/config-{release}")
        packed = self._host.path("/proc/config.gz")
        if text is None and packed.exists():
            text = gzip.decompress(packed.read_bytes()).decode("ascii", "replace")
        return dict(re.findall(r"^(CONFIG_\w+)=([ym])$", text or "", re.MULTILINE))


def _refused(host: Host) -> Iterator[tuple[str, str]]:
    for folder in ("lib/modprobe.d", "usr/lib/modprobe.d", "run/modprobe.d", "etc/modprobe.d"):
        for file in sorted(host.path(folder).glob("*.conf")):
            for name in _REFUSED.findall(file.read_text(encoding="utf-8", errors="replace")):
                yield name.replace("-", "_"), f"/{folder}/{file.name}"


def _names(lines: Sequence[str]) -> set[str]:
    paths = (line.partition(":")[0] for line in lines)
    return {path.rpartition("/")[2].partition(".ko")[0].replace("-", "_") for path in paths}


def _networks(scene: Scene) -> Verdict:
    modules = Modules(scene.host)
    missing, is_known = modules.missing(NETWORKS)
    if not missing:
        return (
            ok("bridges, veth, nftables") if is_known else unknown("whether there are bridges and nftables")
        )
    text, remedy = f"no {', '.join(missing)}", modules.remedy(missing)
    default = scene.loaded.config.jobs.default_network
    if default in {BuiltIn.NONE, BuiltIn.HOST}:
        return warning(text, f"jobs with another network than {default} do not start", remedy)
    return failed(text, f"jobs do not start, unless with --network={BuiltIn.NONE}", remedy)


def _bandwidth(scene: Scene) -> Verdict:
    modules = Modules(scene.host)
    missing, is_known = modules.missing(BANDWIDTH)
    if not missing:
        return ok("limits of bandwidth") if is_known else unknown("whether bandwidth can be limited")
    return warning(
        f"no {', '.join(missing)}",
        "jobs and networks with --bandwidth fail",
        modules.remedy(missing),
    )


def _images(scene: Scene) -> Verdict | None:
    volumes = scene.loaded.config.volumes
    if not volumes.enabled or volumes.filesystem is FilesystemBacking.QUOTA:
        return None
    modules = Modules(scene.host)
    missing, is_known = modules.missing(IMAGES)
    if scene.host.is_there("/dev/loop-control"):
        missing = [name for name in missing if name != "loop"]
    if not missing:
        return ok("loop devices, ext4") if is_known else unknown("whether there are loop devices and ext4")
    return warning(
        f"no {', '.join(missing)}",
        "volumes of the type filesystem fail, where state_dir has no project quotas",
        modules.remedy(missing),
    )


PROBES: Sequence[Probe] = (
    Probe("KERNEL_NETWORKS", Subject.KERNEL, _networks),
    Probe("KERNEL_BANDWIDTH", Subject.KERNEL, _bandwidth),
    Probe("KERNEL_IMAGES", Subject.KERNEL, _images),
)
