"""Programs that try to get out, to do harm, or to be found right: all contained, whatever the walls are made of.

A program prints "contained" where its attempt fails. The default run tries everything with the walls chosen here;
TREEWISE_FULL=1 tries it with every kind that works.
"""

# ruff: noqa: E501 (programs in tables)

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from verifiers.grade.code.program import Program
from verifiers.grade.code.sandbox import NoIsolation, Sandbox
from verifiers.grade.code.verdict import Trial

FULL = os.environ.get("TREEWISE_FULL") == "1"
ROOT = Path(__file__).resolve().parents[4]
SECRET = "the secret of the parent"
CTYPES = "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\n"
CALL = CTYPES + "def call(*a):\n    if libc.syscall(*a) == -1: raise OSError(ctypes.get_errno(), 'refused')\n"

# what is tried: a statement that must raise OSError or print nothing of the secret
REFUSED = {
    "read the parent's file": "print(open(SECRET_FILE).read())",
    "read the users of the system": "open('/etc/passwd').read(); open('/etc/shadow').read()",
    "list the project": "print(os.listdir(PROJECT + '/tests'))",
    "list the home folder": "print(os.listdir('/root/.ssh'))",
    "climb out of the scratch folder": "print(open('../' * 20 + SECRET_FILE[1:]).read())",
    "a symbolic link to outside": "os.symlink(SECRET_FILE, 'link'); print(open('link').read())",
    "a symbolic link to a folder outside": "os.symlink('/', 'root'); open('root/' + SECRET_FILE[1:], 'w')",
    "a hard link to the system": "os.link('/usr/bin/env', 'env'); open('env', 'r+b')",
    "the root of process 1": "print(open('/proc/1/root' + SECRET_FILE).read())",
    "its own root by another name": "print(open('/proc/self/root' + SECRET_FILE).read())",
    "write to the root": "open('/x', 'w')",
    "write to /usr": "open('/usr/x', 'w')",
    "write to /etc": "open('/etc/ld.so.preload', 'w')",
    "write to Python": "open(os.path.join(sys.prefix, 'x.pth'), 'w')",
    "overwrite the interpreter": "open(os.path.realpath(sys.executable), 'r+b')",
    "empty the standard library": "os.open(os.__file__, os.O_WRONLY)",
    "delete the parent's file": "os.remove(SECRET_FILE)",
    "rename the parent's file": "os.rename(SECRET_FILE, SECRET_FILE + '2')",
    "date of the parent's file": "os.utime(SECRET_FILE, (0, 0))",
    "rights of the parent's file": "os.chmod(SECRET_FILE, 0o777)",
    "a device of one's own": "os.mknod('disk', 0o60666, os.makedev(254, 0)); os.open('disk', os.O_RDONLY)",
    "the disk": "os.open('/dev/vda', os.O_RDONLY)",
    "the memory of the machine": "os.open('/dev/mem', os.O_RDONLY)",
    "core pattern": "open('/proc/sys/kernel/core_pattern', 'w').write('|/bin/true')",
    "system request": "open('/proc/sysrq-trigger', 'w').write('b')",
    "memory of the supervisor": "open(f'/proc/{os.getppid()}/mem', 'r+b').read(1)",
    "environment of the supervisor": "print(open(f'/proc/{os.getppid()}/environ').read()[0])",
    "trace the supervisor": CALL + "call(101, 16, os.getppid(), 0, 0)",
    "read another's memory": CALL + "b = ctypes.create_string_buffer(64)\ncall(310, os.getppid(), b, 1, b, 1, 0)",
    "signal the supervisor": "import signal\nos.kill(os.getppid(), signal.SIGUSR1)\nraise OSError('ignored, as it must be')",
    "kill the parent": "os.kill(PARENT, 9)",
    "stop the parent's group": "os.killpg(PARENT_GROUP, 19)",
    "limits of the supervisor": "import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))",
    "raise a hard limit": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))",
    "raise the limit of time": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (-1, -1))",
    "a higher priority": "os.nice(-10)",
    "real time": "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))",
    "priority of the supervisor": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "become root": "os.setuid(0); open('/root/x', 'w')",
    "groups of root": "os.setgroups([0])",
    "a namespace of one's own": CTYPES + "if libc.unshare(0x10000000): raise OSError('refused')",
    "a namespace by clone": CALL + "call(56, 0x10000000 | 17, 0, 0, 0, 0)",
    "the namespace of process 1": "os.setns(os.open('/proc/1/ns/mnt', 0)) if hasattr(os, 'setns') else open('/x', 'w')",
    "mount": CTYPES + "if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None): raise OSError('refused')",
    "unmount": CTYPES + "if libc.umount2(b'/proc', 2): raise OSError('refused')",
    "another root": "os.chroot('.')",
    "host name": "socket.sethostname('x')",
    "the clock": "time.clock_settime(time.CLOCK_REALTIME, 0)",
    "load a kernel module": CALL + "call(313, 0, b'', 0)",
    "a kernel program": CALL + "call(321, 0, 0, 0)",
    "the kernel's rings": CALL + "call(425, 8, ctypes.create_string_buffer(120))",
    "the kernel's keys": CALL + "call(250, 0, -3, 0)",
    "performance counters": CALL + "call(298, ctypes.create_string_buffer(120), 0, -1, -1, 0)",
    "a file by handle": CALL + "call(304, 3, ctypes.create_string_buffer(64), 0)",
    "the internet": "socket.create_connection(('192.0.2.1', 80), 2)",
    "a server of the parent": "socket.create_connection(('127.0.0.1', PORT), 2)",
    "a datagram to the parent": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "a server over IPv6": "socket.create_connection(('::1', PORT), 2)",
    "names of hosts": "socket.getaddrinfo('example.org', 80)",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "the host of a virtual machine": "socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).connect((2, 1))",
    "routes of the kernel": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a local socket of the parent": "socket.socket(socket.AF_UNIX).connect(LOCAL)",
    "an abstract socket of the parent": "socket.socket(socket.AF_UNIX).connect(ABSTRACT)",
    "files left open": "for fd in range(4, 1000): os.fstat(fd); os.write(fd, b'x')",
    "the scratch folder overfull": "for i in range(100): open(str(i), 'wb').write(b'x' * (1 << 20))",
    "a file too large": "f = open('big', 'wb')\nfor _ in range(100): f.write(b'x' * (1 << 20)); f.flush()",
    "shared memory": "from multiprocessing import shared_memory\nshared_memory.SharedMemory(create=True, size=1 << 20)",
}  # fmt: skip
# holes of the second choice that its documentation names
BY_NAMESPACE_ONLY = {"limits": {"the scratch folder overfull"}, "bubblewrap": {"the scratch folder overfull"}}

