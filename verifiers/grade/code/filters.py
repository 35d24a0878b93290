"""What a program may not ask of the kernel: a filter of system calls (seccomp), and of files (Landlock)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Sequence

from verifiers.grade.code import kernel

# numbers on x86_64 and aarch64; None where there is no such call
NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432),
    "fspick": (433, 433), "mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106),
    "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "quotactl": (179, 60),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "syslog": (103, 116),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
    "sethostname": (170, 161), "setdomainname": (171, 162), "personality": (135, 92), "vhangup": (153, 58),
    "fanotify_init": (300, 262), "lookup_dcookie": (212, 18), "ioperm": (173, None), "iopl": (172, None),
    "modify_ldt": (154, None), "mbind": (237, 235), "migrate_pages": (256, 238), "move_pages": (279, 239),
    "landlock_create_ruleset": (444, 444), "memfd_secret": (447, 447),
}  # fmt: skip
KILLS: dict[str, tuple[int | None, int | None]] = {
    "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "setsid": (112, 157), "setpgid": (109, 154),
}  # fmt: skip
# Landlock guards what is in files, not who owns them
RIGHTS_OF_FILES: dict[str, tuple[int | None, int | None]] = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utimensat": (280, 88), "utimes": (235, None),
    "futimesat": (261, None), "utime": (132, None), "setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7),
    "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "setxattrat": (463, 463),
    "removexattrat": (466, 466), "file_setattr": (469, 469),
}  # fmt: skip
WRITES: dict[str, tuple[int | None, int | None]] = {
    "creat": (85, None), "truncate": (76, 45), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "mkdir": (83, None), "mkdirat": (258, 34), "rmdir": (84, None),
    "link": (86, None), "linkat": (265, 37), "symlink": (88, None), "symlinkat": (266, 36), "mknod": (133, None),
    "mknodat": (259, 33), "openat2": (437, 437),
}  # fmt: skip
# only about the process itself: this argument must be 0
SELF_ONLY = {
    "prlimit64": (302, 261, 0), "sched_setscheduler": (144, 119, 0), "sched_setparam": (142, 118, 0),
    "sched_setattr": (314, 274, 0), "sched_setaffinity": (203, 122, 0), "setpriority": (141, 140, 1),
    "ioprio_set": (251, 30, 1),
}  # fmt: skip
CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
KILL, TGKILL, OPEN, OPENAT = (62, 129), (234, 131), (2, None), (257, 56)
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NAMESPACES = 0x7E020000  # every CLONE_NEW flag of clone
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LOCAL = 1  # AF_UNIX, which asyncio and multiprocessing need

LOAD, EQUAL, AT_LEAST, MASKED, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
ALLOW, KILL_PROCESS, DENY = 0x7FFF0000, 0x80000000, 0x00050000


def supported() -> bool:
    """Whether the numbers of this machine's system calls are known."""
    return kernel.MACHINE in ARCHITECTURES


def program(*, group: bool, frozen: bool, pid: int) -> bytes:
    """The filter, as instructions of the kernel's packet filter.

    Args:
        group: no process may leave its group or signal one outside, change who may do what with a file, or open a
            socket, for use without namespaces.
        frozen: no file may be opened for writing or changed, for use without Landlock.
        pid: of the process that will be filtered.
    """
    column = list(ARCHITECTURES).index(kernel.MACHINE)
    code = [
        _jump(LOAD, 4),  # the architecture
        _jump(EQUAL, ARCHITECTURES[kernel.MACHINE], 1, 0),
        _jump(RETURN, KILL_PROCESS),
        _jump(LOAD, 0),  # the number
    ]
    if kernel.MACHINE == "x86_64":  # the other numbering of the same machine
        code += [_jump(AT_LEAST, 0x40000000, 0, 1), _jump(RETURN, DENY | errno.ENOSYS)]
    tables = [NUMBERS, *([KILLS, RIGHTS_OF_FILES] if group else []), *([WRITES] if frozen else [])]
    for table in tables:
        for numbers in table.values():
            if numbers[column] is not None:
                code += [_jump(EQUAL, numbers[column], 0, 1), _jump(RETURN, DENY | errno.EPERM)]
    # glibc falls back to clone, whose flags can be read
    code += [_jump(EQUAL, CLONE3[column], 0, 1), _jump(RETURN, DENY | errno.ENOSYS)]
    code += _argument(CLONE[column], 0, MASKED, NAMESPACES, allow=False)
    # with a file system of its own, a program meets nobody at a local address; pairs of sockets are always allowed
    code += _argument(SOCKET[column], 0, EQUAL, 0xFFFF if group else LOCAL, allow=True)
    for x86, arm, place in SELF_ONLY.values():
        code += _argument((x86, arm)[column], place, EQUAL, 0, allow=True)
    if group:
        code += _argument(TGKILL[column], 0, EQUAL, pid, allow=True)
        code += _argument(KILL[column], 0, EQUAL, pid, allow=True)
    if frozen:
        code += _argument(OPENAT[column], 2, MASKED, WRITING, allow=False)
        if (plain := OPEN[column]) is not None:
            code += _argument(plain, 1, MASKED, WRITING, allow=False)
    return b"".join([*code, _jump(RETURN, ALLOW)])


def _jump(code: int, value: int | None, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value or 0)


def _argument(number: int, place: int, test: int, value: int, *, allow: bool) -> list[bytes]:
    """For system call `number`: EPERM unless (allow) or if (not allow) the test of its argument holds."""
    return [
        _jump(EQUAL, number, 0, 4),
        _jump(LOAD, 16 + 8 * place),
        _jump(test, value, *((1, 0) if allow else (0, 1))),
        _jump(RETURN, DENY | errno.EPERM),
        _jump(RETURN, ALLOW),
    ]


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(code: bytes) -> None:
    """Filter this process and all it starts, for good; raises OSError."""
    whole = _Program(len(code) // 8, code)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.prctl(22, 2, ctypes.byref(whole))


CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
# rights on files by version: 13 at first, then refer, truncate, ioctl on devices
RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
READING = 1 << 0 | 1 << 2 | 1 << 3  # execute, read a file, read a folder
OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15


def landlock_version() -> int:
    """The kernel's version of Landlock; 0 without it."""
    try:
        return kernel.call("landlock", CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


def confine(readable: Sequence[str], writable: Sequence[str]) -> None:
    """Close every file to this process but those at and under these paths; no network; no signals outside."""
    version = landlock_version()
    rights = RIGHTS[min(version, 5)]
    wanted = struct.pack("=QQQ", rights, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = kernel.call("landlock", CREATE_RULESET, wanted, size, 0)
    for paths, allowed in ((readable, READING), (writable, rights)):
        for path in paths:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed_here = allowed if os.path.isdir(path) else allowed & OF_FILES & rights
            kernel.call("landlock", ADD_RULE, rules, 1, struct.pack("=Qi", allowed_here, fd), 0)
            os.close(fd)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.call("landlock", RESTRICT_SELF, rules, 0)
    os.close(rules)
