"""C8: whatever is accepted becomes a unit, its environment and its explanation, whatever the release."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from dbus_next.message import Message
from dbus_next.signature import Variant
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import check_spec
from joblet_agent.model.job import JobSpec
from joblet_agent.model.profile import Profile
from joblet_agent.model.resources import Resources
from joblet_agent.ports import ExecPlan, LaunchPlan
from joblet_agent.systemd.environment import environment_file_text
from joblet_agent.systemd.exec_units import exec_properties
from joblet_agent.systemd.explain import explain_unit
from joblet_agent.systemd.properties import unit_properties
from joblet_agent.systemd.property import Property
from tests.unit.systemd.plans import RELEASES, plan, settings

ODD = "$%\\'\"`\n\r\t;@+!-:|#= {}<>/.\x01\x1b\x7f\u0085\u2028\u202e\ufeff\u00e9"
NEVER = st.text("a\0\ud800\uffff\ufdd0\U0001fffe", max_size=4) | st.just("x" * 140_000)
TEXTS = st.sampled_from([*["odd"] * 20, "never"]).flatmap(
    lambda kind: st.text(ODD, max_size=12) if kind == "odd" else NEVER
)
SPECS = st.builds(
    JobSpec,
    command=TEXTS,
    args=st.lists(TEXTS, max_size=4).map(tuple),
    name=st.just("") | st.text("%$;@+!-:|#={}<>/.'\"\\\u00e9", max_size=12) | TEXTS,
    environment=st.dictionaries(st.sampled_from(["A", "_", "LD_PRELOAD"]) | TEXTS, TEXTS, max_size=2),
    work_dir=st.just("") | st.text("%$;@+!-:|#={}<> '\"\\\u00e9", max_size=12).map("/".__add__) | TEXTS,
    resources=st.builds(Resources, work_size=st.sampled_from([0, 0, 0, 4096, 2**50, 2**63, -1])),
    work_in_memory=st.booleans(),
)


def written(properties: list[Property]) -> bytes:
    """Return the bytes that would go to systemd."""
    values = [[entry.name, Variant(entry.signature, entry.value)] for entry in properties]
    message = Message(
        destination="org.freedesktop.systemd1",
        path="/org/freedesktop/systemd1",
        interface="org.freedesktop.systemd1.Manager",
        member="StartTransientUnit",
        signature="ssa(sv)a(sa(sv))",
        body=["joblet-job-x.service", "fail", values, []],
        serial=1,
    )
    return bytes(message._marshall())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("profile", Profile)
@given(spec=SPECS)
def test_c8_whatever_is_accepted_becomes_a_unit(profile: Profile, spec: JobSpec) -> None:
    with suppress(InvalidRequest):
        check_spec(spec)
        accepted = replace(spec, network="none")
        launched: LaunchPlan = replace(
            plan(), spec=accepted, environment=accepted.environment, profile=profile
        )
        for version in RELEASES:
            written(unit_properties(launched, settings(version)))
            assert explain_unit(launched, settings(version)).systemd_run
        out, err, report, orders = (
            Path("/run/joblet/exec/x") / name for name in ("out", "err", "report", "orders")
        )
        written(exec_properties(ExecPlan("x", launched, out, err, report, orders), settings(257)))
        environment_file_text(launched, settings(257)).encode()


@given(spec=SPECS)
def test_c8_no_text_decides_which_properties_there_are(spec: JobSpec) -> None:
    """A value is one value: only names and identifiers of a unit have what a caller has written in them."""
    with suppress(InvalidRequest):
        check_spec(spec)
        accepted = replace(spec, network="none")
        spec = replace(plan().spec, resources=accepted.resources, work_in_memory=accepted.work_in_memory)
        plain = replace(plan(), spec=spec)
        before = unit_properties(plain, settings(257))
        after = unit_properties(
            replace(plain, spec=accepted, environment=accepted.environment), settings(257)
        )
        assert [(entry.name, entry.signature) for entry in before] == [
            (entry.name, entry.signature) for entry in after
        ]
        changed = {one.name for one, other in zip(before, after, strict=True) if one.value != other.value}
        assert changed <= {"Description", "SyslogIdentifier"}
