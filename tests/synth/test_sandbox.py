"""The sandbox: what a copy of a state is, and what hostile code can reach. The attacks stand in attacks.py."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from attacks import ATTACKS, Attack

from stillroom.errors import UserError
from stillroom.synth import sandbox as module
from stillroom.synth.sandbox import MODULES, Limits, Outcome, Sandbox

SECRET = "canary-5f1c"
QUICK = Limits(wall_s=0.5, cpu_s=1, memory_mb=256, output=2000, file_mb=4)


@pytest.fixture(scope="module")
def jail() -> Iterator[Sandbox]:
    try:
        box = Sandbox(QUICK, names=["search"], tool=lambda name, args, named: f"found {args} {named}",
                      modules=(*MODULES, "socket", "subprocess", "resource", "mmap", "array", "atexit"))  # fmt: skip
    except UserError as error:
        pytest.skip(str(error))
    with box:
        yield box


def _on_one_port() -> tuple[socket.socket, socket.socket]:
    """A stream and a datagram socket: what is free for the one may be taken for the other."""
    while True:
        stream, datagrams = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        stream.bind(("127.0.0.1", 0))
        try:
            datagrams.bind(stream.getsockname())
        except OSError:
            stream.close()
            datagrams.close()
        else:
            return stream, datagrams


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What an attacker would like to reach; whatever arrives at a socket is kept."""
    monkeypatch.setenv("STILLROOM_SECRET", SECRET)
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "secret").chmod(0o644)
    stream, datagrams = _on_one_port()
    listening = [stream, socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    abstract, reached = f"\0stillroom-{os.getpid()}", []
    with datagrams:
        port = stream.getsockname()[1]
        listening[1].bind(str(tmp_path / "unix"))
        listening[2].bind(abstract)
        for one in listening:
            one.listen()
        yield SimpleNamespace(file=str(tmp_path / "secret"), port=port, unix=str(tmp_path / "unix"),
                              abstract=abstract, pid=os.getpid(), secret=SECRET)  # fmt: skip
        for one in (*listening, datagrams):
            one.setblocking(False)
            try:
                reached.append(one.recv(1) if one is datagrams else one.accept())
            except (BlockingIOError, OSError):
                continue
            finally:
                if one is not datagrams:
                    one.close()
    assert not reached


def children() -> set[int]:
    """Processes of the machine that are none of ours but come from us."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"jail.py" in (entry / "cmdline").read_bytes():
                found.add(int(entry.name))
        except OSError:
            continue
    return found


def test_the_list_of_attacks_is_long_and_names_are_unique() -> None:
    assert len(ATTACKS) >= 60
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_reaches_nothing_and_ends(attack: Attack, jail: Sandbox, host: SimpleNamespace) -> None:
    """It ends in time, it gets nowhere, nothing of it is left, and the next state and the next action work."""
    code = attack.code
    for name, value in vars(host).items():
        code = code.replace(f"HOST.{name}", repr(value))
    first, begun = attack.name, time.monotonic()
    jail.run(first, "kept = 41")
    outcome = jail.run(first, code)
    after = jail.run(first, "kept + 1 if 'kept' in globals() else None")
    assert time.monotonic() - begun < 4 * QUICK.wall_s + 3
    shown = f"{outcome.output} {outcome.value} {outcome.error} {outcome.final}"
    assert "ESCAPED" not in shown
    assert SECRET not in shown
    assert "root:" not in shown
    assert len(shown) < 4 * QUICK.output
    shown.encode()  # no lone surrogate gets out
    assert after.value == "42" or after.error is not None  # a state that took itself apart says so
    if outcome.died:
        assert after.value == "42"  # what is gone is the copy: the state is as it was
    assert jail.run("bystander", "1 + 1").value == "2"
    assert jail.run("bystander", "import os\nos.listdir('/')").value == "[]"
    jail.drop(first)


def test_nothing_is_left_running(jail: Sandbox) -> None:
    """After attacks and drops: keeper, first interpreter, bystander, and nothing else."""
    jail.drop("bystander")
    before = children()
    jail.attempt("x", ["import os\nos.fork()", "while True: pass", "1"])
    jail.drop("x")
    deadline = time.monotonic() + 2
    while len(children() - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children() <= before


def test_variables_persist_and_errors_keep_what_was_done(jail: Sandbox) -> None:
    assert jail.run("s", "x = 3\nprint('hi')\nx * 2") == Outcome(output="hi\n", value="6")
    failed = jail.run("s", "x = 7\ny = 1 / 0")
    assert failed.error == "ZeroDivisionError: division by zero"
    assert not failed.died
    assert jail.run("s", "x").value == "7"
    assert jail.run("s", "import math\nfinal_answer(math.gcd(12, 18))").final == "6"
    assert jail.run("t", "x").error == "NameError: name 'x' is not defined"


def test_candidates_run_on_copies_and_only_the_chosen_one_commits(jail: Sandbox) -> None:
    jail.run("c", "kept = [1]")
    outcomes = jail.attempt(
        "c", ["kept.append(2)\nkept", "kept.append(3)\nkept", "kept", "1 / 0", "import os\nos._exit(1)"]
    )
    assert [outcome.value for outcome in outcomes] == ["[1, 2]", "[1, 3]", "[1]", None, None]
    assert [outcome.died for outcome in outcomes] == [False, False, False, False, True]
    assert jail.commit("c", 1)
    assert jail.run("c", "kept").value == "[1, 3]"
    jail.attempt("c", ["kept.append(9)"])
    assert jail.attempt("c", ["kept"])[0].value == "[1, 3]"
    jail.attempt("c", ["import os\nos._exit(1)"])
    assert not jail.commit("c", 0)
    assert not jail.commit("c", 5)
    assert jail.run("c", "kept").value == "[1, 3]"


def test_files_are_thrown_away(jail: Sandbox) -> None:
    written = jail.attempt("f", ["open('a', 'w').write('x')\nimport os\nos.listdir('.')", "import os\nos.listdir('.')"])
    assert [outcome.value for outcome in written] == ["['a']", "[]"]
    jail.commit("f", 0)
    assert jail.run("f", "import os\nos.listdir('.')").value == "[]"


def test_copies_draw_the_same_numbers(jail: Sandbox) -> None:
    first, second = jail.attempt("r", ["import random\nrandom.random()"] * 2)
    assert first.value == second.value


def test_a_state_that_no_longer_copies_itself_is_started_anew_and_says_so(jail: Sandbox) -> None:
    jail.run("h", "import os, sys\nos.fork = lambda: 12345\nx = 1")
    outcome = jail.run("h", "x")
    assert outcome.died
    assert "started anew" in (outcome.error or "")
    assert jail.run("h", "1 + 1").value == "2"


def test_a_state_that_forks_for_itself_leaves_no_second_process(jail: Sandbox) -> None:
    """The one fork that it is allowed is stolen; whoever was born of it is found and ended."""
    before = children()
    jail.run("i", "import os\nreal = os.fork\ndef steal():\n    if real() == 0:\n        while True: pass\n"
                  "    return 12345\nos.fork = steal")  # fmt: skip
    assert jail.run("i", "1").died
    time.sleep(0.05)
    assert len(children() - before) == 0


def test_tools_are_called_out_here(jail: Sandbox) -> None:
    assert jail.run("tool", "search('a', k=2)").value == repr("found ['a'] {'k': 2}")
    assert "not JSON" in (jail.run("tool", "search(object())").error or "")
    forged = 'import os\nos.write(3, b\'{"call": "rm", "args": [], "named": {}}\\n\')'
    assert jail.run("tool", forged).final is None


def test_a_tool_that_fails_is_an_error_of_the_code() -> None:
    def tool(name: str, args: object, named: object) -> str:
        raise ValueError("no index")

    try:
        box = Sandbox(QUICK, names=["search"], tool=tool)
    except UserError as error:
        pytest.skip(str(error))
    with box:
        assert box.run("s", "search('a')").error == "ValueError: no index"
        assert box.run("s", "try: search('a')\nexcept ValueError as e: print(e)").output == "no index\n"


def test_long_code_is_refused(jail: Sandbox) -> None:
    assert jail.run("l", "x = 1\n" * 10_000).error == "the code is too long"


def test_threads_may_share_a_sandbox(jail: Sandbox) -> None:
    found: dict[int, str | None] = {}

    def work(number: int) -> None:
        jail.run(f"thread-{number}", f"x = {number}")
        found[number] = jail.run(f"thread-{number}", "x").value

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: str(number) for number in range(6)}


def test_a_killed_keeper_is_replaced_and_every_state_hears_of_it() -> None:
    try:
        box = Sandbox(QUICK)
    except UserError as error:
        pytest.skip(str(error))
    with box:
        box.run("a", "x = 1")
        box.run("b", "x = 2")
        assert box._process is not None
        os.kill(box._process.pid, signal.SIGKILL)
        for state in ("a", "b"):
            assert "started anew" in (box.run(state, "x").error or "")
            assert box.run(state, "1").value == "1"


def test_everything_ends_with_the_process_that_started_it() -> None:
    script = ("import os, signal\nfrom stillroom.synth.sandbox import Sandbox\nbox = Sandbox()\n"
              "box.run('a', 'x = 1')\nprint('ready', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")  # fmt: skip
    before = children()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    if "cannot be isolated" in done.stderr:
        pytest.skip(done.stderr)
    assert "ready" in done.stdout
    deadline = time.monotonic() + 5
    while children() - before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not children() - before


def test_a_machine_without_isolation_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "jail.py"
    refusing.write_text('print(\'{"refused": "making namespaces failed: Operation not permitted"}\')')
    monkeypatch.setattr(module, "_JAIL", refusing)
    with pytest.raises(UserError, match=r"making namespaces failed.*never run unprotected"):
        Sandbox()
    refusing.write_text("")
    with pytest.raises(UserError, match="it ended at once"):
        Sandbox()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError, match="needs Linux; this is darwin"):
        Sandbox()


def test_a_module_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match="no_such_module"):
        Sandbox(modules=("no_such_module",))
