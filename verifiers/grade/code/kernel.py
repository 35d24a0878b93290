"""The system calls the sandbox is made of, through ctypes: namespaces, mounts, capabilities. Linux only."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from typing import Any

NEW_TIME, NEW_MOUNT, NEW_CGROUP, NEW_UTS = 0x80, 0x20000, 0x2000000, 0x4000000
NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x8000000, 0x10000000, 0x20000000, 0x40000000

READ_ONLY, NO_SUID, NO_DEV, REMOUNT, BIND, RECURSIVE, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
DETACH = 2
MACHINE = platform.machine()
# system calls that Python does not wrap: the same numbers on every architecture, but for the last two
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
PIVOT_ROOT, CAPSET = {"x86_64": (155, 126), "aarch64": (41, 91)}.get(MACHINE, (-1, -1))
EMPTY_PATH, AT_RECURSIVE, TREE_CLONE, CLOSE_ON_EXEC, FROM_FD = 0x1000, 0x8000, 1, 0x80000, 4
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38


@functools.cache
def libc() -> Any:
    """The C library, with errors kept."""
    return ctypes.CDLL(None, use_errno=True)


def checked(name: str, result: int) -> int:
    """The result of a call; raises OSError where it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def call(name: str, number: int, *arguments: Any) -> int:
    """A system call by number; raises OSError."""
    return checked(name, libc().syscall(ctypes.c_long(number), *arguments))


def prctl(option: int, value: int, also: Any = 0) -> None:
    """Change something about this process; raises OSError."""
    checked(f"prctl({option})", libc().prctl(option, ctypes.c_ulong(value), also, 0, 0))


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; raises OSError."""
    checked("unshare", libc().unshare(flags))


def mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    """Mount a file system; raises OSError."""
    done = libc().mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), options.encode())
    checked(f"mount {target}", done)


def unmount(target: str) -> None:
    """Take a mount away, whoever still uses it; raises OSError."""
    checked(f"umount {target}", libc().umount2(target.encode(), DETACH))


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def tree(path: str, attributes: int) -> int:
    """A copy of the mounts at and under `path`, with READ_ONLY, NO_SUID, NO_DEV set throughout; its file number."""
    fd = call("open_tree", OPEN_TREE, -100, path.encode(), TREE_CLONE | CLOSE_ON_EXEC | AT_RECURSIVE)
    wanted = _MountAttributes(set=attributes)
    flags = EMPTY_PATH | AT_RECURSIVE
    call("mount_setattr", MOUNT_SETATTR, fd, b"", flags, ctypes.byref(wanted), ctypes.sizeof(wanted))
    return fd


def attach(fd: int, target: str) -> None:
    """Mount what `tree` copied at `target`, and close it."""
    call("move_mount", MOVE_MOUNT, fd, b"", -100, target.encode(), FROM_FD)
    os.close(fd)


def pivot(root: str) -> None:
    """Make `root`, a mount point, the root of this process; the old root is gone."""
    os.chdir(root)
    call("pivot_root", PIVOT_ROOT, b".", b".")
    unmount(".")
    os.chdir("/")


def drop_capabilities() -> None:
    """Give up every capability for good; without capabilities this does nothing."""
    for number in range(64):
        if libc().prctl(PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0) < 0:
            break
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    call("capset", CAPSET, header, (ctypes.c_uint32 * 6)())
