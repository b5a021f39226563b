"""What the words of a definition's ``base`` mean: suite, packages, environment, test. Pure.

The one table of them. A language comes from the distribution release that has the version: programs of one
release run on hosts of every other, because a runtime brings its C library along.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from joblet_agent.runtime_file.values import Base, Source

ANY = ""
"""The language of a base that is the distribution alone."""
ALIASES: Mapping[str, str] = {"golang": "go", "nodejs": "node", "python3": "python", "openjdk": "java"}
"""Other words for languages."""
ARCHITECTURES = ("amd64", "arm64")
"""Debian's words for what runtimes are built for."""
SUITES: Mapping[str, str] = {"bookworm": "debian", "trixie": "debian", "noble": "ubuntu"}
"""Releases that a tree can be made of, each with its distribution."""
COMPONENTS: Mapping[str, tuple[str, ...]] = {"debian": ("main",), "ubuntu": ("main", "universe")}
"""Parts of a distribution's archive that have the packages below."""
NEWEST = "trixie"
"""For a definition that says nothing of it."""
RUNTIME = "/opt/runtime"
"""Where pip, npm and files go."""


@dataclass(frozen=True, slots=True)
class Language:
    """One version of a language, of one release."""

    name: str
    version: str
    suite: str
    packages: tuple[str, ...]
    """Of the distribution, beside those of the definition."""
    directories: tuple[str, ...] = ()
    """Below the tree, made before any package is unpacked."""
    finish: str = ""
    """Shell text, as root in the tree when all packages are there; it needs no network."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For jobs, unless the definition has others. PATH_PREPEND goes in front of PATH."""
    test: str = ""
    """Shell command that compiles and runs a small program."""

    @property
    def distribution(self) -> str:
        """Return whose release it is; nothing without one."""
        return SUITES.get(self.suite, "")


def _python(version: str, suite: str) -> Language:
    # Wheels expect libstdc++6 and libgomp1 of the system, and say so nowhere.
    names = ("python3", "python3-pip", "python3-venv", "python-is-python3", "libstdc++6", "libgomp1")
    test = (
        f"import ssl, sqlite3, ctypes, sys; assert sys.version_info[:2] == ({version.replace('.', ', ')}); "
    )
    return Language(
        "python",
        version,
        suite,
        (*names, "ca-certificates"),
        environment={
            "PATH_PREPEND": f"{RUNTIME}/bin",
            "PYTHONPATH": f"{RUNTIME}/lib/python{version}/site-packages",
        },
        test=f'python3 -c "{test}print(sys.version)"',
    )


def _node(version: str, suite: str) -> Language:
    test = f"if (process.versions.node.split('.')[0] !== '{version}') process.exit(1); "
    return Language(
        "node",
        version,
        suite,
        ("nodejs", "npm", "libstdc++6", "ca-certificates"),
        environment={
            "PATH_PREPEND": f"{RUNTIME}/node_modules/.bin:{RUNTIME}/bin",
            "NODE_PATH": f"{RUNTIME}/node_modules",
        },
        test=f'node -e "{test}console.log(process.version)"',
    )


def _java(version: str, suite: str) -> Language:
    program = 'public class T { public static void main(String[] a) { System.out.println("java works"); } }'
    return Language(
        "java",
        version,
        suite,
        (f"openjdk-{version}-jdk-headless", "ca-certificates"),
        # Its packages make links for manual pages there, and fail where it is not.
        directories=("usr/share/man/man1",),
        # The directory has the architecture in its name; JAVA_HOME must be the same on every host.
        finish=f"ln -sfn java-{version}-openjdk-$(dpkg --print-architecture) /usr/lib/jvm/default-java",
        environment={"PATH_PREPEND": f"{RUNTIME}/bin", "JAVA_HOME": "/usr/lib/jvm/default-java"},
        test=f"cd \"$(mktemp -d)\" && echo '{program}' > T.java && javac T.java && java T",
    )


def _go(version: str, suite: str) -> Language:
    # With others than the library was compiled with, each job compiles it anew.
    compiled = {"GODEBUG": "installgoroot=all", "CGO_ENABLED": "0"}
    words = " ".join(f"{name}={value}" for name, value in compiled.items())
    program = 'package main; import "fmt"; func main() { fmt.Println("go works") }'
    return Language(
        "go",
        version,
        suite,
        (f"golang-{version}-go", "golang-go", "ca-certificates"),
        finish=f"cd / && HOME=/tmp GOCACHE=/tmp/go-build GOTOOLCHAIN=local {words} "
        "go install std && rm -rf /tmp/go-build",
        environment={"PATH_PREPEND": f"{RUNTIME}/bin", "GOTOOLCHAIN": "local", **compiled},
        test=f"cd \"$(mktemp -d)\" && echo '{program}' > t.go && GOCACHE=$PWD/cache go run t.go",
    )


LANGUAGES: Mapping[tuple[str, str], Language] = {
    (each.name, each.version): each
    for each in (
        _python("3.11", "bookworm"),
        _python("3.12", "noble"),
        _python("3.13", "trixie"),
        _node("18", "bookworm"),
        _node("20", "trixie"),
        _java("17", "bookworm"),
        _java("21", "trixie"),
        _java("25", "trixie"),
        _go("1.24", "trixie"),
    )
}
NAMES = tuple(dict.fromkeys(name for name, _version in LANGUAGES))


def language_of(base: Source, suite: str = "", *, pip: bool = False, npm: bool = False) -> Language:
    """Return what the base of a definition means; ``pip`` and ``npm`` say what else must be there.

    Nothing for a runtime and for an image: they are complete. Raises KeyError for what no definition has.
    """
    if not isinstance(base, Base):
        return Language(ANY, "", "", ())
    if base.language == ANY:
        found = Language(ANY, "", suite or NEWEST, ("ca-certificates",))
    else:
        found = LANGUAGES[base.language, base.version]
    for name, is_needed in (("python", pip), ("node", npm)):
        for other in LANGUAGES.values():
            if is_needed and (other.name, other.suite) == (name, found.suite) and other != found:
                found = _both(found, other)
    return found


def _both(first: Language, second: Language) -> Language:
    paths = [each.environment["PATH_PREPEND"] for each in (first, second) if each.environment]
    path = ":".join(dict.fromkeys(":".join(paths).split(":")))
    return replace(
        first,
        packages=(*first.packages, *(each for each in second.packages if each not in first.packages)),
        environment={**second.environment, **first.environment, "PATH_PREPEND": path},
    )


def versions_of(language: str) -> tuple[str, ...]:
    """Return the versions there are, oldest first."""
    return tuple(version for name, version in LANGUAGES if name == language)
