"""What is run for each phase (means.StepMaker)."""

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.runtimes.build import scripts
from joblet_agent.runtimes.build.elf_check import check_tree
from joblet_agent.runtimes.build.events import BuildPhase
from joblet_agent.runtimes.build.means import Checked
from joblet_agent.runtimes.build.plan import BaseKind, BuildPlan
from joblet_agent.runtimes.build.step import CA_FILE, BuildPlace, BuildStep, StepKind
from joblet_agent.runtimes.layout import MTIME

__all__ = ["Steps"]

_HOST_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CA_VARIABLES: Final = (
    *("CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE"),
    "SSL_CERT_FILE",
)
_TOOLS: Final = {"mmdebstrap": Path("/usr/bin/mmdebstrap"), "uidmap": Path("/usr/bin/newuidmap")}
_KEYRINGS: Final = {
    "debian": ("debian-archive-keyring", Path("/usr/share/keyrings/debian-archive-keyring.gpg")),
    "ubuntu": ("ubuntu-archive-keyring", Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")),
}
_COMPONENTS: Final = {"debian": "main", "ubuntu": "main universe"}
_DPKG: Final = (
    "force-unsafe-io",
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/lintian/*",
)
"""What is lost with a power cut is built again; and what is left out, jobs never read."""


@dataclass(frozen=True, slots=True)
class Steps:
    """Makes them of a plan and of the configuration as it is then."""

    config: RuntimesConfig
    host: Path = Path("/")
    """Where the host's files are looked for."""

    def missing_tools(self, plan: BuildPlan) -> Sequence[str]:
        """See means.StepMaker."""
        if not _needs_namespace(plan):
            return ()
        wanted = dict(_TOOLS)
        if plan.base.kind is BaseKind.DISTRIBUTION:
            package, keyring = _KEYRINGS[plan.base.distribution]
            wanted[package] = keyring
        return [package for package, path in wanted.items() if not self._host(path).exists()]

    def steps(  # noqa: PLR0911 - one for each phase
        self, phase: BuildPhase, plan: BuildPlan, place: BuildPlace
    ) -> Sequence[BuildStep]:
        """See means.StepMaker."""
        match phase:
            case BuildPhase.PRE_INSTALL:
                hook = {"hook": plan.pre_install}
                inside = _hook_text(plan.pre_install)
                return [
                    *self._base(plan, place),
                    self._within("pre-install", plan, place, inside, hook, network=plan.network),
                ]
            case BuildPhase.PACKAGES:
                inputs = {
                    "packages": _lines(plan.packages),
                    "directories": _lines(plan.directories),
                    "sources": self._every_source(),
                }
                packages = self._within("packages", plan, place, scripts.PACKAGES, inputs)
                return [*self._base(plan, place), packages]
            case BuildPhase.LANGUAGE:
                inputs = {"finish": plan.finish}
                return [self._within("language", plan, place, scripts.LANGUAGE, inputs, network=False)]
            case BuildPhase.PIP:
                return [self._pip(plan, place)]
            case BuildPhase.NPM:
                return [self._npm(plan, place)]
            case BuildPhase.FILES:
                inputs = {"hook": plan.post_install}
                script = _hook_text(plan.post_install)
                return [self._in_tree("post-install", plan, place, script, inputs, network=plan.network)]
            case BuildPhase.NORMALISE if _needs_namespace(plan):
                inputs = {"sources": self._every_source()}
                return [self._within("clean", plan, place, scripts.CLEAN, inputs, network=False)]
            case BuildPhase.CHECK_TREE:
                inputs = {"hook": plan.test}
                script = _hook_text(plan.test)
                return [self._in_tree("test", plan, place, script, inputs, network=False, is_writable=False)]
            case _:
                return ()

    def check(self, tree: Path) -> Checked:
        """See means.StepMaker."""
        return check_tree(tree)

    def _host(self, path: Path) -> Path:
        return self.host / path.relative_to("/")

    def _ca_file(self) -> Path | None:
        if self.config.ca_file is not None:
            return self.config.ca_file
        return _HOST_CA if self._host(_HOST_CA).exists() else None

    def _base(self, plan: BuildPlan, place: BuildPlace) -> Iterator[BuildStep]:
        if plan.base.kind is not BaseKind.DISTRIBUTION:
            return
        options = [
            f"--keyring={_KEYRINGS[plan.base.distribution][1]}",
            *(f"--dpkgopt={each}" for each in _DPKG),
            '--aptopt=Acquire::Retries "3"',
            '--aptopt=APT::Install-Recommends "false"',
        ]
        if self._ca_file() is not None:
            options.append(f'--aptopt=Acquire::https::CAInfo "{CA_FILE}"')
        words = [*options, plan.base.suite, "/space/tree", *self._sources(plan)]
        yield BuildStep(
            name="base",
            kind=StepKind.PACKAGES,
            place=place,
            script=scripts.BASE,
            inputs={"options": _lines(words)},
            environment=self._environment(),
            ca_file=self._ca_file(),
        )

    def _sources(self, plan: BuildPlan) -> Iterator[str]:
        """Return lines of sources.list(5); none where the tools know by themselves."""
        return self._sources_of(plan.base.distribution, plan.base.suite)

    def _sources_of(self, distribution: str, suite: str) -> Iterator[str]:
        mirrors, components = self.config.mirrors, _COMPONENTS.get(distribution, "main")
        if distribution == "ubuntu" and mirrors.ubuntu:
            for part in ("", "-updates", "-security"):
                yield f"deb {mirrors.ubuntu} {suite}{part} {components}"
        elif distribution == "debian" and mirrors.debian:
            for part in ("", "-updates"):
                yield f"deb {mirrors.debian} {suite}{part} {components}"
            if mirrors.debian_security:
                yield f"deb {mirrors.debian_security} {suite}-security {components}"

    def _every_source(self) -> str:
        """Return lines of sources.list(5) with a distribution in front, for a tree that knows what it is."""
        return "".join(f"{name} {line}\n" for name in _KEYRINGS for line in self._sources_of(name, "SUITE"))

    def _within(
        self,
        name: str,
        plan: BuildPlan,
        place: BuildPlace,
        inside: str,
        inputs: Mapping[str, str],
        *,
        network: bool = True,
    ) -> BuildStep:
        """Return a step that runs in the tree as root of a namespace of its own."""
        variables = {
            **self._environment(),
            "DEBIAN_FRONTEND": "noninteractive",
            "HOME": "/root",
            "JOBLET_NETWORK": "yes" if network else "no",
            "PATH": _PATH,
        }
        exports = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in variables.items())
        return BuildStep(
            name=name,
            kind=StepKind.PACKAGES,
            place=place,
            script=scripts.WITHIN_STEP,
            inputs={**inputs, "within": scripts.WITHIN, "inside": inside, "variables": exports},
            environment=self._environment(),
            network=network,
            ca_file=self._ca_file(),
        )

    def _pip(self, plan: BuildPlan, place: BuildPlace) -> BuildStep:
        assert plan.pip is not None
        options = ["--require-hashes", "--no-deps", "--only-binary=:all:"] if plan.pip.locked else []
        if index := plan.pip.index or self.config.mirrors.pip_index:
            options.append(f"--index-url={index}")
        inputs = {"requirements.txt": plan.pip.requirements, "options": _lines(options)}
        return self._in_tree("pip", plan, place, scripts.PIP, inputs)

    def _npm(self, plan: BuildPlan, place: BuildPlace) -> BuildStep:
        assert plan.npm is not None
        inputs = {"package.json": plan.npm.package_json, "package-lock.json": plan.npm.package_lock}
        step = self._in_tree("npm", plan, place, scripts.NPM, inputs)
        registry = self.config.mirrors.npm_registry
        return step.with_environment({"npm_config_registry": registry} if registry else {})

    def _in_tree(
        self,
        name: str,
        plan: BuildPlan,
        place: BuildPlace,
        script: str,
        inputs: Mapping[str, str],
        *,
        network: bool = True,
        is_writable: bool = True,
    ) -> BuildStep:
        own = dict(plan.environment)
        first = own.pop("PATH_PREPEND", "")
        path = own.get("PATH", _PATH)
        environment = {
            **self._environment(),
            "HOME": "/tmp",  # noqa: S108 - the step's own
            **own,
            "PATH": f"{first}:{path}" if first else path,
        }
        return BuildStep(
            name=name,
            kind=StepKind.TREE,
            place=place,
            script=script,
            inputs=inputs,
            environment=environment,
            network=network,
            is_writable=is_writable,
            ca_file=self._ca_file(),
        )

    def _environment(self) -> dict[str, str]:
        found = {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": str(MTIME)}
        if self._ca_file() is not None:
            found |= dict.fromkeys(_CA_VARIABLES, CA_FILE)
        if self.config.proxy:
            for name in ("http_proxy", "https_proxy"):
                found[name] = found[name.upper()] = self.config.proxy
            direct = ",".join(("localhost", "127.0.0.1", "::1", *self.config.no_proxy))
            found["no_proxy"] = found["NO_PROXY"] = direct
        return found


def _needs_namespace(plan: BuildPlan) -> bool:
    """Say whether something of the build is root, if only in a namespace."""
    return bool(plan.base.kind is BaseKind.DISTRIBUTION or plan.packages or plan.pre_install or plan.finish)


def _hook_text(hook: str) -> str:
    """Return a script that runs the file ``hook``, which may name its own interpreter."""
    return f"exec {'' if hook.startswith('#!') else '/bin/sh -e '}/run/joblet-build/hook\n"


def _lines(words: Sequence[str] | Iterator[str]) -> str:
    """Return them one on each line; a word with a line break would be two."""
    return "".join(f"{word.replace(os.linesep, ' ')}\n" for word in words)