# programs whose verdict is not decided by what they print
JUDGED = {
    "sleeps for ever": ("import time\ntime.sleep(1e6)", "timeout"),
    "waits for a signal": ("import signal\nsignal.pause()", "timeout"),
    "computes for ever": ("while True: pass", "timeout"),
    "ignores every signal": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
        "timeout",
    ),
    "catches everything": ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", "timeout"),
    "computes in children": ("import os\nfor _ in range(3):\n    if not os.fork():\n        while True: pass\nos.wait()", "timeout"),
    "computes inside C": ("print(10 ** 10 ** 8 % 7)", "timeout"),
    "memory bomb": ("a = []\nwhile True: a.append(bytearray(1 << 24))", "memory"),
    "one large list": ("a = [0] * 10 ** 9", "memory"),
    "memory in children": (
        "import os, time\nfor _ in range(8):\n    if not os.fork():\n        a = bytearray(b'x') * (100 << 20)\n        time.sleep(60)\n"
        "time.sleep(60)",
        "memory",
    ),
    "fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", None),
    "fork bomb that gives up": ("import os\nwhile True: os.fork()", "error"),
    "thread bomb": ("import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(60,)).start()", None),
    "output flood": ("while True: print('x' * 10000)", "error"),
    "flood from a child": ("import os\nif not os.fork():\n    while True: os.write(1, b'x' * 4096)\nos.wait()", "error"),
    "crash": ("import ctypes\nctypes.string_at(0)", "error"),
    "deep recursion": ("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(): f()\nf()", None),
    "abort": ("import os\nos.abort()", "error"),
    "kills itself": ("import os\nos.kill(os.getpid(), 9)", "error"),
    "leaves without a word": ("import os\nos._exit(0)", "wrong"),
    "deep nesting": ("(" * 100_000, "error"),
    "a source that is no text": ("\0", "error"),
    "closes everything": ("import os\nos.closerange(0, 1000)\nprint('x')", None),
    "kills all it can": ("import os\nos.kill(-1, 9)", None),
    "floods standard error": ("import sys\nfor _ in range(100): sys.stderr.write('x' * 100000)\nprint('contained')", "right"),
    "zombies": ("import os\nfor _ in range(8):\n    if not os.fork(): os._exit(0)\nprint('contained')", "right"),
    "deletes the scratch folder": (
        "import os, shutil\nshutil.rmtree(os.getcwd(), ignore_errors=True)\nprint('contained')",
        "right",
    ),
    "locks the scratch folder": (
        "import os\nos.mkdir('a')\nopen('a/b', 'w').close()\n\ntry:\n    os.chmod('a', 0)\n    os.chmod('.', 0)\nexcept OSError: pass\nprint('contained')",
        "right",
    ),
    "leaves a daemon": (
        "import os, time\nif not os.fork():\n    try: os.setsid()\n    except OSError: pass\n    if not os.fork():\n        time.sleep(600)\n"
        "    os._exit(0)\nos.wait()\nprint('contained')",
        "right",
    ),
}  # fmt: skip

