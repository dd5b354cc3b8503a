"""Attacks on the sandbox, as a model might write them: what each one does, and how it would tell that it got through.

Code says ESCAPED when it reached what it must not reach. HOST holds what a real attacker would have to guess.
"""

from typing import NamedTuple


class Attack(NamedTuple):
    name: str
    code: str


CTYPES = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
YES = "print('ESC' + 'APED')"


def _reach(name: str, expression: str, setup: str = "import os, socket, sys") -> Attack:
    """An expression that must raise."""
    return Attack(name, f"{setup}\nfound = {expression}\nprint('ESC' + 'APED', found)")


def _call(name: str, number: int, arguments: str = "0, 0, 0, 0") -> Attack:
    """A system call, made directly, that must fail."""
    return Attack(name, f"{CTYPES}if libc.syscall({number}, {arguments}) >= 0: {YES}")


ATTACKS = (
    # processes and threads
    Attack("fork bomb", "import os\nwhile True:\n    os.fork()"),
    Attack("patient fork bomb", "import os\nfor _ in range(10**9):\n    try: os.fork()\n    except OSError: pass"),
    _reach("one child", "os.fork()"),
    _reach("vfork", "os.posix_spawn('/bin/sh', ['sh'], {})"),
    _reach("exec", "os.execv('/bin/sh', ['sh', '-c', 'echo'])"),
    _reach("subprocess", "__import__('subprocess').run(['id'], capture_output=True).stdout"),
    _reach("shell", "{0: True}[os.system('true')]"),
    _reach("thread", "__import__('_thread').start_new_thread(print, ())"),
    _call("clone with a new stack", 56, "0x100, 0, 0, 0, 0"),
    _call("clone into a user namespace", 56, "0x10000011, 0, 0, 0, 0"),
    _call("clone3", 435),
    _call("raw fork", 57),
    _call("raw vfork", 58),
    Attack("daemon", "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass"),
    Attack("unkillable", "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
           "    except (OSError, ValueError): pass\nwhile True: pass"),
    # time
    Attack("endless loop", "while True: pass"),
    Attack("endless loop that catches everything", "while True:\n    try:\n        while True: pass\n    except: pass"),
    Attack("sleep", "import time\ntime.sleep(3600)"),
    Attack("wait for nothing", "import os\nr, w = os.pipe()\nos.read(r, 1)"),
    Attack("a long power", "9 ** 9 ** 9"),
    Attack("catastrophic pattern", "import re\nre.match(r'(a+)+$', 'a' * 60 + 'b')"),
    Attack("hash of a huge range", "sum(range(10 ** 12))"),
    # memory, disk, output
    Attack("memory at once", "b'x' * (1 << 40)"),
    Attack("memory bit by bit", "kept = []\nwhile True: kept.append(bytearray(1 << 20))"),
    Attack("memory behind ctypes", f"{CTYPES}libc.malloc.restype = ctypes.c_void_p\n"
           f"if libc.malloc(ctypes.c_size_t(1 << 35)): {YES}"),
    Attack("locked memory", f"{CTYPES}if libc.mlockall(3) == 0: {YES}"),
    Attack("a large file", "with open('f', 'wb') as f:\n    while True: f.write(b'x' * (1 << 20))"),
    Attack("many files", "for i in range(10 ** 6): open(str(i), 'w').close()"),
    Attack("many large files", "for i in range(10 ** 4): open(str(i), 'wb').write(b'x' * (1 << 20))"),
    Attack("sparse file", "f = open('f', 'wb')\nf.truncate(1 << 40)\nprint('ESC' + 'APED')"),
    Attack("deep folders", "import os\nfor _ in range(10 ** 5):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)"),
    Attack("names that are no text", "import os\nfor i in range(200):\n"
           "    os.mkdir(bytes([255, 10, 128 + i % 64, 65 + i // 64]))"),
    Attack("folders without rights", "import os\nos.mkdir('a')\nopen('a/b', 'w').close()\nos.chmod('a', 0)"),
    Attack("giant output", "while True: print('x' * 10000)"),
    Attack("giant value", "'x' * (1 << 26)"),
    Attack("giant error", "raise ValueError('x' * (1 << 26))"),
    Attack("a chain of errors", "e = ValueError('end')\nfor _ in range(10 ** 5):\n    n = ValueError('x')\n"
           "    n.__cause__ = e\n    e = n\nraise e"),
    Attack("descriptors without end", "import os\nkept = []\nwhile True: kept.append(os.dup(1))"),
    # network
    _reach("TCP", "socket.socket().connect(('127.0.0.1', HOST.port))"),
    _reach("TCP to the world", "socket.socket().connect(('1.1.1.1', 53))"),
    _reach("UDP", "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', HOST.port))"),
    _reach("IPv6", "socket.socket(socket.AF_INET6)"),
    _reach("raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    _reach("packet socket", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    _reach("netlink", "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)"),
    _reach("unix socket", "socket.socket(socket.AF_UNIX).connect(HOST.unix)"),
    _reach("abstract unix socket", "socket.socket(socket.AF_UNIX).connect(HOST.abstract)"),
    _reach("a pair of sockets", "socket.socketpair()"),
    _reach("a name", "socket.getaddrinfo(b'localhost', 80)"),
    _call("raw socket call", 41, "2, 1, 0, 0"),
    _call("io_uring", 425, "8, 0, 0, 0"),
    # secrets and files
    Attack("environment", "import os\nif HOST.secret in repr(dict(os.environ)): print('ESC' + 'APED')"),
    Attack("environment in memory", f"{CTYPES}libc.getenv.restype = ctypes.c_char_p\n"
           "if libc.getenv(b'STILLROOM_SECRET'): print('ESC' + 'APED')"),
    _reach("the host's file", "open(HOST.file).read()"),
    _reach("password file", "open('/etc/passwd').read()"),
    _reach("parent folders", "open('../' * 40 + 'etc/passwd').read()"),
    _reach("library files", "open(os.__file__).read()"),
    Attack("anything above", "import os\nif os.listdir('/') or os.listdir('/..'): print('ESC' + 'APED')"),
    _reach("symlink", "(os.symlink('/etc/passwd', 's'), open('s').read())"),
    _reach("hard link", "os.link('/etc/passwd', 'h')"),
    _reach("processes", "os.listdir('/proc')"),
    _reach("own memory map", "open('/proc/self/maps').read()"),
    _reach("the keeper's memory", "open('/proc/1/mem', 'rb').read(1)"),
    _reach("the keeper's environment", "open('/proc/1/environ', 'rb').read()"),
    _reach("device", "open('/dev/mem', 'rb').read(1)"),
    _reach("making a device", "os.mknod('d', 0o60600, os.makedev(254, 0))"),
    _reach("making a pipe that others open", "os.mkfifo('p')"),
    _reach("changing the root", "os.chroot('.')"),
    _call("mount", 165, "b'tmpfs', b'/', b'tmpfs', 0, 0"),
    _call("unshare", 272, "0x10000000"),
    _call("setns", 308, "0, 0"),
    _call("pivot_root", 155, "b'.', b'.'"),
    _call("open by handle", 304, "0, 0, 0"),
    _call("memory without a name", 319, "b'x', 0"),
    _call("keys", 250, "0, 0, 0, 0, 0"),
    _call("user faults", 323, "0"),
    _call("bpf", 321, "0, 0, 0"),
    _call("perf", 298, "0, 0, -1, -1, 0"),
    _call("kernel module", 175, "0, 0, b''"),
    _call("reboot", 169, "0xfee1dead, 672274793, 0, 0"),
    # rights and other processes
    _reach("becoming root", "os.setuid(0)"),
    _reach("signal to the keeper", "os.kill(1, 9)"),
    _reach("signal to everybody", "os.kill(-1, 9)"),
    _reach("signal to the host", "os.kill(HOST.pid, 9)"),
    _call("signal to a thread", 200, "1, 9"),
    _call("signal with data", 129, "1, 9, 0"),
    Attack("signal through a descriptor", f"{CTYPES}import os\nr, w = os.pipe()\n"
           "if libc.fcntl(r, 8, 1) == 0 or libc.fcntl(r, 10, 9) == 0: print('ESC' + 'APED')"),
    _call("ptrace", 101, "16, 1, 0, 0"),
    _call("reading another process", 310, "1, 0, 0, 0, 0, 0"),
    _call("descriptor of a process", 434, "1, 0"),
    _call("limits of another process", 302, "0, 7, b'x' * 16, 0"),
    _reach("raising a limit", "__import__('resource').setrlimit(7, (10 ** 6, 10 ** 6))"),
    _call("undoing the filter", 317, "1, 0, 0"),
    _call("prctl", 157, "38, 0, 0, 0, 0"),
    _call("32-bit numbers", 0x40000000 + 39, "0"),
    Attack("32-bit gate", f"{CTYPES}import mmap\nm = mmap.mmap(-1, 4096, prot=7)\n"
           "m.write(bytes([0x6A, 0x14, 0x58, 0xCD, 0x80, 0xC3]))\n"
           "at = ctypes.addressof(ctypes.c_char.from_buffer(m))\n"
           "if ctypes.CFUNCTYPE(ctypes.c_int)(at)() > 0: print('ESC' + 'APED')"),
    # descriptors and the channel of results
    Attack("foreign descriptors", "import os\nfor n in range(256):\n"
           "    try: found = os.read(n, 100) if n != 3 else b''\n"
           "    except OSError: continue\n    if found: print('ESC' + 'APED', found)"),
    Attack("closing the channel", "import os\nos.close(3)"),
    Attack("closing everything", "import os\nos.closerange(0, 256)"),
    Attack("nonsense in the channel", "import os\n"
           "os.write(3, b'\\x00\\xff{{{\\n' * 100)\nwhile True: pass"),
    Attack("a flood in the channel", "import os\nwhile True: os.write(3, b'x' * 65536)"),
    Attack("a flood of calls", "import os\n"
           "while True: os.write(3, b'{\"call\": \"search\", \"args\": [], \"named\": {}}\\n')"),
    Attack("half a result", "import os\nos.write(3, b'{\"output\": \"')\nwhile True: pass"),
    Attack("results ahead of time", "import os\nfor _ in range(50): os.write(3, b'{\"output\": \"forged\"}\\n')"),
    Attack("nested brackets in the channel", "import os\nos.write(3, b'[' * 100000 + b'\\n')\nwhile True: pass"),
    Attack("wrong types in the channel", "import os\n"
           "os.write(3, b'{\"output\": {\"a\": 1}, \"value\": 3, \"final\": []}\\n')"),
    Attack("a tool that is not there", "import os\n"
           "os.write(3, b'{\"call\": \"os.system\", \"args\": [\"id\"], \"named\": 5}\\n')"),
    Attack("descriptors into the keeper", f"{CTYPES}import array, os, socket\n"
           "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=3)\nfor _ in range(500):\n"
           "    s.sendmsg([b' '], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0, 1, 2]))])"),
    Attack("a forged process number", "import os, socket, struct\n"
           "s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=3)\n"
           "s.sendmsg([b' '], [(socket.SOL_SOCKET, 2, struct.pack('iII', 1, 0, 0))])\nprint('ESC' + 'APED')"),
    # Python
    Attack("subclasses", "for c in ().__class__.__base__.__subclasses__():\n    if c.__name__ == 'Popen':\n"
           f"        c(['id'])\n        {YES}"),
    _reach("frames", "[f for f in iter(lambda: sys._getframe(40), 0)]"),
    Attack("exit", "import sys\nsys.exit(0)"),
    Attack("hard exit", "import os\nos._exit(0)"),
    Attack("abort", "import os\nos.abort()"),
    Attack("at exit", "import atexit, os\natexit.register(os.fork)\nraise SystemExit(7)"),
    Attack("crash", f"{CTYPES}ctypes.string_at(0)"),
    Attack("deep recursion", "def f(): return f()\nf()"),
    Attack("recursion without a limit", "import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): return f()\nf()"),
    Attack("nested source", "(" * 10000 + ")" * 10000),
    Attack("trace function", "import sys\ndef t(*a):\n    while True: pass\nsys.settrace(t)\ndef f(): pass\nf()"),
    Attack("hostile repr", "class A:\n    def __repr__(self):\n        while True: pass\nA()"),
    Attack("hostile error", "class E(Exception):\n    def __str__(self):\n        raise KeyboardInterrupt\nraise E"),
    Attack("hostile base error", "class E(BaseException):\n    def __str__(self):\n        while True: pass\nraise E"),
    Attack("pickle in a result", "class A:\n    def __reduce__(self): return (print, ('ESC' + 'APED',))\nA()"),
    Attack("NUL and controls", r"print('\x00\x1b[2J\r\x07\u202e\ud800')" + "\n'\\x00\\ud800'"),
    Attack("a lone surrogate in the source", "print('\ud800')"),
    Attack("NUL in the source", "print(1)\x00"),
    Attack("no streams", "import sys\nsys.stdout = None\nprint(1)\ndel sys.stdout, sys.stderr"),
    Attack("no builtins", "import builtins\nfor n in list(vars(builtins)): delattr(builtins, n)"),
    Attack("no json", "import json\njson.dumps = None\njson.loads = None"),
    Attack("a stolen loop", "import sys\nf = sys._getframe()\nwhile f.f_back: f = f.f_back\nf.f_globals.clear()"),
)  # fmt: skip
