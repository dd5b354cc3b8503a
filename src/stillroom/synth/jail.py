"""What runs inside the sandbox: the first process of its own namespaces, and the interpreters that model code runs in.

`sandbox.py` starts this file as a script; it knows nothing of Stillroom and uses the standard library alone.

    outer ──pipes── keeper (pid 1 of the namespaces, trusted) ──socket── interpreter ──fork── interpreter …

An interpreter is a process whose root is an empty folder in memory, without rights, network or descriptors, under a
list of the system calls that it may make. The one thing that is unusual about it: it can fork, because a forked
process is how a copy of its state is made; so every fork asks the keeper (seccomp's user notification), who allows
exactly one each time that it has itself asked for a copy. What an interpreter says is hostile: the keeper bounds it,
takes nothing on trust but the process number that the kernel vouches for, and lets one interpreter run at a time,
the others being stopped.
"""

import ast
import builtins
import contextlib
import ctypes
import errno
import fcntl
import importlib
import io
import json
import os
import platform
import random
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

NOBODY = 65534
MESSAGE = 1 << 18
"""Most bytes of one message of an interpreter; more ends it."""
FORK_WAIT_S = 10.0
# Flags of unshare(2), mount(2), prctl(2).
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_PRIVATE, _NOSUID, _NODEV, _NOEXEC, _DETACH = 0x44000, 2, 4, 8, 2
_PDEATHSIG, _DUMPABLE, _NO_NEW_PRIVS = 1, 4, 38
# Filters of system calls; numbers of x86_64.
_ARCH, _SECCOMP, _CAPSET, _PIVOT_ROOT, _CLONE, _CLONE3 = 0xC000003E, 317, 126, 155, 56, 435
_FCNTL, _FCNTL_COMMANDS = 72, (0, 1, 2, 3, 4, 1030)  # copy a descriptor, read and set its flags; no signals to others
_KILL, _ALLOW, _ERRNO, _NOTIFY = 0x80000000, 0x7FFF0000, 0x00050000, 0x7FC00000
_FORK = 0x01200011  # the flags of fork(): SIGCHLD and two addresses of the child's thread number
_RECEIVE, _ANSWER = 0xC0502100, 0xC0182101
ALLOWED = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23,
    "sched_yield": 24, "mremap": 25, "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "getsockname": 51, "exit": 60, "fsync": 74,
    "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getdents": 78, "getcwd": 79, "chdir": 80, "rename": 82,
    "mkdir": 83, "rmdir": 84, "unlink": 87, "symlink": 88, "readlink": 89, "chmod": 90, "umask": 95,
    "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107,
    "getegid": 108, "getppid": 110, "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202,
    "sched_getaffinity": 204, "getdents64": 217, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
    "exit_group": 231, "openat": 257, "mkdirat": 258, "newfstatat": 262, "unlinkat": 263, "renameat": 264,
    "symlinkat": 266, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273,
    "dup3": 292, "pipe2": 293, "renameat2": 316, "getrandom": 318, "statx": 332, "rseq": 334, "close_range": 436,
    "faccessat2": 439,
}  # fmt: skip
"""What an interpreter needs, and nothing that makes a process, a thread, a socket, a key or a device, or that reaches
into another process."""

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """This machine lacks something that the sandbox promises; the message says what."""


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise Refused(f"{what} failed: {os.strerror(code)}")
    return result


def enter_namespaces() -> None:
    """Leave the machine's processes, mounts, network, IPC and host name; raises Refused where that is not allowed.

    Returns in the first process of the new namespaces; the calling one waits for it and ends with it.
    """
    uid, gid, root = os.getuid(), os.getgid(), os.geteuid() == 0
    flags = _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS | (0 if root else _NEWUSER)
    _check(_libc.unshare(flags), "making namespaces (unshare) of processes, mounts and network")
    if not root:
        for file, text in (("setgroups", "deny"), ("uid_map", f"{NOBODY} {uid} 1"), ("gid_map", f"{NOBODY} {gid} 1")):
            with open(f"/proc/self/{file}", "w") as mapping:
                mapping.write(text)
    child = os.fork()
    if child:
        os.closerange(0, 2)
        os.waitpid(child, 0)
        os._exit(0)
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    _check(_libc.prctl(_DUMPABLE, 0, 0, 0, 0), "prctl")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def empty_root(megabytes: int) -> None:
    """Make an empty folder in memory the root of everything; the machine's files are gone from here on."""
    folder = b"/tmp" if os.path.isdir("/tmp") else b"/mnt"
    _check(_libc.mount(None, b"/", None, _PRIVATE, None), "making mounts private")
    options = f"size={megabytes}m,nr_inodes=256,mode=0700,uid={NOBODY},gid={NOBODY}".encode()
    _check(_libc.mount(b"tmpfs", folder, b"tmpfs", _NOSUID | _NODEV | _NOEXEC, options), "mounting an empty folder")
    os.chdir(folder)
    _check(_libc.syscall(_PIVOT_ROOT, b".", b"."), "changing the root (pivot_root)")
    _check(_libc.umount2(b".", _DETACH), "leaving the old root")
    os.chdir("/")


