"""Runtimes, their builds and their definitions as messages, without logic."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from joblet_agent.model.runtime import PinnedRuntime, Runtime
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import rfc3339
from joblet_agent.runtime_file import Base, Definition
from joblet_agent.runtimes.build.callers import BuildStatus
from joblet_agent.runtimes.build.events import BuildDone, BuildEvent, LogLine, Phase
from joblet_agent.runtimes.service import Understood, Verdict
from joblet_agent.yaml_file.problems import MOST_PROBLEMS, Problem

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def pinned_to_proto(runtime: PinnedRuntime | Runtime | None) -> pb.JobRuntime | None:
    """Return name, version and digest; None for no runtime."""
    match runtime:
        case None:
            return None
        case PinnedRuntime():
            return pb.JobRuntime(name=runtime.name, version=runtime.version, digest=runtime.digest)
        case Runtime():
            return pb.JobRuntime(
                name=runtime.facts.name, version=runtime.facts.version, digest=runtime.digest
            )


def runtime_to_proto(
    runtime: Runtime, *, is_available: bool, is_latest: bool, users: Sequence[str] = (), whole: bool = True
) -> pb.RuntimeInfo:
    """Return a runtime; a row of a list has neither its definition nor its lock."""
    facts = runtime.facts
    return pb.RuntimeInfo(
        name=facts.name,
        language=facts.language or facts.name.partition("-")[0],
        version=facts.version,
        description=facts.description,
        size_bytes=runtime.size,
        packages=facts.packages,
        available=is_available,
        requirements=pb.RuntimeRequirements(architectures=facts.architectures, gpu=facts.needs_gpu),
        language_version=facts.language_version,
        environment=facts.environment,
        build_info=pb.RuntimeBuildInfo(
            built_at=rfc3339(facts.built_at), built_with=facts.built_with, platform=facts.platform
        ),
        original_yaml=facts.definition if whole else "",
        digest=runtime.digest,
        lock=facts.lock if whole else "",
        source=facts.source,
        test=facts.test,
        base=facts.base,
        file_count=runtime.files,
        added_time=rfc3339(runtime.added_at),
        users=users,
        latest=is_latest,
    )


def verdict_to_proto(verdict: Verdict) -> pb.VerifyRuntimeResponse:
    """Return what came of a verification."""
    return pb.VerifyRuntimeResponse(
        runtime=pinned_to_proto(verdict.runtime),
        damages=[pb.RuntimeDamage(path=f"/{each.path}", what=each.what) for each in verdict.damages],
        size_bytes=verdict.runtime.size,
    )


def understood_to_proto(understood: Understood) -> pb.ValidateRuntimeSpecResponse:
    """Return a spec that can be read."""
    spec, runtime = understood.spec, understood.runtime
    language, _, rest = spec.name.partition("-")
    version, *variants = rest.split("-")
    message = f"it is {runtime.facts}" if runtime is not None else understood.why_not
    return pb.ValidateRuntimeSpecResponse(
        valid=True,
        message=message,
        normalized_spec=str(spec),
        spec_info=pb.RuntimeSpecInfo(
            language=language, version=version, variants=variants, architecture=understood.architecture
        ),
        runtime=pinned_to_proto(runtime),
    )


def definition_to_proto(definition: Definition) -> pb.RuntimeYAMLInfo:
    """Return what was understood of a definition."""
    base = definition.base if isinstance(definition.base, Base) else Base("")
    return pb.RuntimeYAMLInfo(
        name=definition.name,
        version=definition.version,
        language=base.language,
        language_version=base.version,
        description=definition.description,
        pip_packages=definition.pip.packages or definition.pip.requirements.split("\n"),
        npm_packages=definition.npm.packages,
        has_hooks=bool(definition.hooks.pre_install or definition.hooks.post_install),
        requires_gpu=definition.gpu_required,
    )


def valid_to_proto(definition: Definition, warnings: Sequence[str]) -> pb.ValidateRuntimeYAMLResponse:
    """Return the answer for a definition that can be built."""
    told = f"{len(warnings)} warnings" if warnings else "no warnings"
    return pb.ValidateRuntimeYAMLResponse(
        valid=True,
        message=f"{definition} is valid, {told}",
        warnings=warnings,
        spec_info=definition_to_proto(definition),
        problems=[pb.RuntimeProblem(message=each, is_warning=True) for each in warnings],
    )


def invalid_to_proto(problems: Sequence[Problem], lines: Sequence[str]) -> pb.ValidateRuntimeYAMLResponse:
    """Return the answer for a definition with errors; ``lines`` are the problems for people."""
    count = len(problems)
    return pb.ValidateRuntimeYAMLResponse(
        valid=False,
        message=f"{count} errors" if count > 1 else "1 error",
        errors=lines,
        problems=[
            pb.RuntimeProblem(line=each.mark.line, column=each.mark.column, key=each.key, message=each.text)
            for each in problems[:MOST_PROBLEMS]
        ],
    )


def event_to_proto(
    event: BuildEvent, build_id: str, *, joined: bool, name: str, path: str
) -> pb.BuildRuntimeProgress:
    """Return an event of the build of ``name`` (NAME@VERSION); ``path`` is where its tree is."""
    match event:
        case Phase():
            phase = pb.BuildPhaseProgress(
                phase_number=event.number,
                total_phases=event.total,
                phase_name=event.name,
                message=event.message,
                skipped=event.skipped,
                elapsed_ms=round(event.seconds * 1000),
                build_id=build_id,
                joined=joined,
            )
            return pb.BuildRuntimeProgress(phase=phase)
        case LogLine():
            log = pb.BuildLogLine(level=event.level.value, message=event.text, timestamp=_unix_ns(event.at))
            return pb.BuildRuntimeProgress(log=log)
        case BuildDone():
            return pb.BuildRuntimeProgress(result=_result(event, build_id, name, path))


def _result(done: BuildDone, build_id: str, name: str, path: str) -> pb.BuildResult:
    error = done.error
    result = pb.BuildResult(
        success=done.is_success,
        message=done.message or (str(error) if error is not None else ""),
        build_duration_ms=round(done.seconds * 1000),
        lock=done.lock,
        build_id=build_id,
        reason=error.reason if error is not None else "",
        hint=(error.hint or "") if error is not None else "",
    )
    result.runtime_name, _, result.runtime_version = name.partition("@")
    if done.runtime is not None:
        result.runtime_name = done.runtime.facts.name
        result.runtime_version = done.runtime.facts.version
        result.size_bytes = done.runtime.size
        result.digest = done.runtime.digest
        result.install_path = path
    return result


def build_to_proto(status: BuildStatus) -> pb.RuntimeBuild:
    """Return a build that is under way."""
    name, _, version = status.runtime.partition("@")
    phase = pb.BuildPhaseProgress(
        phase_number=status.phase.number, phase_name=status.phase.value, total_phases=14, build_id=status.id
    )
    return pb.RuntimeBuild(
        build_id=status.id,
        name=name,
        version=version,
        phase=None if status.waiting else phase,
        started_time=rfc3339(status.began_at),
        started_by=status.caller,
    )


def _unix_ns(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
