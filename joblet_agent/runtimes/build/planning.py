"""A definition becomes a plan, a lock in it if there is one. Pure."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtime_file import Base as LanguageBase
from joblet_agent.runtime_file import Definition, From, Image, language_of
from joblet_agent.runtime_file.languages import SUITES
from joblet_agent.runtimes.build.plan import Base, BaseKind, BuildPlan, NpmPlan, PipPlan, PlannedFile

__all__ = ["on_top_of", "plan_lines", "plan_of"]


def plan_of(definition: Definition) -> BuildPlan:
    """Return what is to be done for the definition, with the newest versions of whatever it pins none of."""
    base = definition.base
    language = language_of(base, definition.suite, pip=bool(definition.pip), npm=bool(definition.npm))
    limits = definition.limits
    return BuildPlan(
        name=definition.name,
        version=definition.version,
        language=base.language if isinstance(base, LanguageBase) else "",
        language_version=base.version if isinstance(base, LanguageBase) else "",
        base=_base(definition),
        packages=_unique((*language.packages, *definition.apt)),
        directories=language.directories,
        finish=language.finish,
        pip=_pip(definition),
        npm=_npm(definition),
        files=tuple(PlannedFile(file.path, file.content, file.mode) for file in definition.files),
        environment=definition.environment,
        pre_install=definition.hooks.pre_install,
        post_install=definition.hooks.post_install,
        test=definition.test,
        disk=limits.disk,
        time=timedelta(seconds=limits.time) if limits.time else None,
        network=limits.network,
    )


def on_top_of(plan: BuildPlan, base: RuntimeFacts) -> BuildPlan:
    """Return the plan with what jobs get of its base: variables, and the test where there is no other."""
    environment = {**base.environment, **plan.environment}
    return replace(plan, environment=environment, test=plan.test or base.test)


def _base(definition: Definition) -> Base:
    match definition.base:
        case From() as source:
            return Base(BaseKind.RUNTIME, source=str(source))
        case Image() as image:
            return Base(BaseKind.IMAGE, source=image.reference)
        case _:
            return Base(BaseKind.DISTRIBUTION, SUITES[definition.suite], definition.suite)


def _unique(packages: Iterable[str]) -> tuple[str, ...]:
    """Leave out what is there twice; ``NAME=VERSION`` says more than ``NAME``."""
    wanted: dict[str, str] = {}
    for package in packages:
        name, pinned, _version = package.partition("=")
        if pinned or name not in wanted:
            wanted[name] = package
    return tuple(wanted.values())


def _pip(definition: Definition) -> PipPlan | None:
    pip = definition.pip
    if not pip:
        return None
    return PipPlan(pip.requirements or "".join(f"{package}\n" for package in pip.packages), pip.index)


def _npm(definition: Definition) -> NpmPlan | None:
    npm = definition.npm
    if not npm:
        return None
    if npm.package_json:
        return NpmPlan(npm.package_json, npm.package_lock)
    wanted = dict(map(_npm_package, npm.packages))
    document = {"name": "runtime", "version": "0.0.0", "private": True, "dependencies": wanted}
    return NpmPlan(json.dumps(document, indent=2) + "\n")


def _npm_package(text: str) -> tuple[str, str]:
    """Return name and version of ``NAME@VERSION``; the name of a scope begins with an ``@`` of its own."""
    at = text.find("@", 1)
    return (text[:at], text[at + 1 :] or "*") if at > 0 else (text, "*")


def plan_lines(plan: BuildPlan) -> tuple[str, ...]:
    """Return what is going to be done, for people."""
    base = plan.base
    lines = [f"runtime {plan}"]
    match base.kind:
        case BaseKind.DISTRIBUTION:
            lines.append(f"base: {base.distribution} {base.suite}")
        case BaseKind.RUNTIME:
            lines.append(f"base: runtime {base.source}")
        case BaseKind.IMAGE:
            lines.append(f"base: image {base.source}")
    if plan.pre_install:
        lines.append("hook before the packages")
    if plan.packages:
        lines.append(f"packages: {', '.join(plan.packages)}")
    if plan.pip is not None:
        lines.append(f"pip: {', '.join(_requirement_names(plan.pip))}")
    if plan.npm is not None:
        lines.append("npm: packages of package.json" + (", locked" if plan.npm.package_lock else ""))
    lines.extend(f"file: {file.path}" for file in plan.files)
    if plan.post_install:
        lines.append("hook after the packages")
    if plan.test:
        lines.append(f"test: {plan.test}")
    return tuple(lines)


def _requirement_names(pip: PipPlan) -> list[str]:
    lines = (line.strip().rstrip("\\").strip() for line in pip.requirements.splitlines())
    return [line.split(" --hash", 1)[0] for line in lines if line and not line.startswith(("#", "--hash"))]