def drop_rights() -> None:
    """Become nobody, without any capability and without a way to gain one."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    header, none = struct.pack("=Ii", 0x20080522, 0), bytes(24)
    _check(_libc.syscall(_CAPSET, header, none), "dropping capabilities")
    _check(_libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    _check(_libc.prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def limit(limits: dict[str, int]) -> None:
    """Bounds of the kernel, for this process and its copies."""
    megabyte = 1 << 20
    for what, most in (
        (resource.RLIMIT_AS, limits["memory_mb"] * megabyte),
        (resource.RLIMIT_CPU, limits["cpu_s"]),
        (resource.RLIMIT_FSIZE, limits["file_mb"] * megabyte),
        (resource.RLIMIT_NOFILE, 32),
        (resource.RLIMIT_STACK, 8 * megabyte),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (most, most))


def filter_calls() -> int:
    """Allow only the calls of `ALLOWED`, and fork() when the keeper agrees; returns the keeper's descriptor."""

    def code(op: int, k: int, yes: int = 0, no: int = 0) -> bytes:
        return struct.pack("=HBBI", op, yes, no, k)

    load, equal, give = 0x20, 0x15, 0x06
    program = code(load, 4) + code(equal, _ARCH, 1) + code(give, _KILL) + code(load, 0)
    for number in ALLOWED.values():
        program += code(equal, number, 0, 1) + code(give, _ALLOW)
    commands = b"".join(code(equal, command, 0, 1) + code(give, _ALLOW) for command in _FCNTL_COMMANDS)
    program += code(equal, _FCNTL, 0, 2 + 2 * len(_FCNTL_COMMANDS)) + code(load, 24) + commands
    program += code(give, _ERRNO | errno.EPERM)
    # The C library tries clone3 first and takes "no such call" for an answer; its flags lie behind a pointer.
    program += code(equal, _CLONE3, 0, 1) + code(give, _ERRNO | errno.ENOSYS)
    program += code(equal, _CLONE, 0, 3) + code(load, 16) + code(equal, _FORK, 0, 1) + code(give, _NOTIFY)
    program += code(give, _ERRNO | errno.EPERM)
    body = ctypes.create_string_buffer(program, len(program))
    listing = struct.pack("@HP", len(program) // 8, ctypes.addressof(body))
    found: int = _check(_libc.syscall(_SECCOMP, 1, 8, listing), "filtering system calls (seccomp with notification)")
    return found


class _Final(BaseException):
    """Ends an action whose final answer is given."""


class _Output(io.TextIOBase):
    """Keeps the beginning of what is printed, and counts the rest."""

    def __init__(self, most: int) -> None:
        self.most, self.size = most, 0
        self.parts: list[str] = []

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.size < self.most:
            self.parts.append(text[: self.most - self.size])
        self.size += len(text)
        return len(text)

    def text(self) -> str:
        cut = f"\n… {self.size - self.most} more characters" if self.size > self.most else ""
        return "".join(self.parts) + cut


def interpreter(channel: socket.socket, names: list[str], most: int) -> None:
    """Serve one copy of the state: run an action, or fork and serve in the child as well; never returns."""
    scope: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    buffer = b""

    def send(message: dict[str, Any]) -> None:
        channel.sendall(json.dumps(message).encode() + b"\n")

    def receive() -> tuple[dict[str, Any], list[int]]:
        nonlocal buffer
        numbers: list[int] = []
        while b"\n" not in buffer:
            piece, given, _, _ = socket.recv_fds(channel, 1 << 16, 1)
            numbers += given
            if not piece:
                os._exit(0)
            buffer += piece
        line, _, buffer = buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found, numbers

    def tool(name: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            send({"call": name, "args": list(args), "named": named})
            reply, _ = receive()
            if "error" in reply:
                raise ValueError(reply["error"])
            return reply["result"]

        call.__name__ = call.__qualname__ = name
        return call

    answers: list[str] = []

    def final_answer(answer: Any) -> None:
        """End the episode with this answer."""
        answers[:] = [str(answer)[:most]]
        raise _Final

    scope |= {name: tool(name) for name in names}
    scope["final_answer"] = final_answer
    while True:
        message, numbers = receive()
        if message["op"] == "fork":
            drawn = random.getstate()
            if os.fork() == 0:
                os.dup2(numbers[0], channel.fileno())  # every interpreter's only descriptor has the same number
                os.close(numbers[0])
                random.setstate(drawn)  # a copy draws what the original would have drawn
                send({"hello": True})
            else:
                os.close(numbers[0])
        else:
            answers.clear()
            send(_act(message["code"], scope, most, answers))


def _act(code: str, scope: dict[str, Any], most: int, answers: list[str]) -> dict[str, Any]:
    """Run one action; whatever it raises is part of its outcome."""
    printed = _Output(most)
    value, error = None, None
    kept = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = printed
    try:
        os.chdir("/")
        tree = ast.parse(code, "<action>")
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, "<action>", "exec"), scope)
        if isinstance(last, ast.Expr):
            found = eval(compile(ast.Expression(last.value), "<action>", "eval"), scope)
            value = None if found is None else repr(found)[:most]
    except _Final:
        pass
    except BaseException as raised:
        lines = traceback.format_exception_only(type(raised), raised)
        error = "".join(lines).strip()[:most] or type(raised).__name__
    sys.stdout, sys.stderr = kept
    return {"output": printed.text(), "value": value, "error": error, "final": answers[0] if answers else None}


