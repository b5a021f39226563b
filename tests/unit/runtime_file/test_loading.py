"""A definition becomes values, or everything that is wrong with it is told, with its place."""

import pytest

from joblet_agent.runtime_file import Base, File, FileInvalid, From, Hooks, Image, Limits, Npm, Pip, load

WHOLE = """\
schema_version: "1.1"
name: python-3.11-ml
version: 1.0.0
description: Python 3.11 with the usual scientific packages
base: {language: python, version: "3.11"}
suite: bookworm
apt: [libgomp1, "git=1:2.39.5-0+deb12u2"]
pip: [numpy==1.26.2, pandas]
npm: [typescript@5]
files: [{path: /opt/runtime/etc/x.ini, content: "a", mode: "0644"}]
environment: {PYTHONUNBUFFERED: "1", PATH_PREPEND: /opt/runtime/bin}
hooks: {pre_install: "true", post_install: "date"}
test: python -c "import numpy, pandas"
gpu: {required: false, driver: host}
limits: {disk: 4GB, time: 30m, network: true}
lock: runtime.lock
"""
HEAD = 'schema_version: "1.1"\nname: a\nversion: 1.0.0\n'
PYTHON = HEAD + 'base: {language: python, version: "3.11"}\n'


def told(text: str, name: str = "runtime.yaml") -> list[str]:
    with pytest.raises(FileInvalid) as caught:
        load(text, name)
    return caught.value.shown("f")


def test_a_definition_with_every_key() -> None:
    found = load(WHOLE)
    assert (found.name, found.version) == ("python-3.11-ml", "1.0.0")
    assert found.base == Base("python", "3.11")
    assert found.suite == "bookworm"
    assert found.apt == ("libgomp1", "git=1:2.39.5-0+deb12u2")
    assert found.pip == Pip(("numpy==1.26.2", "pandas"))
    assert found.npm == Npm(("typescript@5",))
    assert found.files == (File("/opt/runtime/etc/x.ini", "a", 0o644),)
    assert found.environment["PYTHONUNBUFFERED"] == "1"
    assert found.environment["PATH_PREPEND"] == "/opt/runtime/bin"
    assert found.hooks == Hooks("true", "date")
    assert found.test == 'python -c "import numpy, pandas"'
    assert found.limits == Limits(4 * 2**30, 1800, True)
    assert found.lock == "runtime.lock"
    assert found.text == WHOLE


def test_what_the_public_editor_writes() -> None:
    found = load(
        """\
schema_version: "1.0"
name: python-3.11-ml
version: 1.3.1
description: |
  Python with numpy
base:
  language: python
  version: "3.11"
pip:
  - numpy>=1.26,<2
npm: []
libraries: [libssl*]
environment:
  A: "1"
hooks:
  pre_install: |
    apt-get install -y jq
  post_install: ""
gpu:
  required: true
"""
    )
    assert found.gpu_required
    assert found.description == "Python with numpy"
    assert found.pip.packages == ("numpy>=1.26,<2",)
    assert found.hooks == Hooks("apt-get install -y jq\n")
    assert any("libraries" in each for each in found.warnings)


def test_keys_of_the_newer_schema_in_the_older_one() -> None:
    text = PYTHON.replace("1.1", "1.0") + "apt: [git]\nlimits: {time: 1m}\n"
    assert told(text) == [
        'f:5:1: apt: needs schema_version: "1.1"',
        'f:6:1: limits: needs schema_version: "1.1"',
    ]


def test_everything_is_told_at_once_with_place_key_and_suggestion() -> None:
    text = WHOLE.replace("python-3.11-ml", "../../etc").replace("apt:", "aptt:").replace('"3.11"', '"3.1"')
    text = text.replace("PYTHONUNBUFFERED", "LD_PRELOAD: x.so, JOBLET_HOME: /, A").replace(
        "bookworm", "bokworm"
    )
    assert told(text) == [
        "f:2:7: name: expected a name of small letters, digits, - and ., 64 characters at most, "
        "not '../../etc'",
        "f:5:26: base.version: expected 3.11 or 3.12 or 3.13, not '3.1', did you mean 3.13?; "
        "another one can come from an image",
        "f:6:8: suite: expected bookworm or trixie or noble, not 'bokworm', did you mean bookworm?",
        "f:7:1: 'aptt': unknown key, did you mean apt?",
        "f:11:15: environment.LD_PRELOAD: a definition puts no libraries into every program of every job; "
        "a job itself may",
        "f:11:33: environment.JOBLET_HOME: names that begin with JOBLET_ are the agent's",
    ]


