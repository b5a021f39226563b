"""The phases of a build, in their order (events.BuildPhase); what each does is done once (building.py)."""

import asyncio
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LaunchFailed, LimitReached
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtime_file import Definition
from joblet_agent.runtime_file.languages import SUITES
from joblet_agent.runtimes.build import keystore
from joblet_agent.runtimes.build.building import Building
from joblet_agent.runtimes.build.copying import copy_tree, empty
from joblet_agent.runtimes.build.events import PHASES, BuildPhase, LogLevel
from joblet_agent.runtimes.build.locking import LockUse, installed_in, lock_text, require_same, use_lock
from joblet_agent.runtimes.build.means import Means
from joblet_agent.runtimes.build.plan import BaseKind, BuildPlan, PlannedFile
from joblet_agent.runtimes.build.planning import on_top_of, plan_lines, plan_of
from joblet_agent.runtimes.build.step import ROOM, BuildPlace
from joblet_agent.runtimes.build.threads import to_its_end
from joblet_agent.runtimes.build.tree_files import read_file, write_files
from joblet_agent.runtimes.build.turns import Turns
from joblet_agent.runtimes.disk import sync_file_system
from joblet_agent.units import format_bytes, readable_bytes

__all__ = ["Outcome", "Phases"]

"""Bytes that must be free for a build to begin at all."""
_SHOWN: Final = 50
_BASE, _TREE, _LOCK, _FILES = "found base", "base tree", "found lock", "written files"
"""What is done once beside steps; no step has a name with a blank."""


@dataclass(slots=True)
class Outcome:
    """What a build that did not fail has come to."""

    runtime: Runtime | None = None
    lock: str = ""
    message: str = ""