# functions that want to be found right without an answer
FORGED = {
    "a value that equals everything": "class E(int):\n    def __eq__(self, o): return True\ndef f(): return E()",
    "an object that equals everything": "class E:\n    def __eq__(self, o): return True\ndef f(): return E()",
    "a message of its own": "import os\ndef f():\n    os.write(3, b'{\"value\": true}')\n    os._exit(0)",
    "leaves": "import os\ndef f(): os._exit(0)",
    "leaves while it loads": "import os\nos._exit(0)\ndef f(): pass",
    "takes over the harness": (
        "import sys\nfor m in list(sys.modules.values()):\n    if 'grade' in getattr(m, '__name__', ''):\n"
        "        for n in list(vars(m)):\n            if n[:2] != '__': setattr(m, n, lambda *a, **k: True)\ndef f(): return None"
    ),
    "takes over Python": "import builtins\nbuiltins.AssertionError = Exception\nbuiltins.isinstance = lambda *a: True\ndef f(): return None",
    "looks through memory": (
        "import gc\ndef f():\n    for o in gc.get_objects():\n        if isinstance(o, dict) and 'output' in o and 'input' in o:\n"
        "            return o['output']"
    ),
    "raises what a check raises": "def f(): raise AssertionError",
    "an unusual truth": "class T:\n    def __bool__(self): return True\ndef f(): return T()",
}  # fmt: skip


@pytest.fixture(scope="module", params=["auto", "namespaces", "bubblewrap", "limits"] if FULL else ["auto"])
def walls(request, limits):
    made = Sandbox(request.param, limits)
    try:
        made.start()
    except NoIsolation as error:
        pytest.skip(f"not on this machine: {error}")
    yield made
    made.close()


@pytest.fixture(scope="module")
def outside():
    """What a program might reach: a file, servers, this process."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as server, socket.socket(socket.AF_UNIX) as local:
        secret = Path(folder, "secret")
        secret.write_text(SECRET)
        secret.chmod(0o644)
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.setblocking(False)
        local.bind(f"{folder}/socket")
        local.listen()
        with socket.socket(socket.AF_UNIX) as abstract:
            name = f"\0treewise-{os.getpid()}"
            abstract.bind(name)
            abstract.listen()
            yield secret, {
                "SECRET_FILE": str(secret), "PROJECT": str(ROOT), "PARENT": os.getpid(), "PARENT_GROUP": os.getpgrp(),
                "PORT": server.getsockname()[1], "LOCAL": f"{folder}/socket", "ABSTRACT": name,
            }  # fmt: skip
        with pytest.raises(BlockingIOError):
            server.accept()


def judged(walls, code, mode="stdin", tests=None):
    """The verdict, by a sandbox of the test's own."""
    trial = Trial(Program(code, mode, "" if mode == "stdin" else "f"), tests or [{"input": "", "output": "contained"}])
    return trial.verdict(walls.run(trial.program, [case.given for case in trial._cases]))