@pytest.mark.parametrize(
    ("lines", "base"),
    [
        ("from: python-3.11@1.2.0", From("python-3.11", "1.2.0")),
        ("from: python-3.11@latest", From("python-3.11")),
        ("from: python-3.11", From("python-3.11")),
        (f"image: docker://docker.io/library/node@sha256:{'a' * 64}", None),
        ("suite: trixie", Base("")),
        ('base: {language: golang, version: "1.24"}', Base("go", "1.24")),
    ],
)
def test_what_a_tree_begins_as(lines: str, base: object) -> None:
    found = load(HEAD + lines).base
    assert found == base if base else isinstance(found, Image)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("", "base: is missing"),
        ("base: {}", "base.language: is missing"),
        ("base: {language: pyton, version: 3.11}", "did you mean python?"),
        ("base: {language: python, version: 3.11}\nfrom: a@1.0.0", "from: there is base, too"),
        ("from: a@1.0.0\nsuite: trixie", "suite: is that of from"),
        ("from: ../x@1.0.0", "from: expected a name"),
        ("from: a@1", "from: expected a version X.Y.Z"),
        ("base: {language: python, version: 3.11}\nsuite: trixie", "trixie has no python 3.11; bookworm has"),
        ("image: oci-archive:/etc/shadow", "rnx runtime import FILE"),
        ("image: /etc/shadow", "rnx runtime import FILE"),
        ("image: docker://--help", "image: expected docker://"),
        ("image: docker://a/b c", "image: expected docker://"),
    ],
)
def test_what_no_tree_begins_as(lines: str, problem: str) -> None:
    assert problem in "\n".join(told(HEAD + lines))


@pytest.mark.parametrize(
    "lines",
    [
        "apt: [--option=x]",
        "apt: ['a b']",
        "apt: ['?essential']",
        "apt: ['../x.deb']",
        "pip: ['-r /etc/shadow']",
        "pip: ['--index-url=https://a']",
        "pip: ['git+https://a/b']",
        "pip: ['a @ https://a/b']",
        "pip: [./a]",
        'pip: ["a\\n--pre"]',
        'pip: {requirements: "a==1\\n-r /etc/shadow\\n"}',
        'pip: {requirements: "a==1 --global-option=x"}',
        'pip: {requirements: "a==1 \\\\\\n --global-option=x"}',
        "pip: {index: 'file:///etc'}",
        "pip: {index: 'https://user:password@a/'}",
        "pip: {packages: [a], requirements: b}",
        "npm: [--global]",
        "npm: [file:../x]",
        "npm: ['https://a/b.tgz']",
        "npm: [../x]",
        "npm: {package_lock: '{}'}",
        "npm: {package_json: '[]'}",
        "npm: {package_json: '{'}",
        "files: [{path: /etc/passwd, content: x}]",
        "files: [{path: /opt/runtime/../../etc/passwd, content: x}]",
        "files: [{path: /opt/runtime/x, content: x, mode: '4755'}]",
        "files: [{path: /opt/runtime/x}]",
        "files: [{path: /opt/runtime/x, content: a}, {path: /opt/runtime/x, content: b}]",
        "environment: {'A-B': x}",
        'environment: {A: "x\\ny"}',
        'environment: {A: "x\\0y"}',
        "environment: {LD_AUDIT: x}",
        'hooks: {pre_install: "a\\x1b[2J"}',
        "hooks: {pre_instal: x}",
        "gpu: {driver: nvidia}",
        "gpu: {required: maybe}",
        "limits: {disk: 0}",
        "limits: {disk: all}",
        "limits: {time: 0s}",
        "limits: {time: forever}",
        "lock: ../../etc/shadow",
        "lock: /etc/shadow",
        'test: "a\\x07"',
        'description: "a\\x07"',
    ],
)
def test_what_is_refused_in_its_line(lines: str) -> None:
    problems = told(PYTHON + lines)
    assert len(problems) == 1
    assert problems[0].startswith("f:5:")


def test_no_password_of_an_index_is_told() -> None:
    assert "hunter2" not in "".join(told(PYTHON + "pip: {index: 'https://me:hunter2@a/'}"))


@pytest.mark.parametrize("version", ["1", "1.0", "latest", "01.0.0", "1.0.0/..", "v1.0.0", ""])
def test_versions_that_are_none(version: str) -> None:
    assert "version: expected a version X.Y.Z" in told(PYTHON.replace("1.0.0", f"'{version}'"))[0]


def test_warnings_have_their_places() -> None:
    text = PYTHON + "apt: [git]\npip: [numpy==1.0, pandas>=1]\narchitectures: [amd64, sparc]\n"
    text += "hooks: {post_install: x}\n"
    assert load(text, "my.yaml").warnings == (
        "my.yaml:2:1: name: there is no lock: two builds may differ (rnx runtime lock makes one)",
        "my.yaml:5:7: apt[0]: 'git' has no version: the next build may take another one",
        "my.yaml:6:19: pip[1]: 'pandas>=1' has no version: the next build may take another one",
        "my.yaml:7:24: architectures[1]: 'sparc' is unknown; known are amd64, arm64",
        "my.yaml:8:9: hooks.post_install: reaches the network: two builds may differ (limits.network: false)",
    )


def test_an_image_without_a_digest_is_worth_a_warning() -> None:
    assert "no digest" in load(HEAD + "image: docker://docker.io/library/node:22").warnings[0]


def test_requirements_with_hashes_and_comments() -> None:
    text = f"# mine\\nnumpy==1.26.2 \\\\\\n  --hash=sha256:{'a' * 64} --hash=sha256:{'b' * 64}  # two\\n"
    assert load(PYTHON + f'pip: {{requirements: "{text}"}}').pip.requirements.startswith("# mine\n")


def test_pip_on_another_language_brings_pythons_environment() -> None:
    found = load(HEAD + 'base: {language: node, version: "18"}\npip: [yamllint]')
    assert found.environment["PYTHONPATH"] == "/opt/runtime/lib/python3.11/site-packages"
    assert found.environment["PATH_PREPEND"].split(":")[-1] == "/opt/runtime/bin"
    assert found.test.startswith("node")
