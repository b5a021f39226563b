"""The packages in machines: installed as a user would; and other versions of them, to upgrade to."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.testbed import host
from tests.testbed.guest import Guest
from tests.testbed.install import build_packages

APT = ("apt-get", "--yes", "--quiet", "-o", "Dpkg::Options::=--force-confold", "-o", "Dpkg::Use-Pty=0")


def apt(guest: Guest, *words: str, check: bool = True) -> tuple[int, str]:
    """Run apt-get, which asks nothing and keeps changed configuration files; its status and what it said."""
    done = guest.run(*APT, *words, check=check, timeout=1200, env={"DEBIAN_FRONTEND": "noninteractive"})
    return done.returncode, done.stdout + done.stderr


def install(guest: Guest, packages: list[Path], *, check: bool = True) -> tuple[int, str]:
    """Install these files, whatever is installed; see apt()."""
    for package in packages:
        guest.push(package, f"/root/dist/{package.name}")
    names = [f"/root/dist/{package.name}" for package in packages]
    return apt(guest, "install", "--allow-downgrades", "--fix-broken", *names, check=check)


def installed(guest: Guest, package: str = "joblet-agent") -> str:
    """dpkg's status and version of the package."""
    done = guest.run("dpkg-query", "-W", "-f=${db:Status-Status} ${Version}", package, check=False)
    return done.stdout


@contextmanager
def another_version(version: str, scripts: Mapping[str, str] | None = None) -> Iterator[list[Path]]:
    """The built packages as another version; ``scripts`` replaces those of the maintainer, the agent's."""
    with TemporaryDirectory() as folder:
        made = []
        for package in build_packages():
            tree = Path(folder, package.name.partition("_")[0])
            host.call(["dpkg-deb", "--raw-extract", str(package), str(tree)])
            control = tree / "DEBIAN" / "control"
            (old,) = {line for line in control.read_text().splitlines() if line.startswith("Version: ")}
            number = old.removeprefix("Version: ")
            control.write_text(control.read_text().replace(number, version))
            if tree.name == "joblet-agent":
                for name, text in (scripts or {}).items():
                    (tree / "DEBIAN" / name).write_text(text)
                    (tree / "DEBIAN" / name).chmod(0o755)
            made.append(Path(folder, f"{tree.name}_{version}_all.deb"))
            host.call(["dpkg-deb", "--build", "--root-owner-group", "-Znone", str(tree), str(made[-1])])
            shutil.rmtree(tree)
        yield made
