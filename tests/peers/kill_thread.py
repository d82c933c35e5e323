"""Ends one thread of a process as a fault within it would: no code of the thread's runs any more.

    kill_thread.py PID NAME

The thread must be waiting in a system call; it is made to call exit in its place. x86_64 only.
"""

import ctypes
import os
import platform
import sys

ATTACH, DETACH, GETREGS, SETREGS = 16, 17, 12, 13
WALL = 0x40000000
SYSCALL = 2  # length of the instruction
SYS_EXIT = 60
REGISTERS = (
    "r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
    "fs_base gs_base ds es fs gs"
).split()


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in REGISTERS]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, thread, registers=None):
    pointer = ctypes.byref(registers) if registers is not None else None
    if libc.ptrace(request, thread, None, pointer) == -1:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def find(pid, name):
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/comm") as comm:
            if comm.read().strip() == name:
                return int(thread)
    sys.exit(f"there is no thread {name}")


def main():
    if platform.machine() != "x86_64":
        print("SKIPPED: not x86_64")
        return
    pid, name = int(sys.argv[1]), sys.argv[2]
    thread = find(pid, name)
    try:
        ptrace(ATTACH, thread)
    except PermissionError as error:
        print(f"SKIPPED: {error}")
        return
    os.waitpid(thread, WALL)
    registers = Registers()
    ptrace(GETREGS, thread, registers)
    if ctypes.c_int64(registers.orig_rax).value < 0:
        ptrace(DETACH, thread)
        sys.exit(f"the thread {name} is not in a system call")
    registers.rip -= SYSCALL
    registers.rax, registers.rdi = SYS_EXIT, 0
    registers.orig_rax = 2**64 - 1
    ptrace(SETREGS, thread, registers)
    ptrace(DETACH, thread)
    print("killed")


main()
