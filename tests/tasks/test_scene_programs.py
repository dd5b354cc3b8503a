"""Programs over scenes: every tool by hand, hostile programs, traces, noise, and questions that wrong programs fail."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stillroom.bench.attack import watched
from stillroom.seeds import derive_rng
from stillroom.tasks import load_task, validate
from stillroom.tasks.base import Style
from stillroom.tasks.scene_language import TOOLS, Call, Noise, detected, run, told
from stillroom.tasks.scene_programs import noisy, program_of, scene_of
from stillroom.tasks.scenes import read_scene

# a red circle at a1, a green square at d1, a red square at b2, a blue triangle at d3, a blue circle at a4
SCENE = read_scene("scene:plain/rc2gs/1rs2/3bt/bc3")


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ('answer = count(find("red"))', "2"),
        ('answer = count(find("thing"))', "5"),
        ('answer = count(find("red circle"))', "1"),
        ('answer = count(find("purple"))', "0"),
        ('answer = exists(find("blue square"))', "no"),
        ('answer = count(left_of(find("red"), find("green square")))', "2"),
        ('answer = count(right_of(find("blue"), find("red square")))', "1"),
        ('answer = count(above(find("square"), find("triangle")))', "2"),
        ('answer = count(below(find("circle"), find("red circle")))', "1"),
        ('answer = count(beside(find("thing"), find("thing")))', "0"),
        ('answer = colour(nearest(find("circle"), find("triangle")))', "blue"),
        ('answer = shape(nearest(find("red"), find("green")))', "several"),  # both are three steps away
        ('answer = colour(find("square"))', "several"),
        ('answer = shape(find("purple"))', "none"),
        ('answer = count(nearest(find("red circle"), find("red circle")))', "0"),  # nothing is near itself
        ('a = count(find("red"))\nb = count(find("green"))\nanswer = a + b - 1', "2"),
        ('answer = count(find("red")) > count(find("blue"))', "no"),
        ('answer = either(count(find("red")) == count(find("blue")), "same", "different")', "same"),
        ('answer = "red"', "red"),
    ],
)
def test_every_tool_by_hand(program: str, value: str) -> None:
    found = run(program, SCENE.things)
    assert (found.value, found.reason) == (value, "")


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import os", "forbidden import"),
        ("answer = __import__('os').system('id')", "forbidden call"),
        ("answer = (lambda: 1)()", "forbidden call"),
        ("answer = find('red').__class__", "forbidden attribute"),
        ("answer = [x for x in find('red')]", "forbidden listcomp"),
        ("while True: pass", "forbidden while"),
        ("def f(): pass", "forbidden functiondef"),
        ("answer = 9**9**9", "forbidden binop"),
        ("answer = 10 * 10", "forbidden binop"),
        ("answer = 5000", "number too large"),
        ("answer = " + "9" * 1500, "number too large"),
        ("answer = True", "forbidden constant"),
        ("answer = 1.5", "forbidden constant"),
        ("a, b = 1, 2", "forbidden target"),
        ("a = b = 1", "forbidden assign"),
        ("find = 1", "forbidden target"),
        ("_x = 1", "forbidden target"),
        ("answer = missing", "unknown name missing"),
        ("answer = delete(find('red'))", "unknown tool delete"),
        ("answer = count('red')", "wrong arguments for count"),
        ("answer = count()", "wrong arguments for count"),
        ("answer = count(find('red'), find('red'))", "wrong arguments for count"),
        ("answer = count(things=find('red'))", "forbidden call"),
        ("answer = find('crimson')", "wrong arguments for find: 'crimson'"),
        ("answer = find('red') + 1", "wrong operands"),
        ("answer = find('red')", "the answer is no number or word"),
        ("x = 1", "no answer"),
        ("", "no answer"),
        ("answer = (", "syntax"),
        ("answer = '\\x41'", "syntax"),
        ("answer = 1\x00", "syntax"),
        ("answer = " + "(" * 500 + "1" + ")" * 500, "too deep"),
        ("answer = " + "-" * 1500 + "1", None),
        ("answer = " + "+".join(["1"] * 900), None),
        ("\n".join(f"a{at} = 1" for at in range(60)), "too long"),
        ("x" * 3000, "too long"),
        ("answer = f'{1}'", "forbidden joinedstr"),
        ("answer = 1 if exists(find('red')) else 2", "forbidden ifexp"),
        ("answer = 1 < 2 < 3", "forbidden compare"),
    ],
)
def test_everything_else_ends_in_a_reason(program: str, reason: str | None) -> None:
    found = run(program, SCENE.things)
    assert found.value is None
    assert found.reason
    assert reason is None or found.reason == reason


def test_calls_are_limited_and_sums_do_not_grow() -> None:
    many = "\n".join(f"a{at} = " + "+".join(["count(find('red'))"] * 6) for at in range(20))
    assert run(f"{many}\nanswer = a1", SCENE.things).reason in ("too long", "too many calls")
    growing = "a = 1000\n" + "\n".join("a = a + a" for _ in range(30)) + "\nanswer = a"
    assert run(growing, SCENE.things).reason == "number too large"


@settings(max_examples=150)
@given(
    st.text(max_size=120)
    | st.lists(st.sampled_from([*TOOLS, "(", ")", '"red"', "answer", "=", "+", ",", "\n", "a", "1"]), max_size=30).map(
        " ".join
    )
)
def test_any_text_is_run_to_an_end(text: str) -> None:
    found = run(text, SCENE.things)
    assert (found.value is None) == bool(found.reason)
    for response in (text, f"\\boxed{{{text}}}", f"```\n{text}\n```"):
        program_of(response)


def test_a_megabyte_is_refused_at_once() -> None:
    start = time.process_time()
    assert run("(" * 1_000_000, SCENE.things).reason == "too long"
    assert program_of("```\n" * 250_000) == ""
    assert time.process_time() - start < 2


def test_a_trace_cites_what_was_given_and_what_came_out() -> None:
    found = run('ones = find("red")\nanswer = count(left_of(ones, find("green square")))', SCENE.things)
    assert found.calls == (
        Call("find", ("red",), "red circle a1, red square b2"),
        Call("find", ("green square",), "green square d1"),
        Call("left_of", ("red circle a1, red square b2", "green square d1"), "red circle a1, red square b2"),
        Call("count", ("red circle a1, red square b2",), "2"),
    )
    assert [told(call) for call in found.calls] == [
        "looking for red: red circle a1, red square b2",
        "looking for green square: green square d1",
        "of red circle a1, red square b2, left of green square d1: red circle a1, red square b2",
        "count of red circle a1, red square b2: 2",
    ]
    failed = run('a = find("red")\nanswer = a.x', SCENE.things)
    assert [call.tool for call in failed.calls] == ["find"]  # up to where it ended


def test_a_noisy_detector_misses_recolours_and_imagines() -> None:
    def share(noise: Noise, of: object) -> float:
        seen = [detected(SCENE, noise, derive_rng("d", at)) for at in range(400)]
        return sum(map(of, seen)) / len(seen)  # type: ignore[arg-type, call-overload]

    assert detected(SCENE, Noise(), derive_rng("d", 0)) == SCENE.things
    assert share(Noise(missed=0.1), len) == pytest.approx(4.5, abs=0.15)
    assert share(Noise(imagined=0.5), len) == pytest.approx(5.5, abs=0.1)
    changed = share(Noise(recoloured=0.2), lambda seen: sum(t not in SCENE.things for t in seen))
    assert changed == pytest.approx(1.0, abs=0.15)


def test_the_solver_s_programs_hold_and_near_ones_do_not() -> None:
    task = load_task("scene-programs")
    assert task.solve is not None
    assert validate(task, 60).ok
    values = set()
    for problem in task.problems("train", 80, 4):
        found = run(problem.reference or "", scene_of(problem).things)
        assert found.value == problem.meta["value"]
        values.add((problem.level, found.value))
        for near in problem.meta["near"]:  # type: ignore[union-attr]
            assert task.verify(problem, f"\\boxed{{{near}}}").correct is False
        solution = task.solve(problem, Style(), derive_rng("s", problem.id))
        assert solution.answer == problem.reference
        assert solution.thought.count("\n") == len(found.calls) - 1
        slipped = task.solve(problem, Style(error_rate=1.0), derive_rng("s", problem.id))
        assert task.verify(problem, f"\\boxed{{{slipped.answer}}}").correct is False
        assert noisy(problem, problem.reference or "", Noise(), derive_rng("n")).value == found.value
    assert {level for level, _ in values} == {1, 2, 3, 4}
    assert {value for level, value in values if level == 3} == {"yes", "no"}


def test_verdicts_say_how_far_a_program_got() -> None:
    task = load_task("scene-programs")
    problem = task.problems("train", 1, 0)[0]
    value = problem.meta["value"]
    bare = task.verify(problem, f"\\boxed{{answer = {value}}}")
    assert (bare.correct, bare.reason) == (False, "nothing was looked at")
    assert bare.parts == {"ran": 1.0, "called": 0.0, "right": 0.0}
    assert task.verify(problem, f"\\boxed{{{value}}}").correct is False
    assert task.verify(problem, f"Look:\n```python\n{problem.reference}\n```\nDone.").correct is True
    assert task.verify(problem, "no program here").reason == "no program"
    assert task.verify(problem, f"<think>\n```\n{problem.reference}\n```").reason == "no program"


def test_a_mistake_opens_no_file() -> None:
    """Python's parser looks for the line of a mistake in the file that it would come from."""
    scene = read_scene("scene:plain/rc2gs/4/1bt2/4")
    with watched() as seen:
        for program in ("x = = 3", "answer = (", "a b", "if x:\n answer = 1", "\fanswer = 1\nb c", " answer = 1"):
            assert run(program, scene.things)[0] is None
    assert seen == {}