@pytest.fixture(scope="module")
def attempts(walls, outside):
    """What every attempt printed: all of them in one sandbox, each in a process of its own."""
    names = "\n".join(f"{key} = {value!r}" for key, value in outside[1].items())
    tried = []
    for statement in REFUSED.values():
        lines = "\n".join(f"    {line}" for line in statement.splitlines())
        refused = "except (OSError, ValueError, AttributeError): print('contained')"
        tried.append(f"import os, sys, socket, time\n{names}\ntry:\n{lines}\n{refused}".encode())
    runs = walls.run(Program("import sys\nexec(sys.stdin.read())"), tried)
    return dict(zip(REFUSED, runs, strict=True))


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name, attempts, walls, outside):
    if name in BY_NAMESPACE_ONLY.get(walls.kind, ()):
        pytest.skip("the second choice limits the size of each file, not of all together")
    assert (attempts[name].end, attempts[name].output) == ("done", b"contained\n"), attempts[name]
    secret = outside[0]
    assert secret.read_text() == SECRET and secret.stat().st_mode & 0o777 == 0o644 and secret.stat().st_mtime > 1


@pytest.mark.parametrize("name", JUDGED)
def test_the_verdict_is_right(name, walls):
    code, kind = JUDGED[name]
    verdict = judged(walls, code)
    assert verdict.kind == kind if kind else verdict.kind in ("error", "wrong", "memory", "timeout"), verdict
    assert judged(walls, "print('contained')").kind == "right", "the next program is not affected"


@pytest.mark.parametrize("name", FORGED)
def test_nobody_is_right_without_the_answer(name, walls):
    expected = {"input": "", "output": "[4, 2]"}
    assert judged(walls, FORGED[name], "call", [expected]).kind in ("wrong", "error"), name
    verdict = judged(
        walls, FORGED[name], "check", ["assert f() == [4, 2]", "x = f()\nassert x", "assert f() is True"][:2]
    )
    assert verdict.passed == 0, verdict


def test_nothing_is_left_between_tests_and_programs(walls):
    code = "import os\nprint(sorted(os.listdir('.')))\nopen('left', 'w').close()"
    tests = [{"input": "", "output": "[]"}] * 3
    for _ in range(2):
        verdict = judged(walls, code, tests=tests)
        assert verdict.kind == "right", verdict


def test_nothing_is_left_behind():
    """Of everything above: no process, no folder. The sandbox itself is another process of ours."""
    made = Sandbox("auto")
    before = Counter(os.listdir(tempfile.gettempdir()))
    made.run(Program("import os, time\nif not os.fork():\n    time.sleep(600)"), [b""])
    made.settle()
    assert children(made._process.pid) == []
    zygote = made._process.pid
    made.close()
    assert not Path(f"/proc/{zygote}").exists()
    assert Counter(os.listdir(tempfile.gettempdir())) - before == Counter()


def children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def test_a_killed_sandbox_takes_everything_along(limits):
    """The program is in the middle of its work when its sandbox, or the parent of the sandbox, dies."""
    code = (
        "import os, subprocess, sys, time\nfrom verifiers.grade.code.sandbox import Sandbox\n"
        "from verifiers.grade.code.program import Program\nimport threading\nbox = Sandbox('auto')\nbox.start()\n"
        "print(box._process.pid, flush=True)\n"
        "threading.Thread(target=box.run, args=(Program('import time\\ntime.sleep(600)'), [b'']), daemon=True).start()\n"
        "time.sleep(600)"
    )
    import subprocess

    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True
    )
    zygote = int(parent.stdout.readline())
    until = time.monotonic() + 60
    while not (family := tree(zygote)) or len(family) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    while any(Path(f"/proc/{pid}").exists() for pid in [zygote, *family]):
        assert time.monotonic() < until, "something outlived its parent"
        time.sleep(0.05)


def tree(pid: int) -> list[int]:
    try:
        found = [int(child) for child in children(pid)]
    except OSError:
        return []
    return [each for child in found for each in (child, *tree(child))]
