from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflow_file import FileInvalid, When, Workflow, load
from joblet_agent.workflow_file.expression import STATUSES, All, Any, End, Not, Test

COMPLETED, FINISHED = STATUSES["COMPLETED"], STATUSES["FINISHED"]


def workflow(text: str, name: str = "") -> Workflow:
    return load(dedent(text)).select(name)


def faults(text: str) -> list[str]:
    with pytest.raises(FileInvalid) as caught:
        load(dedent(text))
    return caught.value.shown("w.yml")


def test_variables_are_inherited_and_the_job_s_own_win() -> None:
    found = workflow(
        """
        environment: {A: shared, B: "${A}-${C}", S: plain}
        secret_environment: {C: hidden}
        jobs:
          one:
            command: x
            environment: {A: own, C: shown}
            secret_environment: {S: "secret-${A}"}
        """
    ).jobs["one"]
    assert found.environment == {"A": "own", "B": "own-shown", "C": "shown"}
    assert found.secret_environment == {"S": "secret-own"}


def test_a_plain_variable_may_not_show_a_secret_one() -> None:
    text = """
    jobs:
      one:
        command: x
        environment: {URL: "https://u:${KEY}@h"}
        secret_environment: {KEY: k}
    """
    (fault,) = faults(text)
    assert fault.startswith("w.yml:5:19: jobs.one.environment.URL: would show the secret variable KEY")


def test_an_unknown_variable_stays_for_the_shell() -> None:
    found = workflow("jobs: {a: {command: sh, args: [-c, 'echo ${HOME}'], environment: {P: '${HOME}/x'}}}")
    assert (found.jobs["a"].args[1], found.jobs["a"].environment) == ("echo ${HOME}", {"P": "${HOME}/x"})


def test_defaults_are_below_what_is_extended_and_that_is_below_the_job() -> None:
    found = workflow(
        """
        defaults: {network: none, runtime: r0, resources: {max_cpu: 10, max_memory: 1G}, timeout: 1h}
        jobs:
          .base: {runtime: r1, resources: {max_cpu: 1.5}, args: [a]}
          more: {extends: .base, command: y, timeout: 5m}
          one: {extends: [more], command: x, args: [b], resources: {max_iobps: 1M}}
        """
    )
    assert list(found.jobs) == ["more", "one"]  # .base is a template
    one = found.jobs["one"]
    assert (one.command, one.args, one.network, one.runtime, one.timeout) == ("x", ("b",), "none", "r1", "5m")
    assert one.limits == {"max_cpu": 150, "max_memory": 1024, "max_io_bps": 2**20}


def test_a_matrix_is_one_job_for_each_combination() -> None:
    found = workflow(
        """
        jobs:
          test:
            command: "python${matrix.py}"
            args: ["--db=${matrix.db}"]
            environment: {DB: "${matrix.db}"}
            matrix: {py: [3.11, 3.12], db: [sqlite, my sql]}
          done: {command: x, requires: test}
        """
    )
    assert found.groups == {
        "test": ("test-3.11-sqlite", "test-3.11-my_sql", "test-3.12-sqlite", "test-3.12-my_sql")
    }
    one = found.jobs["test-3.12-my_sql"]
    assert (one.command, one.args, one.environment) == ("python3.12", ("--db=my sql",), {"DB": "my sql"})
    assert found.jobs["done"].requires == Test("test", COMPLETED)


@pytest.mark.parametrize(
    ("requires", "condition"),
    [
        ("a", Test("a", COMPLETED)),
        ("[a, b]", All((Test("a", COMPLETED), Test("b", COMPLETED)))),
        ("{a: failed}", Test("a", frozenset({End.FAILED}))),
        (
            "[{a: FINISHED, b: [COMPLETED, FAILED]}]",
            All((Test("a", FINISHED), Test("b", frozenset({End.COMPLETED, End.FAILED})))),
        ),
        (
            "[{expression: 'a=COMPLETED OR NOT b=COMPLETED'}]",
            Any((Test("a", COMPLETED), Not(Test("b", COMPLETED)))),
        ),
        ("", All(())),
    ],
)
def test_each_way_to_require(requires: str, condition: object) -> None:
    found = workflow(
        f"jobs: {{a: {{command: x}}, b: {{command: x}}, c: {{command: x, requires: {requires}}}}}"
    )
    assert found.jobs["c"].requires == condition


def test_when_says_what_named_jobs_have_to_come_to() -> None:
    found = workflow(
        """
        jobs:
          a: {command: x}
          b: {command: x, requires: a, when: always}
          c: {command: x, requires: a, when: failure}
          last: {command: x, when: always}
        """
    )
    well = frozenset({End.COMPLETED, End.SKIPPED})
    assert found.jobs["b"].requires == Test("a", FINISHED)
    assert found.jobs["c"].requires == All((Test("a", FINISHED), Any((Not(Test("a", well)),))))
    assert found.jobs["last"].requires == All(tuple(Test(each, FINISHED) for each in "abc"))
    assert found.jobs["last"].when is When.ALWAYS


