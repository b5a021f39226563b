"""What runtimes can be called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.runtimes.names import RuntimeSpec, SemanticVersion, is_name, is_version, parse_spec


@pytest.mark.parametrize(
    ("text", "name", "version", "architecture"),
    [
        ("python-3.11-ml", "python-3.11-ml", "", ""),
        ("python:3.11-ml", "python-3.11-ml", "", ""),
        ("python-3.11-ml@1.3.1", "python-3.11-ml", "1.3.1", ""),
        ("python:3.11-ml@1.3.1", "python-3.11-ml", "1.3.1", ""),
        ("python-3.11-ml@latest", "python-3.11-ml", "", ""),
        ("java:17", "java-17", "", ""),
        ("go", "go", "", ""),
        ("node:18@amd64", "node-18", "", "amd64"),
        ("node:18@x86_64", "node-18", "", "amd64"),
        ("node:18@arm64", "node-18", "", "arm64"),
        ("tool@2.0.0-rc.1+build.5", "tool", "2.0.0-rc.1+build.5", ""),
    ],
)
def test_what_is_meant(text: str, name: str, version: str, architecture: str) -> None:
    assert parse_spec(text) == RuntimeSpec(text, name, version, architecture)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "no name"),
        ("@1.0.0", "no name"),
        ("../../etc", "a name has"),
        ("tool/../../etc", "a name has"),
        (".tool", "a name has"),
        ("-tool", "a name has"),
        ("Python", "a name has"),
        ("tööl", "a name has"),
        ("tool\n", "a name has"),
        ("tool\x00", "a name has"),
        ("a" * 65, "65 characters"),
        ("python-3.11:ml", "one and before any other separator"),
        ("python:3.11:ml", "one and before any other separator"),
        (":3.11", "one and before any other separator"),
        ("tool@", "neither X.Y.Z"),
        ("tool@1", "neither X.Y.Z"),
        ("tool@1.0", "neither X.Y.Z"),
        ("tool@01.0.0", "neither X.Y.Z"),
        ("tool@1.0.0@amd64", "neither X.Y.Z"),
        ("tool@../../etc", "neither X.Y.Z"),
        ("tool@1.0.0/..", "neither X.Y.Z"),
        ("tool@1.0.0\n", "neither X.Y.Z"),
        ("tool@Latest", "neither X.Y.Z"),
        ("tool@1.0." + "1" * 100, "neither X.Y.Z"),
    ],
)
def test_what_is_no_name(text: str, fault: str) -> None:
    with pytest.raises(InvalidRequest, match=fault) as caught:
        parse_spec(text)
    assert caught.value.reason == "RUNTIME_SPEC_INVALID"
    assert caught.value.hint
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_versions_are_ordered_as_semver_org_says() -> None:
    ascending = [
        *("0.9.9", "1.0.0-1", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2"),
        *("1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.0+2", "1.0.1", "1.9.0", "1.10.0", "10.0.0"),
    ]
    versions = [SemanticVersion.of(text) for text in ascending]
    descending = versions[::-1]
    assert sorted(descending) == versions
    assert [version.text for version in versions if version.is_pre_release] == ascending[1:8]


@given(st.text())
def test_whatever_is_asked_for_is_understood_or_refused_by_name(text: str) -> None:
    try:
        spec = parse_spec(text)
    except InvalidRequest:
        return
    assert is_name(spec.name)
    assert not spec.version or is_version(spec.version)
    assert parse_spec(str(spec)) == RuntimeSpec(str(spec), spec.name, spec.version)
