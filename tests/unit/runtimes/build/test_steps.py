"""What is run for each phase: which steps, with which inputs, and where the words of a definition go."""

from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.config.values import MirrorsConfig, RuntimesConfig
from joblet_agent.runtimes.build.events import BuildPhase
from joblet_agent.runtimes.build.plan import Base, BaseKind, BuildPlan, NpmPlan, PipPlan
from joblet_agent.runtimes.build.step import CA_FILE, BuildPlace, StepKind
from joblet_agent.runtimes.build.steps import Steps

PLACE = BuildPlace("abc", Path("/state/builds/abc"))
DEBIAN = Base(BaseKind.DISTRIBUTION, "debian", "bookworm")
PLAN = BuildPlan(
    name="x",
    version="1.0.0",
    base=DEBIAN,
    packages=("python3", "git=1:2.39.5-0+deb12u2"),
    directories=("usr/share/man/man1",),
    finish="echo complete",
    pip=PipPlan("numpy==1.26.2\n"),
    npm=NpmPlan('{"name": "x"}'),
    environment={"PATH_PREPEND": "/opt/runtime/bin", "A": "b"},
    pre_install="apt-get install -y cowsay",
    post_install="#!/bin/bash\necho $'x'",
    test="python3 -c ''",
)
MIRRORS = MirrorsConfig(
    debian="http://m.example/debian",
    debian_security="http://m.example/security",
    ubuntu="http://m.example/ubuntu",
    pip_index="http://m.example/simple",
    npm_registry="http://m.example/npm",
)


def test_a_distribution_begins_with_a_base_and_each_step_has_a_name_of_its_own(tmp_path: Path) -> None:
    steps = Steps(RuntimesConfig(), tmp_path)
    names = {phase: [step.name for step in steps.steps(phase, PLAN, PLACE)] for phase in BuildPhase}
    assert {phase.name: found for phase, found in names.items() if found} == {
        "PRE_INSTALL": ["base", "pre-install"],
        "PACKAGES": ["base", "packages"],
        "LANGUAGE": ["language"],
        "PIP": ["pip"],
        "NPM": ["npm"],
        "FILES": ["post-install"],
        "NORMALISE": ["clean"],
        "CHECK_TREE": ["test"],
    }


def test_what_is_built_on_a_runtime_has_no_base_of_its_own_and_needs_no_tools(tmp_path: Path) -> None:
    steps = Steps(RuntimesConfig(), tmp_path)
    plan = replace(
        PLAN, base=Base(BaseKind.RUNTIME, source="python-3.11"), packages=(), pre_install="", finish=""
    )
    assert steps.steps(BuildPhase.NORMALISE, plan, PLACE) == ()
    assert steps.missing_tools(plan) == ()
    assert [step.name for step in steps.steps(BuildPhase.PACKAGES, plan, PLACE)] == ["packages"]


def test_packages_of_the_host_that_are_missing_are_named(tmp_path: Path) -> None:
    steps = Steps(RuntimesConfig(), tmp_path)
    assert steps.missing_tools(PLAN) == ["mmdebstrap", "uidmap", "debian-archive-keyring"]
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name in ("mmdebstrap", "newuidmap"):
        (tmp_path / "usr/bin" / name).touch()
    noble = replace(PLAN, base=Base(BaseKind.DISTRIBUTION, "ubuntu", "noble"))
    assert steps.missing_tools(noble) == ["ubuntu-archive-keyring"]


def test_no_word_of_a_definition_is_in_a_script_but_its_own_hooks(tmp_path: Path) -> None:
    nasty = "$(touch /x); `id` 'q' \"r\""
    plan = replace(
        PLAN,
        packages=(nasty,),
        pip=PipPlan(nasty),
        npm=NpmPlan(nasty),
        environment={"A": nasty},
        pre_install=nasty,
        post_install=nasty,
        test=nasty,
    )
    steps = Steps(RuntimesConfig(), tmp_path)
    for phase in BuildPhase:
        for step in steps.steps(phase, plan, PLACE):
            assert nasty not in step.script
            assert nasty not in step.inputs.get("within", "") + step.inputs.get("variables", "")