def test_one_of_several_workflows_and_one_job_alone() -> None:
    text = """
    environment: {A: shared}
    jobs:
      a: {command: x}
      b: {command: y, requires: a}
    workflows:
      small: {jobs: {one: {command: z}}}
    """
    assert list(workflow(text).jobs) == ["a", "b"]
    assert workflow(text, "b").jobs["b"].requires == All(())
    assert workflow(text, "small").jobs["one"].environment == {"A": "shared"}
    with pytest.raises(FileInvalid) as caught:
        workflow(text, "smal")
    assert caught.value.shown("w.yml") == [
        "w.yml: there is no workflow or job 'smal' in the file, did you mean small?"
    ]


def test_a_file_with_several_workflows_only_wants_one_named() -> None:
    text = "workflows: {a: {jobs: {x: {command: x}}}, b: {jobs: {x: {command: x}}}}"
    assert list(workflow(text, "a").jobs) == ["x"]
    with pytest.raises(FileInvalid, match="1 problems"):
        workflow(text)


def test_everything_that_is_wrong_is_told_at_once_with_its_place() -> None:
    text = """\
    enviroment: {A: b}
    jobs:
      a:
        comand: x
        requires: [{b: COMPLETE}, c, {expression: "b=FAILED AN b"}]
        retries: {count: many, backoff: 99}
      b:
        command: y
        requires: d
        resources: {max_memory: 1.2.3, max_cpus: 1, gpu_count: -1}
      d: {command: x, requires: {b: FINISHED}, when: allways, schedule: daily}
      d: {command: z}
    """
    places = [fault.removeprefix("w.yml:").split(": ")[:2] for fault in faults(text)]
    assert places == [
        ["1:1", "'enviroment'"],
        ["4:5", "jobs.a.'comand'"],
        ["4:5", "jobs.a"],
        ["5:20", "jobs.a.requires[0].b"],
        ["5:31", "jobs.a.requires"],
        ["5:57", "jobs.a.requires[2].expression"],
        ["6:22", "jobs.a.retries.count"],
        ["6:37", "jobs.a.retries.backoff"],
        ["9:5", "jobs.b.requires"],
        ["10:29", "jobs.b.resources.max_memory"],
        ["10:36", "jobs.b.resources.'max_cpus'"],
        ["10:60", "jobs.b.resources.gpu_count"],
        ["11:50", "jobs.d.when"],
        ["11:59", "jobs.d.schedule"],
        ["12:3", "jobs.d"],
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty; it needs jobs"),
        ("[]", "expected keys with values, not a list"),
        ("name: x", "jobs is missing"),
        ("jobs: {}", "expected at least one job"),
        ("jobs: {.a: {command: x}}", "expected at least one job"),
        ("jobs: {a: {}}", "jobs.a: command is missing"),
        ("jobs: {a b: {command: x}}", "expected a name of letters"),
        ("jobs: {a: &x {command: x}, b: *x}", "aliases (*) are not offered; use extends or defaults"),
        ("jobs: {a: {command: x}}\n--- {}", "a second document begins"),
        ("jobs: {a: {command: [}}", "not YAML"),
        ("jobs: {a: {command: x, requires: a}}", "circular dependency: a -> a"),
        ("jobs: {a: {command: x, extends: b}, b: {command: x, extends: a}}", "a circle: a -> b -> a"),
        ("jobs: {a: {command: x, extends: bb}, b: {command: x}}", "there is no job 'bb', did you mean b?"),
        ("jobs: {a: {command: x, requires: {expression: b=FAILED}}}", "there is no job 'b'"),
        ("jobs: {a: {command: '${matrix.y}', matrix: {x: [1]}}}", "there is no 'y' in matrix"),
        ("jobs: {a: {command: x, matrix: {x: []}}}", "expected names, each with values"),
        ("jobs: {a: {command: x, matrix: {x: ['a b', a_b]}}}", "there are two jobs called 'a-a_b'"),
        ("jobs: {a: {command: x, environment: {A: '${B}', B: '${A}'}}}", "a circle: A -> B -> A"),
        ("jobs: {a: {command: x, environment: {a-b: c}}}", "expected a variable"),
        ("jobs: {a: {command: '${jobs.b.rows}'}, b: {command: x}}", "is of a job that is not waited for"),
        ("jobs: {a: {command: '${jobs.bb.rows}'}, b: {command: x}}", "is of no job"),
        ("jobs: {a: {command: '${jobs.rows}'}}", "is no output of a job; write ${jobs.JOB.KEY}"),
        (
            "jobs: {a: {command: '${jobs.b.X}', requires: b}, b: {command: x, matrix: {n: [1, 2]}}}",
            "is of several jobs; name one of them: b-1, b-2",
        ),
        (
            "jobs: {a: {command: x, network: '${jobs.b.X}', requires: b}, b: {command: x}}",
            "jobs.a.network: '${jobs.b.X}' has no place here; outputs can be in command",
        ),
        (
            "jobs: {a: {command: x, matrix: {n: '${jobs.b.X}'}, requires: b}, b: {command: x}}",
            "jobs.a.matrix.n[0]: '${jobs.b.X}' has no place here",
        ),
        (
            "jobs: {a: {command: x, secret_environment: {S: '${jobs.b.X}'}, requires: b}, b: {command: x}}",
            "jobs.a.secret_environment.S: '${jobs.b.X}' has no place here",
        ),
        (
            "jobs: {a: {command: x, environment: {P: '${jobs.b.X}'}, secret_environment: {S: '${P}'}, "
            "requires: b}, b: {command: x}}",
            "jobs.a.secret_environment.S: refers to a variable with outputs of a job",
        ),
        (
            "{environment: {V: '${jobs.a.X}'}, jobs: {a: {command: x}}}",
            "w.yml:1:2: environment.V: outputs of jobs have no place here",
        ),
        ("jobs: {a: {command: x, uploads: {files: ../b}}}", "expected a path below the directory"),
        ("jobs: {a: {command: x, outputs: {files: /etc/x}}}", "expected a path below /work"),
        (
            "jobs: {a: {command: x}, b: {command: x, requires: {a: FAILED}, when: always}}",
            "has a meaning only for",
        ),
        ("jobs: {a: {command: x, timeout: 0s}}", "expected more than 0s"),
    ],
)
def test_what_is_wrong_is_said_in_words(text: str, words: str) -> None:
    assert any(words in fault for fault in faults(text)), faults(text)


