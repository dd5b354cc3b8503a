"""Judging mathematical answers: exact, bounded, and from anywhere."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.bench.hard_pairs import TRACKER, HardPair
from stillroom.chat import FORMATS, render
from stillroom.tasks import choice, guard
from stillroom.tasks.math import compare, compare_all, verify, verify_all
from stillroom.tasks.notation import read_number
from stillroom.types import Message, Problem

# Gold and answer are different things: (gold, answer).
EQUAL = [
    ("18", "18"),
    ("18", "$18"),
    ("18", r"\$18.00"),
    ("18", "18 dollars"),
    ("18", "18."),
    ("1000", "1,000"),
    ("12650", r"12,\!650"),
    ("1000", "1{,}000"),
    ("0.5", r"\frac{1}{2}"),
    ("0.5", "1/2"),
    (r"\frac{1}{2}", r"\dfrac12"),
    (r"\frac{1}{2}", ".5"),
    ("1.5", r"1\frac{1}{2}"),
    (r"\frac{3}{2}", "1 1/2"),
    (r"5\%", "5"),
    ("5", r"5\%"),
    ("0.05", "5%"),
    ("50", "50 percent"),
    ("120", "5!"),
    (r"5.4 \text{ cents}", "5.4"),
    (r"90^\circ", "90"),
    (r"250\text{ inches}", "250"),
    ("5", r"5 \text{ cm}^2"),
    ("2500000", "2.5 million"),
    ("1500", r"1.5 \times 10^{3}"),
    ("1500", "1.5e3"),
    (r"\frac{\pi}{2}", "pi/2"),
    (r"\frac{\pi}{2}", "π/2"),
    (r"-2\pi", "-2*pi"),
    ("e^{16} - 1", "-1 + exp(16)"),
    (r"\csc 10^\circ", r"\frac{1}{\sin 10^{\circ}}"),
    ("1/2", r"\cos 60^\circ"),
    (r"\lfloor 3.7 \rfloor", "3"),
    ("4", r"\lceil\frac{7}{2}\rceil"),
    ("10{:}30", "10:30"),
    ("5 feet", "5 ft"),
    (r"12\sqrt{13}\text{ m}", r"12\sqrt{13}\text{ meters}"),
    (r"1 - \frac{1}{e}", "1-e^{-1}"),
    ("2^{99}", r"2^{98}\cdot 2"),
    (r"\frac{2006!}{2004!}", r"2006 \cdot 2005"),
    (r"19, 46, \text{ and } 82", "82, 19 and 46"),
    (r"\pm 2021", "2021, -2021"),
    (r"3 \pm \sqrt{2}", r"3+\sqrt2, 3-\sqrt2"),
    ("2x+4y-3=0", r"y = -\frac{1}{2}x + \frac{3}{4}"),
    ("y=2x+1", "2x - y + 1 = 0"),
    (r"4\sqrt{2}", r"4\sqrt(2)"),
    (r"4\sqrt{2}", r"\sqrt{32}"),
    (r"\text{13}", "13"),
    ("0 < x < 12.5", "(0, 12.5)"),
    ("(0, 12.5)", "0 < x < 12.5"),
    (r"(-\infty, 3]", r"x \leq 3"),
    ("x > 3", r"(3,\infty)"),
    ("x=5", "5"),
    ("5", "x = 5"),
    ("5", "2+3=5"),
    (r"(3, \frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("1,2", "2, 1"),
    (r"(-\infty,1)\cup(2,\infty)", r"(2,\infty) \cup (-\infty,1)"),
    ("p - q", "-q+p"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\frac{x^2-1}{x-1}", "x+1"),
    (r"\sqrt{3} - 5i", r"-5i+\sqrt{3}"),
    (r"\sin^2 x", r"1-\cos^2 x"),
    (r"\tan x", r"\frac{\sin x}{\cos x}"),
    (r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}", r"\begin{pmatrix} 1&0\\0&1\end{pmatrix}"),
    (r"\begin{pmatrix} 4 \\ -10 \end{pmatrix}", r"\begin{pmatrix} 8/2 \\ -10 \end{pmatrix}"),
    (r"\text{Saturday}", "saturday"),
    (r"\text{(C)}", "C"),
    ("yes", "Yes."),
    ("f(x) = x^2", "x^2"),
    (r"2\sqrt{a}", r"\sqrt{4a}"),
    (r"\log_2 8", "3"),
    (r"\binom{5}{2}", "10"),
    (r"\sqrt[3]{8}", "2"),
    ("2^{-1}", "0.5"),
    ("x_1+x_2", "x_2+x_1"),
    ("101_2", "101_2"),
    ("101_2", "101_{2}"),
    ("101_2", "101"),
    ("101_2", "x = 101_2"),
    (r"11,\! 111,\! 100", r"11,\!111,\!100"),
    (r"12\sqrt{13}\text{ feet}", r"12\sqrt{13}"),
    (r"12\sqrt{13}", r"12\sqrt{13}\text{ feet}"),
    ("0.56 = 56\\%", "56\\%"),
    (r"\approx 8.24 \text{ mph}", "8.24"),
    (r"\dfrac{1}{29,\!322}", r"\frac{1}{29322}"),
    ("abc", "cab"),
    ("3:1", "3 : 1"),
    (r"\frac{9 \sqrt{2}}{10}", r"0.9\sqrt{2}"),
    (r"-\frac{1}{2}", r"\frac{-1}{2}"),
    (r"-\frac{1}{2}", r"\frac{1}{-2}"),
    ("(-4, 27);(2, 15)", "(2,15),(-4,27)"),
    (r"x \in [1,2]", "[1,2]"),
    (r"\frac{\sqrt6}2", r"\frac{\sqrt{6}}{2}"),
    (r"\$1,\!657", "1657"),
    (r"80 \%", "80"),
    (r"\csc 10", r"\frac{1}{\sin 10}"),
    (r"0.\overline{3}", r"\frac13"),
    ("1/3", r"0.\overline{3}"),
    (r"\frac23 \approx 0.67", "2/3"),
]
DIFFERENT = [
    ("18", "18 or 20"),
    ("18", "18 and 20"),
    ("18", "81"),
    ("18", "-18"),
    ("18", "18 million"),
    ("1234", "1,23,4"),
    ("10", "1,0"),
    ("0.333", "1/3"),
    (r"\frac{1}{3}", "0.3333333333333333"),
    ("11/2", "1 1/2"),
    ("5%", "0.5"),
    ("5", "5x"),
    ("5", "5 x"),
    ("5", r"5\pi"),
    ("5", "5 pi"),
    ("5", "5i"),
    ("5", "5e"),
    ("5", "5!"),
    (r"5 \text{ cents}", r"5 \text{ dollars}"),
    (r"5\text{ cm}", r"5\text{ m}"),
    (r"12\sqrt{13}\text{ m}", r"12\sqrt{13}\text{ km}"),
    (r"\frac{1}{2}", r"\cos 30^\circ"),
    ("4", r"\lfloor\frac{7}{2}\rfloor"),
    ("3", r"\lfloor 3"),
    (r"1 - \frac{1}{\mathrm{e}}", r"1 + \frac{1}{\mathrm{e}}"),
    (r"\frac{1}{2^{99}}", r"\frac{1}{2^{98}}"),
    (r"\frac{1}{2004!}", r"\frac{1}{2006!}"),
    ("12:00", "1:00"),
    (r"19, 46, \text{ and } 82", "21, 36, and 82"),
    (r"\pm 2021", "2021"),
    ("3*x-1*y+13=0", "3x + 4y + 14=0"),
    ("y=2x+1", "y=2x-1"),
    ("4", r"4\sqrt(2)"),
    ("(0, 12.5)", r"0 < x \le 12.5"),
    ("x>3", "x<3"),
    ("[0,1)", "(0,1]"),
    ("5", "2+2=5"),
    ("5", "x=6"),
    ("x=5", "y=5"),
    ("(1,2)", "(2,1)"),
    ("1,1", "1,2"),
    ("(1,2,3)", "(1,2)"),
    (r"(-\infty,1)\cup(2,\infty)", r"(-\infty,1)"),
    ("p - q", "q - p"),
    ("x^2+2x+1", "(x-1)^2"),
    ("10x", "10y"),
    (r"\sqrt{3} - 5i", r"\sqrt{3}+5i"),
    (r"\begin{pmatrix} 4 \\ -10 \end{pmatrix}", r"\begin{pmatrix} 4 \\ 10 \end{pmatrix}"),
    (r"\text{Saturday}", "Sunday"),
    ("(C)", "(B)"),
    (r"\text{odd}", "even"),
    ("yes", "no"),
    ("101_2", "110_2"),
    ("101_2", "101_3"),
    ("101_2", "5"),
    (r"12\sqrt{13}\text{ feet}", r"12\sqrt{11}\text{ feet}"),
    (r"\text{odd}", "off"),
    ("abc", "abd"),
    ("3:1", "3:2"),
    (r"\frac{1}{0}", "1"),
    ("1", "1 1"),
    ("23", "2 3"),
    ("(1,234)", "1234"),
    (r"\sqrt{2}", "1.41421356"),
    (r"e^{\pi}", r"e^{\pi}+10^{-60}"),
    (r"\pi", "3.14159265358979323846"),
    (r"\pi", "22/7"),
    ("|x|", r"\sqrt{x^2}"),
    ("18", ""),
    ("18", "I do not know"),
    ("5", "9^{9^{9^{9}}}"),
    ("5", "1000000!"),
    (r"\pi", "10^{10^{10}}"),
]


def problem(gold: str | None, options: tuple[str, ...] = ()) -> Problem:
    return Problem(id="p", task="t", messages=(Message(role="user", content="?"),), reference=gold, options=options)


@pytest.mark.parametrize(("gold", "answer"), EQUAL)
def test_equal(gold: str, answer: str) -> None:
    assert compare(gold, answer).equal is True


@pytest.mark.parametrize(("gold", "answer"), DIFFERENT)
def test_different(gold: str, answer: str) -> None:
    assert compare(gold, answer).equal is False


@pytest.mark.parametrize("pair", TRACKER, ids=lambda pair: pair.kind)
def test_tracker_pairs(pair: HardPair) -> None:
    assert compare(pair.gold, pair.answer).equal is pair.equal


@pytest.mark.parametrize("gold", sorted({gold for gold, _ in EQUAL}))
def test_every_gold_equals_itself_and_not_one_more(gold: str) -> None:
    assert compare(gold, gold).equal is True
    assert compare(gold, f"1+{gold}").equal is False


def test_verdicts() -> None:
    right = verify(problem("72"), render(FORMATS["think"], "24 + 48 = 71", "72"))
    assert (right.correct, right.score, right.answer, right.reason) == (True, 1.0, "72", "equal")
    wrong = verify(problem("72"), "The answer is 71.")
    assert (wrong.correct, wrong.score, wrong.answer, wrong.reason) == (False, 0.0, "71", "different")
    for text in ("", "   ", "<think> 72", "\\boxed{}"):
        none = verify(problem("72"), text)
        assert (none.correct, none.score, none.answer, none.reason) == (False, 0.0, None, "no answer")
    assert verify(problem("72"), "it is 72").correct is False
    assert verify(problem("72"), "it is 72", strict=False).correct is True
    withheld = verify(problem(None), "#### 72")
    assert (withheld.correct, withheld.score) == (None, None)


def test_a_megabyte_is_just_wrong() -> None:
    verdict = verify(problem("72"), "\\boxed{" + "9" * 1_000_000 + "}")
    assert verdict.correct is False
    assert len(verdict.answer or "") <= 2_000


@given(st.fractions(max_denominator=10**6), st.integers(-(10**9), 10**9))
def test_numbers_are_read_exactly(value: Fraction, whole: int) -> None:
    above, below = value.numerator, value.denominator
    for text in (f"{above}/{below}", f"\\frac{{{above}}}{{{below}}}", f"$\\dfrac{{{above}}}{{{below}}}$ ."):
        read = read_number(text)
        assert read is not None
        assert read.value == value
    for text in (str(whole), f"{whole:,}", f"{whole}.00", f"${whole}", f"{whole} apples", f"{whole}e0"):
        read = read_number(text)
        assert read is not None
        assert read.value == whole


@given(st.text(max_size=60))
def test_reading_a_number_is_total(text: str) -> None:
    read_number(text)


@given(st.text(alphabet="0123456789\\frac{}sqt()[]^_+-*/=<>,;!.|pixe $%&", min_size=1, max_size=30))
def test_every_answer_gets_a_verdict(answer: str) -> None:
    assert verify(problem("\\pi"), f"\\boxed{{{answer}}}").correct in (True, False, None)


# --- the guarded process -----------------------------------------------------------------------------------------

SLOW = ("(x^2+2x+1)^{6000}", "(x+1)^{12000}")  # equal, but only after an expansion that takes minutes


def test_a_grade_that_takes_too_long_is_not_scored_and_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    guard.stop()
    monkeypatch.setattr(guard, "CPU_LIMIT_S", 1)
    try:
        slow = verify(problem(SLOW[0]), f"\\boxed{{{SLOW[1]}}}")
    finally:
        guard.stop()
    assert (slow.correct, slow.score) == (None, None)
    assert slow.reason.startswith("timeout")
    assert compare("\\frac{\\pi}{2}", "pi/2").equal is True


def test_many_at_once_get_the_verdicts_of_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "_PAIRS_PER_WORKER", 20)  # so that these few pairs already use several workers
    pairs = [(gold, answer) for gold, answer in (*EQUAL, *DIFFERENT)] * 2
    assert [comparison.equal for comparison in compare_all(pairs)] == (
        [True] * len(EQUAL) + [False] * len(DIFFERENT)
    ) * 2
    golds = [None, "\\pi", "18", "\\pi", "18", "\\pi"]
    texts = ["#### 72", "\\boxed{2\\pi}", "18", "", "#### 18", "the answer is $\\pi$."]
    problems = [problem(gold) for gold in golds]
    assert verify_all(problems, texts) == [verify(*pair) for pair in zip(problems, texts, strict=True)]
    assert [verdict.correct for verdict in verify_all(problems, texts)] == [None, False, False, False, True, True]
    assert verify_all(problems, texts, strict=False)[2].correct is True


def test_a_stuck_pair_among_many_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    guard.stop()
    monkeypatch.setattr(guard, "CPU_LIMIT_S", 1)
    fine = [("\\frac{\\pi}{2}", "pi/2"), ("\\frac{\\pi}{2}", "pi/3")]
    try:
        found = [comparison.equal for comparison in compare_all([*fine, SLOW, *fine[::-1], ("\\pi", "\\pi+0")])]
    finally:
        guard.stop()
    assert found == [True, False, None, False, True, True]


def test_questions_larger_than_a_pipe_do_not_block() -> None:
    long = "+".join(["\\frac{\\pi}{2}"] * 100)
    pairs = [(f"{long}+{index}-{index}", f"50\\pi + {index % 2}") for index in range(70)]
    assert [comparison.equal for comparison in compare_all(pairs)] == [index % 2 == 0 for index in range(70)]


def children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()]


def test_a_killed_worker_is_replaced() -> None:
    guard.stop()
    before = set(children())
    assert compare("\\frac{\\pi}{2}", "pi/2").equal is True
    (worker,) = set(children()) - before
    os.kill(worker, signal.SIGKILL)
    assert compare("\\frac{\\pi}{2}", "pi/2").equal is True


def test_a_worker_that_cannot_start_is_an_infrastructure_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    guard.stop()
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    verdict = verify(problem("\\frac{\\pi}{2}"), "\\boxed{pi/2}")
    assert (verdict.correct, verdict.score) == (None, None)
    assert "died twice" in verdict.reason


def test_same_verdicts_from_threads() -> None:
    found: list[bool | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(compare("\\frac{\\pi}{2}", "pi/2").equal)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def answer_from_a_child(queue: "multiprocessing.Queue[bool | None]") -> None:
    queue.put(compare("\\frac{\\pi}{2}", "pi/2").equal)


def test_same_verdicts_from_a_forked_daemon() -> None:
    assert compare("\\frac{\\pi}{2}", "pi/2").equal is True  # the parent's worker runs, and must not be shared
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=answer_from_a_child, args=(queue,), daemon=True)
    process.start()
    assert queue.get(timeout=120) is True
    process.join()


def test_no_worker_outlives_its_process() -> None:
    code = (
        "from stillroom.tasks.math import compare; from pathlib import Path; compare('\\\\pi', '2\\\\pi');"
        "import os; print(Path(f'/proc/self/task/{os.getpid()}/children').read_text(), flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    worker = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout)
    status = Path(f"/proc/{worker}/stat")
    for _ in range(100):
        if not status.exists() or ") Z " in status.read_text():
            return
        threading.Event().wait(0.1)
    pytest.fail("the grading process is still there after 10 s")


# --- multiple choice ---------------------------------------------------------------------------------------------

OPTIONS = ("3", "5", "None of these", "x", "$7$", "5 cm")


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("(B)", "B"),
        ("B)", "B"),
        ("b.", "B"),
        ("\\text{(B)}", "B"),
        ("option B", "B"),
        ("B) 5", "B"),
        ("(B): 5", "B"),
        ("5", "B"),
        ("none of  these", "C"),
        ("7", "E"),
        ("B) 3", None),  # contradicts itself
        ("x", "D"),  # X is no letter of six options, but x is an option
        ("G", None),
        ("4", None),
        ("A or B", None),
        ("Because", None),
    ],
)
def test_choice(answer: str, letter: str | None) -> None:
    verdict = choice.verify(problem("B", OPTIONS), f"\\boxed{{{answer}}}")
    assert verdict.correct is (letter == "B")
    assert verdict.answer == (letter or answer.strip())


def test_choice_edges() -> None:
    assert choice.chosen_letter("same", ("same", "same", "other")) is None
    assert choice.verify(problem("B", OPTIONS), "").reason == "no answer"
    assert choice.verify(problem("Z", OPTIONS), "#### B").correct is None
    assert choice.verify(problem("B", OPTIONS), "I choose B here").correct is False
    assert choice.verify(problem("B", OPTIONS), "I choose B here", strict=False).correct is True
    assert choice.verify(problem("B", OPTIONS), "<think>I choose B", strict=False).correct is False


@given(st.text(max_size=80))
def test_choice_is_total(text: str) -> None:
    assert choice.verify(problem("B", OPTIONS), text, strict=False).correct in (True, False)


# --- recorded answers of real models -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["responses_llama2_7b.jsonl", "responses_mistral_7b.jsonl"])
def test_agreement_with_recorded_verdicts(data_dir: Path, name: str) -> None:
    path = data_dir / "gsm8k" / name
    if not path.exists():
        pytest.skip(f"{path} is absent")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    agree = [verify(problem(row["gold"]), row["response"]).correct is row["result"] for row in rows]
    assert len(rows) == 7_000
    assert sum(agree) / len(agree) >= 0.9975