@pytest.mark.parametrize(
    ("base", "lines"),
    [
        (
            DEBIAN,
            [
                "deb http://m.example/debian bookworm main",
                "deb http://m.example/debian bookworm-updates main",
                "deb http://m.example/security bookworm-security main",
            ],
        ),
        (
            Base(BaseKind.DISTRIBUTION, "ubuntu", "noble"),
            [
                "deb http://m.example/ubuntu noble main universe",
                "deb http://m.example/ubuntu noble-updates main universe",
                "deb http://m.example/ubuntu noble-security main universe",
            ],
        ),
    ],
)
def test_mirrors_of_the_configuration_are_used_everywhere(
    tmp_path: Path, base: Base, lines: list[str]
) -> None:
    steps = Steps(RuntimesConfig(mirrors=MIRRORS), tmp_path)
    plan = replace(PLAN, base=base)
    first, packages = steps.steps(BuildPhase.PACKAGES, plan, PLACE)
    assert first.inputs["options"].splitlines()[-len(lines) - 2 :] == [base.suite, "/space/tree", *lines]
    shown = [f"{base.distribution} {line.replace(f' {base.suite}', ' SUITE')}" for line in lines]
    assert [each for each in packages.inputs["sources"].splitlines() if each in shown] == shown
    (pip,) = steps.steps(BuildPhase.PIP, plan, PLACE)
    assert pip.inputs["options"].splitlines() == ["--index-url=http://m.example/simple"]
    (npm,) = steps.steps(BuildPhase.NPM, plan, PLACE)
    assert npm.environment["npm_config_registry"] == "http://m.example/npm"


def test_without_mirrors_the_tools_know_where_to_look(tmp_path: Path) -> None:
    steps = Steps(RuntimesConfig(), tmp_path)
    base, packages = steps.steps(BuildPhase.PACKAGES, PLAN, PLACE)
    assert "://" not in base.inputs["options"]
    assert packages.inputs["sources"] == ""
    (pip,) = steps.steps(BuildPhase.PIP, PLAN, PLACE)
    assert pip.inputs["options"] == ""


def test_a_locked_build_takes_files_with_their_hashes_alone(tmp_path: Path) -> None:
    steps = Steps(RuntimesConfig(), tmp_path)
    plan = replace(PLAN, pip=PipPlan("a==1 --hash=sha256:00", locked=True, index="http://own.example/"))
    (pip,) = steps.steps(BuildPhase.PIP, plan, PLACE)
    assert pip.inputs["options"].split() == [
        "--require-hashes",
        "--no-deps",
        "--only-binary=:all:",
        "--index-url=http://own.example/",
    ]


def test_hooks_see_the_network_only_if_the_definition_lets_them_and_the_test_never(tmp_path: Path) -> None:
    steps = Steps(RuntimesConfig(), tmp_path)
    for network in (True, False):
        plan = replace(PLAN, network=network)
        for phase, name in ((BuildPhase.PRE_INSTALL, "pre-install"), (BuildPhase.FILES, "post-install")):
            (hook,) = (step for step in steps.steps(phase, plan, PLACE) if step.name == name)
            assert hook.network is network
        (pip,) = steps.steps(BuildPhase.PIP, plan, PLACE)
        assert pip.network
        (test,) = steps.steps(BuildPhase.CHECK_TREE, plan, PLACE)
        assert (test.network, test.is_writable, test.kind) == (False, False, StepKind.TREE)


def test_a_hook_has_the_environment_of_jobs_and_its_own_interpreter(tmp_path: Path) -> None:
    (hook,) = Steps(RuntimesConfig(), tmp_path).steps(BuildPhase.FILES, PLAN, PLACE)
    assert hook.environment["A"] == "b"
    assert hook.environment["PATH"].startswith("/opt/runtime/bin:/usr/local/sbin:")
    assert "PATH_PREPEND" not in hook.environment
    assert hook.script == "exec /run/joblet-build/hook\n"
    (test,) = Steps(RuntimesConfig(), tmp_path).steps(BuildPhase.CHECK_TREE, PLAN, PLACE)
    assert test.script == "exec /bin/sh -e /run/joblet-build/hook\n"


def test_a_proxy_and_its_certificates_are_told_to_every_step(tmp_path: Path) -> None:
    ca_file = Path("/etc/ssl/company.pem")
    config = RuntimesConfig(proxy="http://proxy.example:3128", no_proxy=("m.example",), ca_file=ca_file)
    steps = Steps(config, tmp_path)
    for phase in BuildPhase:
        for step in steps.steps(phase, PLAN, PLACE):
            assert step.ca_file == ca_file
            assert step.environment["HTTPS_PROXY"] == "http://proxy.example:3128"
            assert step.environment["no_proxy"] == "localhost,127.0.0.1,::1,m.example"
            assert step.environment["PIP_CERT"] == CA_FILE