class _Lost(Exception):
    """An interpreter ended, fell silent or said nonsense; the message is what a model may be told."""


class Process:
    """An interpreter as the keeper knows it."""

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid, self.channel, self.buffer = pid, channel, b""


class Keeper:
    """Holds states, copies them, runs candidates on copies and keeps the chosen ones."""

    def __init__(self, limits: dict[str, int], names: list[str], null: int) -> None:
        self.limits, self.names, self.null = limits, names, null
        self.known: dict[int, Process] = {}
        self.ticket: int | None = None
        """The process that may fork now, once."""
        self.root, self.listener = self._first()
        self.states: dict[str, Process] = {}
        self.candidates: dict[str, list[Process | None]] = {}
        self.highest = self.root.pid

    def _first(self) -> tuple[Process, int]:
        """The interpreter that all others are copies of; no model code ever runs in it."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                for number in (0, 1, 2):
                    os.dup2(self.null, number)
                channel = socket.socket(fileno=os.dup2(theirs.fileno(), 3))
                theirs.detach()
                os.closerange(4, 65536)
                signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # copies that ended leave nothing behind
                drop_rights()
                limit(self.limits)
                listener = filter_calls()
                socket.send_fds(channel, [b"\n"], [listener])
                os.close(listener)
            except (Refused, OSError) as error:
                channel.sendall(str(error).encode())
                os._exit(1)
            try:
                interpreter(channel, self.names, self.limits["output"])
            finally:
                os._exit(1)  # never back into the keeper's code
        theirs.close()
        said, numbers, _, _ = socket.recv_fds(ours, 4096, 1)
        if not numbers:
            raise Refused(said.decode(errors="replace") or "the first interpreter ended at once")
        process = Process(pid, self._prepared(ours))
        self.known[pid] = process
        os.kill(pid, signal.SIGSTOP)
        return process, numbers[0]

    def _prepared(self, channel: socket.socket) -> socket.socket:
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        channel.setblocking(False)
        return channel

    def serve(self) -> None:
        """Answer the outer process until it closes its end."""
        while (message := _from_outer()) is not None:
            state, op = message.get("state", ""), message["op"]
            if op == "try":
                self.end(*filter(None, self.candidates.pop(state, [])))
                pairs = [self.attempt(state, code) for code in message["codes"]]
                self.candidates[state] = [process for process, _ in pairs]
                _to_outer({"outcomes": [outcome for _, outcome in pairs]})
            elif op == "commit":
                mine = self.candidates.pop(state, [])
                chosen = mine[message["index"]] if message["index"] < len(mine) else None
                self.end(*(process for process in mine if process is not None and process is not chosen))
                if chosen is not None:
                    self.end(*filter(None, [self.states.get(state)]))
                    self.states[state] = chosen
                _to_outer({"committed": chosen is not None})
            elif op == "drop":
                self.end(*filter(None, [self.states.pop(state, None), *self.candidates.pop(state, [])]))
                _to_outer({"dropped": True})
            elif op == "fork":  # a measurement: one copy, made and thrown away
                begun = time.perf_counter()
                self.end(self.copy(self.states.get(state, self.root)))
                _to_outer({"seconds": time.perf_counter() - begun})

    def attempt(self, state: str, code: str) -> tuple[Process | None, dict[str, Any]]:
        """Run an action on a copy of a state; the copy is None when it is gone."""
        lost = ""
        begun = time.monotonic()
        try:
            copy = self.copy(self.states.get(state, self.root))
        except _Lost as error:
            self.states.pop(state, None)
            lost = f"the interpreter was started anew, its variables are gone ({error})"
            return None, {"error": lost, "died": True, "seconds": time.monotonic() - begun}
        try:
            outcome = self.run(copy, code)
        except _Lost as error:
            self.end(copy)
            return None, {"error": str(error), "died": True, "seconds": time.monotonic() - begun}
        finally:
            _empty()
        return copy, outcome | {"died": False, "seconds": time.monotonic() - begun}

    def copy(self, process: Process) -> Process:
        """A copy of an interpreter's state, stopped; raises _Lost, after which neither it nor the original is left."""
        ours, theirs = socket.socketpair()
        ours = self._prepared(ours)
        copied = Process(0, ours)
        deadline = time.monotonic() + FORK_WAIT_S
        self.ticket = process.pid
        try:
            os.kill(process.pid, signal.SIGCONT)
            try:
                process.channel.settimeout(1.0)
                socket.send_fds(process.channel, [b'{"op": "fork"}\n'], [theirs.fileno()])
            except OSError as error:
                raise _Lost("it does not listen") from error
            finally:
                process.channel.setblocking(False)
                theirs.close()
            self.receive(copied, deadline)
            if copied.pid in self.known or copied.pid <= 1:
                raise _Lost("it did not copy itself")
        except (_Lost, ProcessLookupError) as error:
            ours.close()
            self.ticket = None
            self.end(process)
            self._end_unknown()
            if process is self.root:
                os._exit(1)  # never seen: no model code runs in it
            raise _Lost(str(error)) from error
        self.ticket = None
        self.known[copied.pid] = copied
        self.highest = max(self.highest, copied.pid)
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(copied.pid, signal.SIGSTOP)
        return copied

    def run(self, process: Process, code: str) -> dict[str, Any]:
        """Run an action in a process and stop it again; raises _Lost when it ends, is silent too long or rambles."""
        deadline = time.monotonic() + self.limits["wall_ms"] / 1000
        try:
            os.kill(process.pid, signal.SIGCONT)
            self.send(process, {"op": "run", "code": code})
            while True:
                message = self.receive(process, deadline)
                if "call" not in message:
                    break
                _to_outer({"call": message})
                reply = _from_outer()
                if reply is None:
                    os._exit(0)
                self.send(process, reply)
                if time.monotonic() > deadline:  # a flood of calls always has a message ready
                    raise _Lost(self.late())
        except ProcessLookupError as error:
            raise _Lost("the interpreter ended") from error
        os.kill(process.pid, signal.SIGSTOP)
        most = self.limits["output"] + 100
        shown = {key: message.get(key) for key in ("output", "value", "error", "final")}
        return {key: found[:most] if isinstance(found, str) else None for key, found in shown.items()}

    def late(self) -> str:
        """What is said of an action that takes too long."""
        return f"no result within {self.limits['wall_ms'] / 1000:g} s"

    def send(self, process: Process, message: dict[str, Any]) -> None:
        try:
            process.channel.settimeout(1.0)
            process.channel.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise _Lost("the interpreter does not listen") from error
        finally:
            process.channel.setblocking(False)

    def receive(self, process: Process, deadline: float) -> dict[str, Any]:
        """The next message of a process, whose number comes from the kernel; forks are answered meanwhile."""
        while b"\n" not in process.buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Lost(self.late())
            waiting = [process.channel.fileno(), self.listener, 0]
            ready, _, _ = select.select(waiting, [], [], min(left, 1.0))
            if 0 in ready:
                os._exit(0)  # nothing is asked of the keeper while it works: the outer process has ended
            if self.listener in ready:
                self._answer_fork()
            if process.channel.fileno() in ready:
                self._read(process)
        line, _, process.buffer = process.buffer.partition(b"\n")
        try:
            # Decoded here: json would guess at encodings whose modules are no longer there to be imported.
            message = json.loads(line.decode())
        except (ValueError, RecursionError, MemoryError) as error:
            raise _Lost("the interpreter's result cannot be read") from error
        if not isinstance(message, dict):
            raise _Lost("the interpreter's result cannot be read")
        return message

    def _read(self, process: Process) -> None:
        space = socket.CMSG_SPACE(12) + socket.CMSG_SPACE(16)
        try:
            piece, given, _, _ = process.channel.recvmsg(1 << 16, space)
        except BlockingIOError:
            return
        except OSError:
            piece, given = b"", []
        for level, kind, data in given:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS and not process.pid:
                process.pid = struct.unpack("iII", data[:12])[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                for at in range(0, len(data) - 3, 4):
                    os.close(struct.unpack_from("i", data, at)[0])
        if not piece:
            raise _Lost("the interpreter ended: it exited, or needed more processor time or memory than is allowed")
        process.buffer += piece
        if len(process.buffer) > MESSAGE:
            raise _Lost("the interpreter's result is too long")

    def _answer_fork(self) -> None:
        asked = bytearray(80)
        try:
            fcntl.ioctl(self.listener, _RECEIVE, asked)
            identity, pid = struct.unpack_from("=QI", asked)
            allowed = pid == self.ticket
            self.ticket = None if allowed else self.ticket
            answer = struct.pack("=QqiI", identity, 0, 0 if allowed else -errno.EAGAIN, 1 if allowed else 0)
            fcntl.ioctl(self.listener, _ANSWER, bytearray(answer))
        except OSError:
            return  # it was killed while it asked

    def end(self, *processes: Process) -> None:
        for process in processes:
            if process is self.root:
                continue
            self.known.pop(process.pid, None)
            process.channel.close()
            if process.pid > 1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self._reap()

    def _end_unknown(self) -> None:
        """Kill what was born without being introduced: at most one process, with one of the next numbers."""
        for pid in range(2, self.highest + 256):
            if pid not in self.known:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _empty() -> None:
    """Delete everything in the throw-away folder: an action's files do not outlive it."""
    for _, folders, files, at in os.fwalk(b"/", topdown=False):
        for name in (*files, *folders):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=at)
        for name in folders:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=at)


