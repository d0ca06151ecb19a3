#!/usr/bin/env python3
"""Runs a command as a container's runtime would under a seccomp profile: `confined.py PROFILE COMMAND…`.

`confined.py PROFILE --try SYSCALL…` calls each of these instead, and prints its name and the error, or `permitted`. Arguments are zeros, but for the first
one where it follows the name (`clone:0x10000000`). PROFILE is a file in the format of OCI and Docker; `-` means none, to compare with.
"""

import ctypes
import errno
import json
import os
import sys
from pathlib import Path

ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
COMPARISONS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5, "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}
ERROR_NUMBER = 0xFFFF
# What libseccomp resolves a name to that it does not know at all. Other negative numbers stand for system calls of other processors.
UNKNOWN = -1


class Comparison(ctypes.Structure):
    """`struct scmp_arg_cmp` of seccomp.h."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def library():
    """libseccomp, or OSError where the system has none."""
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
    seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Comparison)]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    return seccomp


def action(name, error_number):
    """An action as libseccomp has it; errors carry their number."""
    return ACTIONS[name] | ((error_number or errno.EPERM) & ERROR_NUMBER if name == "SCMP_ACT_ERRNO" else 0)


def comparison(argument):
    """One condition on an argument: with a mask `value` is the mask, and `valueTwo` what is compared."""
    return Comparison(argument["index"], COMPARISONS[argument["op"]], argument["value"], argument.get("valueTwo", 0))


def confine(profile):
    """Loads a profile for this process and whatever it executes. A name that libseccomp does not know is an error."""
    seccomp = library()
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = seccomp.seccomp_init(default)
    for rule in profile["syscalls"]:
        what = action(rule["action"], rule.get("errnoRet"))
        if what == default:
            continue
        arguments = [comparison(argument) for argument in rule.get("args", [])]
        for name in rule["names"]:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            if number == UNKNOWN:
                raise ValueError(f"libseccomp knows no system call {name}")
            outcome = seccomp.seccomp_rule_add_array(context, what, number, len(arguments), (Comparison * len(arguments))(*arguments))
            # A rule for another processor's system call cannot be exact, and need not be.
            if outcome != 0 and number >= 0:
                raise OSError(-outcome, f"libseccomp refuses the rule for {name}")
    outcome = seccomp.seccomp_load(context)
    if outcome != 0:
        raise OSError(-outcome, "the profile cannot be loaded")


def attempt(calls):
    """Returns what makes the system calls and prints what comes of them. Their numbers are looked up now, before the profile is in force."""
    seccomp, libc = library(), ctypes.CDLL(None, use_errno=True)
    prepared = []
    for name in calls:
        name, _, first = name.partition(":")
        prepared.append((name, seccomp.seccomp_syscall_resolve_name(name.encode()), int(first or "0", 0)))

    def call():
        for name, number, first in prepared:
            ctypes.set_errno(0)
            outcome = libc.syscall(number, ctypes.c_ulong(first), 0, 0, 0, 0, 0)
            error = errno.errorcode.get(ctypes.get_errno(), "?")
            print(name, error if outcome == -1 else "permitted", flush=True)

    return call


def main():
    _, file, *command = sys.argv
    then = attempt(command[1:]) if command[0] == "--try" else lambda: os.execv(command[0], command)
    if file != "-":
        confine(json.loads(Path(file).read_text(encoding="utf-8")))
    then()


if __name__ == "__main__":
    main()