class Phases:
    """Takes one build through its phases."""

    def __init__(self, building: Building, definition: Definition, means: Means, turns: Turns) -> None:
        self._building = building
        self._definition = definition
        self._means = means
        self._turns = turns
        self._outcome = Outcome()
        self._lock = LockUse()
        self._plan = plan_of(definition)
        self._base_digest = ""
        self._base_facts = RuntimeFacts("", "")

    @property
    def _options_force(self) -> bool:
        return self._building.options.force

    @property
    def _place(self) -> BuildPlace:
        assert self._building.place is not None
        return self._building.place

    async def run(self) -> Outcome:
        """Do what is left to do. Raises JobletError; whoever calls closes the place."""
        await self._parse()
        present = await self._validate()
        if present is not None:
            self._outcome.runtime = present
            self._outcome.lock = present.facts.lock
            return await self._leave_out("it is there already", f"runtime {present.facts} is there already")
        await self._check_host()
        if self._building.options.dry_run:
            for line in plan_lines(self._plan):
                self._building.say(line)
            return await self._leave_out(
                "a dry run", f"runtime {self._plan} can be built; nothing was changed"
            )
        with self._turns.turn(self._building.record.id) as turn:
            if not turn.is_mine:
                self._building.say(
                    f"waiting for other builds (runtimes.max_builds): {turn.others} come first"
                )
            await turn.come()
            with ExitStack() as held:
                return await self._build(held)

    async def _leave_out(self, reason: str, message: str) -> Outcome:
        for phase in PHASES:
            await self._building.skip(phase, reason)  # those that have begun stay as they are
        self._outcome.message = message
        return self._outcome

    # Before anything is changed.

    async def _parse(self) -> None:
        lines = self._definition.text.count("\n")
        await self._building.begin(BuildPhase.PARSE, f"the definition of {self._plan} ({lines} lines)")

    async def _validate(self) -> Runtime | None:
        """Look at the definition and its lock; return the runtime if there is nothing to build."""
        building, options = self._building, self._building.options
        warnings = self._definition.warnings
        text = (
            f"the definition is valid, with {len(warnings)} warnings"
            if warnings
            else "the definition is valid"
        )
        if not building.has_begun(BuildPhase.VALIDATE):
            await building.begin(BuildPhase.VALIDATE, text)
            for warning in warnings:
                building.say(warning, LogLevel.WARN)
        self._lock = use_lock(self._definition, options, self._means.architecture)
        for remark in self._lock.remarks:
            building.say(remark, LogLevel.WARN)
        self._plan = self._lock.applied(self._plan)
        if options.force or options.only_lock or options.dry_run:
            return None
        # One that came while this was being built is for the store to refuse.
        return None if building.is_done(_TREE) else self._means.store.get(self._plan.name, self._plan.version)

    async def _check_host(self) -> None:
        building, means, plan = self._building, self._means, self._plan
        wanted = self._definition.architectures
        await building.begin(
            BuildPhase.CHECK_HOST, f"{means.architecture}, {format_bytes(self._size())} at most"
        )
        if wanted and means.architecture not in wanted:
            raise InvalidRequest(
                f"cannot build runtime {plan}: it is for {', '.join(wanted)}, not for "
                f"{means.architecture} as this host is",
                reason="RUNTIME_BUILD_ARCHITECTURE",
                hint="build it on such a host",
            )
        missing = await building.thread(lambda _stop: means.maker.missing_tools(plan))
        if missing:
            raise HostUnavailable(
                f"cannot build runtime {plan}: this host lacks {', '.join(missing)}",
                reason="RUNTIME_TOOL_MISSING",
                hint=f"apt install {' '.join(missing)}",
            )
        status = os.statvfs(means.root)
        free = status.f_bavail * status.f_frsize
        if free < ROOM:
            raise HostUnavailable(
                f"cannot build runtime {plan}: {readable_bytes(free)} are free on the disk of {means.root}",
                reason="RUNTIME_BUILD_DISK_FULL",
                hint="make room there, for instance by: rnx runtime gc",
            )

    def _size(self) -> int:
        most = self._means.config.max_disk
        return min(self._plan.disk, most) if self._plan.disk else most

    def time(self) -> timedelta:
        """Return how long the build may take."""
        most = self._means.config.max_time
        return most if self._plan.time is None else min(self._plan.time, most)

    # The tree.

    async def _build(self, held: ExitStack) -> Outcome:
        left = self._building.start_clock(self.time())
        async with asyncio.timeout(left.total_seconds()):
            return await self._build_in_time(held)

    async def _build_in_time(self, held: ExitStack) -> Outcome:
        if self._building.has_begun(BuildPhase.STORE):
            return self._stored()
        await self._resolve_base(held)
        await self._prepare()
        await self._hook(BuildPhase.PRE_INSTALL, self._plan.pre_install)
        await self._packages()
        await self._language()
        await self._pip()
        await self._npm()
        await self._find_lock()
        if self._building.options.only_lock:
            return await self._leave_out(
                "only the lock is wanted", f"the lock of runtime {self._plan} is made"
            )
        await self._files()
        await self._normalise()
        await self._check_tree()
        return await self._store()

    async def _resolve_base(self, held: ExitStack) -> None:
        base, building = self._plan.base, self._building
        match base.kind:
            case BaseKind.DISTRIBUTION:
                await building.begin(BuildPhase.RESOLVE_BASE, f"{base.distribution} {base.suite}")
            case BaseKind.RUNTIME:
                await building.begin(BuildPhase.RESOLVE_BASE, f"runtime {base.source}")
                found = await building.once(_BASE, self._find_base)
                self._base_digest, _blank, suite = found.partition(" ")
                self._plan = _of_suite(self._plan, suite)
                self._base_facts = self._means.resolve(base.source).facts
                self._plan = on_top_of(self._plan, self._base_facts)
                self._lock.require_base(self._plan, self._base_digest)
                held.enter_context(self._means.store.hold(self._base_digest))
            case BaseKind.IMAGE:
                await building.begin(BuildPhase.RESOLVE_BASE, f"image {base.source}")

    async def _find_base(self) -> str:
        runtime = self._means.resolve(self._plan.base.source)
        self._building.say(f"the base is runtime {runtime.facts}, digest {runtime.digest}")
        return f"{runtime.digest} {runtime.facts.platform.partition('-')[0]}"

    async def _prepare(self) -> None:
        building = self._building
        if building.place is None:
            await building.begin(BuildPhase.PREPARE, f"space for {format_bytes(self._size())}")
            place = await self._means.units.open_place(building.record.id, size=self._size())
            await building.settle(place)
        found = await building.once(_TREE, self._fill)
        if self._plan.base.kind is BaseKind.IMAGE:
            self._base_digest, _blank, environment = found.partition(" ")
            self._base_facts = replace(self._base_facts, environment=json.loads(environment))
            self._plan = on_top_of(self._plan, self._base_facts)
            self._lock.require_base(self._plan, self._base_digest)

    async def _fill(self) -> str:
        """Let the tree begin as its base; return what is to be known of an image: digest and environment."""
        base, tree = self._plan.base, self._place.tree
        if base.kind is not BaseKind.DISTRIBUTION:
            await self._building.thread(lambda _stop: empty(tree))  # an earlier agent may have begun
        match base.kind:
            case BaseKind.RUNTIME:
                with self._means.store.hold(self._base_digest) as source:
                    await self._building.thread(lambda stop: copy_tree(source, tree, stop))
            case BaseKind.IMAGE:
                image = await self._means.images.unpack(base.source, tree, most_bytes=self._size())
                for left_out in image.notes:
                    self._building.say(left_out)
                return f"{image.digest} {json.dumps(dict(image.environment))}"
            case BaseKind.DISTRIBUTION:
                pass
        return ""

    async def _run(self, phase: BuildPhase) -> None:
        steps = self._means.maker.steps(phase, self._plan, self._place)
        await self._building.steps(steps)

    async def _hook(self, phase: BuildPhase, script: str) -> None:
        if script:
            await self._building.begin(phase, "the definition's hook")
            await self._run(phase)
        else:
            await self._building.skip(phase, "there is none")

    async def _packages(self) -> None:
        plan = self._plan
        if not plan.packages:
            return await self._building.skip(BuildPhase.PACKAGES, "there are none")
        shown = ", ".join(plan.packages[:_SHOWN]) + (" …" if len(plan.packages) > _SHOWN else "")
        where = f" of {plan.base.suite}" if plan.base.suite else ""
        await self._building.begin(BuildPhase.PACKAGES, f"{len(plan.packages)} packages{where}: {shown}")
        await self._run(BuildPhase.PACKAGES)
        if self._lock.lock is not None:
            lock = self._lock.lock
            found = await self._building.thread(lambda _stop: installed_in(self._place, plan))
            require_same(plan, lock, found)
        return None

    async def _language(self) -> None:
        plan = self._plan
        if not plan.language:
            await self._building.skip(BuildPhase.LANGUAGE, "there is none beside what the base has")
        elif not plan.finish:
            await self._building.skip(
                BuildPhase.LANGUAGE, f"{plan.language} {plan.language_version} is complete with its packages"
            )
        else:
            await self._building.begin(BuildPhase.LANGUAGE, f"{plan.language} {plan.language_version}")
            await self._run(BuildPhase.LANGUAGE)

    async def _pip(self) -> None:
        if self._plan.pip is None:
            return await self._building.skip(BuildPhase.PIP, "there are none")
        lines = self._plan.pip.requirements.count("==") or len(self._plan.pip.requirements.splitlines())
        locked = ", locked" if self._plan.pip.locked else ""
        await self._building.begin(BuildPhase.PIP, f"{lines} requirements{locked}")
        return await self._run(BuildPhase.PIP)

    async def _npm(self) -> None:
        if self._plan.npm is None:
            return await self._building.skip(BuildPhase.NPM, "there are none")
        locked = "with" if self._plan.npm.package_lock else "without"
        await self._building.begin(BuildPhase.NPM, f"package.json {locked} package-lock.json")
        return await self._run(BuildPhase.NPM)

    async def _find_lock(self) -> None:
        """Find out what was taken, and that it is what the lock says."""

        async def find() -> str:
            found = await self._building.thread(lambda _stop: installed_in(self._place, self._plan))
            if self._lock.lock is not None:
                require_same(self._plan, self._lock.lock, found)
            architecture, base = self._means.architecture, self._base_digest
            return await self._building.thread(
                lambda _stop: lock_text(self._definition, architecture, base, found)
            )

        self._outcome.lock = await self._building.once(_LOCK, find)

    async def _files(self) -> None:
        plan, building = self._plan, self._building
        phase = BuildPhase.FILES
        if not plan.files and not plan.post_install:
            return await building.skip(phase, "there are neither")
        hook = ", and the hook" if plan.post_install else ""
        await building.begin(phase, f"{len(plan.files)} files{hook}")
        if plan.files:
            await building.once(_FILES, self._write_files)
        if plan.post_install:
            await self._run(phase)
        return None

    async def _write_files(self) -> str:
        await self._building.thread(lambda _stop: write_files(self._place.tree, self._plan.files))
        return ""

    async def _normalise(self) -> None:
        await self._building.begin(
            BuildPhase.NORMALISE, "owners, times and modes; devices and the like are refused"
        )
        await self._run(BuildPhase.NORMALISE)
        await self._building.thread(lambda _stop: self._require_written())
        await self._building.thread(lambda _stop: self._settle_keystore())
        most = self._means.config.max_size
        await self._building.thread(lambda _stop: self._means.normalise(self._place.tree, most_bytes=most))

    def _settle_keystore(self) -> None:
        tree = self._place.tree
        found = read_file(tree, keystore.PATH)
        if found != (wanted := keystore.settled(found)):
            content = wanted.decode("utf-8", "surrogateescape")
            write_files(tree, [PlannedFile(keystore.PATH, content, 0o644)])

    async def _check_tree(self) -> None:
        plan, building = self._plan, self._building
        test = "its test" if plan.test else "no test"
        await building.begin(BuildPhase.CHECK_TREE, f"libraries that are missing; {test}")
        checked = await building.thread(lambda _stop: self._means.maker.check(self._place.tree))
        for warning in checked.warnings:
            building.say(warning, LogLevel.WARN)
        if checked.errors:
            raise InvalidRequest(
                f"cannot build runtime {plan}: {'; '.join(checked.errors)}",
                reason="RUNTIME_BUILD_LIBRARY_MISSING",
                hint=checked.hint or None,
            )
        if plan.test:
            await self._run(BuildPhase.CHECK_TREE)

    # What becomes of it.

    async def _store(self) -> Outcome:
        plan, building = self._plan, self._building
        await building.begin(BuildPhase.STORE, f"runtime {plan}")
        await building.thread(lambda _stop: self._require_written())
        facts = await building.thread(lambda _stop: self._facts())
        adding = self._means.store.add(self._place.tree, facts, replace=self._options_force)
        try:
            runtime = await to_its_end(adding)
        except JobletError as error:
            raise _in_words_of_builds(plan, error) from error
        self._outcome.runtime = runtime
        self._outcome.message = (
            f"runtime {plan} is built: {readable_bytes(runtime.size)} in {runtime.files} files"
        )
        return self._outcome

    def _require_written(self) -> None:
        """Refuse a tree that is whole in memory alone: its space is a file, and the disk may have been full.

        The kernel tells of what could not be written to whoever asks first (syncfs(2)), and forgets it then.
        """
        try:
            sync_file_system(self._place.tree)
        except OSError as error:
            raise HostUnavailable(
                f"cannot build runtime {self._plan}: its files did not reach the disk: {error.strerror}",
                reason="RUNTIME_BUILD_DISK",
                hint=f"was there no room on the disk of {self._means.root}? see: journalctl --dmesg",
            ) from error

    def _stored(self) -> Outcome:
        """Return what an earlier agent, killed in this phase, has come to."""
        runtime = self._means.store.get(self._plan.name, self._plan.version)
        made_at = None if runtime is None else runtime.facts.built_at
        if made_at is None or made_at < self._building.record.began_at:
            raise LaunchFailed(
                f"cannot build runtime {self._plan}: the agent ended while it was being stored",
                reason="RUNTIME_BUILD_STEP_LOST",
                hint="build again",
            )
        self._outcome.runtime, self._outcome.message = runtime, f"runtime {self._plan} is built"
        return self._outcome

    def _facts(self) -> RuntimeFacts:
        definition, plan, means, base = self._definition, self._plan, self._means, self._base_facts
        found = installed_in(self._place, plan)
        return RuntimeFacts(
            name=plan.name,
            version=plan.version,
            description=definition.description,
            language=plan.language or base.language,
            language_version=plan.language_version or base.language_version,
            environment=plan.environment,
            packages=found.names(),
            architectures=definition.architectures or (means.architecture,),
            needs_gpu=definition.gpu_required or base.needs_gpu,
            test=plan.test,
            definition=definition.text,
            lock=self._outcome.lock,
            base=self._base_digest if plan.base.kind is BaseKind.RUNTIME else "",
            source="build",
            built_at=means.clock.now(),
            built_with=means.made_with,
            platform=f"{plan.base.suite or plan.base.kind.value}-{means.architecture}",
        )


def _of_suite(plan: BuildPlan, suite: str) -> BuildPlan:
    """Return the plan with the suite that its base was made of, whose packages fit."""
    if suite not in SUITES:
        return plan
    return replace(plan, base=replace(plan.base, distribution=SUITES[suite], suite=suite))


def _in_words_of_builds(plan: BuildPlan, error: JobletError) -> JobletError:
    """Return the store's refusal as the end of a build."""
    if error.reason == "RUNTIME_DISK_FULL":
        return LimitReached(
            f"cannot build runtime {plan}: {error}", reason="RUNTIME_BUILD_DISK_FULL", hint=error.hint
        )
    return error