_pending = b""


def _from_outer() -> dict[str, Any] | None:
    global _pending
    while b"\n" not in _pending:
        piece = os.read(0, 1 << 16)
        if not piece:
            return None
        _pending += piece
    line, _, _pending = _pending.partition(b"\n")
    message: dict[str, Any] = json.loads(line)
    return message


def _to_outer(message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(1, data) :]


def _preload(modules: list[str]) -> Iterator[str]:
    """Import what actions may use: later there is no file left to import from. Yields what is not installed."""
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            yield name


def main() -> None:
    """Read the settings, build the sandbox, say so, and serve."""
    settings = _from_outer()
    assert settings is not None
    try:
        if sys.platform != "linux" or platform.machine() != "x86_64":
            raise Refused(f"it is built for Linux on x86_64, and this is {sys.platform} on {platform.machine()}")
        missing = list(_preload(settings["modules"]))
        if missing:
            raise Refused(f"modules {', '.join(missing)} are not installed")
        null = os.open("/dev/null", os.O_RDWR)
        enter_namespaces()
        empty_root(settings["limits"]["file_mb"])
        keeper = Keeper(settings["limits"], settings["names"], null)
    except (Refused, OSError) as refusal:
        _to_outer({"refused": str(refusal)})
        return
    _to_outer({"ready": True})
    keeper.serve()


if __name__ == "__main__":
    main()