def test_a_matrix_may_not_have_more_jobs_than_a_workflow() -> None:
    values = ", ".join(str(number) for number in range(101))
    (fault,) = faults(f"jobs: {{a: {{command: x, matrix: {{x: [{values}], y: [{values}]}}}}}}")
    assert fault.endswith("10201 combinations; a workflow has 10000 jobs at most")


def test_a_bomb_of_aliases_does_not_unfold() -> None:
    lines = ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30))]
    assert any("aliases" in fault for fault in faults("\n".join(lines)))


@given(st.text(max_size=60))
def test_any_text_is_a_workflow_or_problems_that_can_be_printed(text: str) -> None:
    try:
        lines = [*load(text).select().jobs]
    except FileInvalid as error:
        lines = error.shown("w.yml")
    assert lines
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        "{environment: {V: " + "x" * 30000 + "}, jobs: {a: {command: x, matrix: {n: [0-9999]}}}}",
        "jobs: {a: {command: 'x${matrix.n}" + "x" * 30000 + "', matrix: {n: [0-9999]}}}",
        "jobs: {a: {command: x, args: ['${matrix.n}" + "x" * 30000 + "'], matrix: {n: [0-9999]}}}",
    ],
)
def test_a_line_cannot_come_to_more_than_there_is_room_for(text: str) -> None:
    (fault,) = faults(text.replace("0-9999", ", ".join(map(str, range(10_000)))))
    assert fault == (
        "w.yml:1:1: its jobs come to more than 67108864 characters, with what they inherit and wait for"
    )


def test_what_is_extended_many_times_cannot_either() -> None:
    variables = ", ".join(f"V{number}: x" for number in range(1000))
    jobs = "".join(f"  j{number}: {{extends: .t}}\n" for number in range(9000))
    (fault,) = faults(f"jobs:\n  .t: {{command: x, environment: {{{variables}}}}}\n{jobs}")
    assert "with what they inherit" in fault


def test_jobs_that_all_wait_for_all_others_are_too_many() -> None:
    others = "".join(f"  a{number}: {{command: x}}\n" for number in range(5000))
    last = "".join(f"  b{number}: {{command: x, when: always}}\n" for number in range(5000))
    (fault,) = faults(f"jobs:\n{others}{last}")
    assert "and wait for" in fault


def test_combinations_are_not_counted_without_end() -> None:
    names = ", ".join(f"V{number}: [a, b]" for number in range(50_000))
    (fault,) = faults(f"jobs: {{a: {{command: x, matrix: {{{names}}}}}}}")
    assert "1000000000 combinations; a workflow has 10000 jobs at most" in fault


def test_jobs_of_a_matrix_share_what_is_the_same() -> None:
    found = workflow("jobs: {a: {command: x, args: [y], environment: {V: '1'}, matrix: {n: [1, 2]}}}").jobs
    assert found["a-1"].environment is found["a-2"].environment
    assert found["a-1"].args is found["a-2"].args


def test_ten_thousand_unknown_names_are_all_told() -> None:
    jobs = "".join(f"  j{number}: {{command: x, requires: k{number}}}\n" for number in range(10_000))
    with pytest.raises(FileInvalid) as caught:
        load(f"jobs:\n{jobs}")
    assert len(caught.value.problems) == 10_000


def test_reading_ends_where_nobody_reads_the_faults() -> None:
    keys = ", ".join(f"k{number}: x" for number in range(60_000))
    with pytest.raises(FileInvalid) as caught:
        load(f"jobs: {{a: {{command: x, {keys}}}}}")
    assert 50_000 <= len(caught.value.problems) < 60_000
