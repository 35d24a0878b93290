"""The walls: how a process shuts itself off. Runs inside the process that is shut off, before any program does.

namespaces  a root of its own, read-only, with the system's and Python's files alone; no network; per program a
            process namespace and a scratch folder in memory; a user that owns nothing outside; no capabilities;
            no dangerous system calls.
limits      in place of namespaces: Landlock (no file but those may be read, none but the scratch folder written),
            no signals and no way out of the process group. Without Landlock files can be read but not written,
            not even in the scratch folder.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verifiers.grade.code import filters, kernel

SCRATCH = "/tmp/scratch"
OLD_PROC = "/.proc"
DEVICES = ("null", "zero", "full", "random", "urandom")
STACK = 64 << 20  # bytes; deep recursion of programs needs it


def readable() -> list[str]:
    """The files and folders a program may read: the system's, and those of this Python."""
    system = [path for path in ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/lib32") if os.path.exists(path)]
    python = dict.fromkeys(os.path.realpath(path) for path in (sys.base_prefix, sys.prefix))
    found = [*system, *(path for path in python if not Path(path).is_relative_to("/usr")), "/etc/ld.so.cache"]
    return [path for path in found if os.path.exists(path)]


def leave(mapped: Callable[[], None]) -> None:
    """Leave for a root, a user and a network of one's own.

    Args:
        mapped: returns when somebody outside has mapped our users 0 and 1, or ours alone (`map_users`).
    """
    kernel.unshare(kernel.NEW_USER | kernel.NEW_MOUNT | kernel.NEW_NET | kernel.NEW_UTS | kernel.NEW_CGROUP)
    mapped()
    kernel.mount("none", "/", "", kernel.RECURSIVE | kernel.PRIVATE)
    walled = kernel.READ_ONLY | kernel.NO_SUID | kernel.NO_DEV
    # copied while we may still look into every folder
    copies: list[tuple[str, int | str]] = [
        (path, os.readlink(path) if os.path.islink(path) else kernel.tree(path, walled)) for path in readable()
    ]
    copies += [(f"/dev/{name}", kernel.tree(f"/dev/{name}", kernel.NO_SUID)) for name in DEVICES]
    copies.append((OLD_PROC, kernel.tree("/proc", walled)))
    folders = {path for path, _ in copies if not os.path.islink(path) and os.path.isdir(path)} | {OLD_PROC}
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    root = "/tmp"
    kernel.mount("root", root, "tmpfs", kernel.NO_SUID | kernel.NO_DEV, "mode=755,size=1m")
    for path, copy in copies:
        place = Path(root + path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(copy, str):
            place.symlink_to(copy)
            continue
        place.mkdir(exist_ok=True) if path in folders else place.touch()
        kernel.attach(copy, str(place))
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{root}/dev/{name}")
    for folder in ("/proc", SCRATCH):
        os.makedirs(root + folder)
    kernel.pivot(root)
    kernel.mount("none", "/", "", kernel.REMOUNT | kernel.BIND | walled)


def map_users(pid: int) -> None:
    """Give process `pid`, which has just left, its users; called from outside.

    A privileged caller gives it two that own nothing anywhere, 0 inside for our own code and 1 for programs; anybody
    else can give it themselves only.
    """
    if os.geteuid() == 0:
        first = 2_000_000 + 2 * pid
        users = f"0 {first} 2\n"
    else:
        Path(f"/proc/{pid}/setgroups").write_text("deny")
        users = f"0 {os.geteuid()} 1\n"
    Path(f"/proc/{pid}/uid_map").write_text(users)
    Path(f"/proc/{pid}/gid_map").write_text(users if os.geteuid() == 0 else f"0 {os.getegid()} 1\n")


def enter() -> None:
    """In the first process of a new process namespace: see its own processes only."""
    kernel.mount("proc", "/proc", "proc", kernel.READ_ONLY | kernel.NO_SUID | kernel.NO_DEV)
    kernel.unmount(OLD_PROC)


def fresh_scratch(size: int, again: bool) -> None:
    """An empty scratch folder of `size` bytes at most, in memory; `again`: in place of the last one."""
    os.chdir("/")
    if again:
        kernel.unmount(SCRATCH)
    flags = kernel.NO_SUID | kernel.NO_DEV
    kernel.mount("scratch", SCRATCH, "tmpfs", flags, f"mode=777,size={size},nr_inodes=4096")


def limit(limits: dict[str, Any]) -> None:
    """Limits of the kernel for this process and all it starts; they can only be lowered from here on."""
    cpu = int(limits["cpu"]) + 2  # the supervisor is more exact; this holds where it cannot see
    wanted = {
        resource.RLIMIT_AS: limits["memory"],
        resource.RLIMIT_CPU: cpu,
        resource.RLIMIT_FSIZE: limits["file"],
        resource.RLIMIT_NPROC: limits["nproc"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_STACK: STACK,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for kind, most in wanted.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def shut(kind: str, limits: dict[str, Any], scratch: str, user: int | None) -> None:
    """The last walls, in the process that is about to run a program.

    Args:
        kind: "namespaces", "limits" or "none".
        scratch: the scratch folder.
        user: becomes this user of its namespace; None stays who it is, for want of others.
    """
    os.chdir(scratch)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    limit(limits)
    if kind == "none":
        return
    kernel.drop_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # a change of user hid its own /proc/self from it
    files = kind == "limits" and filters.landlock_version() > 0
    if files:
        filters.confine([*readable(), *(f"/dev/{name}" for name in DEVICES)], [scratch, "/dev/null"])
    group = kind == "limits"
    filters.install(filters.program(group=group, frozen=group and not files, pid=os.getpid()))
