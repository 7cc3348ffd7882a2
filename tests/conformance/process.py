"""What the harness asks of the kernel: children that die with it, and root without root's file rights."""

import ctypes
import os
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522

# Loaded before anything forks: the child of a process with threads must not import or allocate much.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == 'linux' else None


class _CapHeader(ctypes.Structure):
    _fields_ = [('version', ctypes.c_uint32), ('pid', ctypes.c_int)]


class _CapData(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ('effective', 'permitted', 'inheritable')]


def die_with_parent(signum=signal.SIGKILL):
    """Have the kernel end this process when the one that started it ends, however that happened."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)


def drop_file_capabilities():
    """Make file permissions count for root too: the suite expects that a read-only blob is one.

    Leaving the bounding set is what makes the children of a root process lack them as well.
    """
    if _libc is None:
        if os.geteuid() == 0:
            raise SystemExit('conformance: run as an ordinary user; root ignores file permissions')
        return
    capabilities = [cap for cap in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
                    if _libc.prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1]
    if os.geteuid() == 0:
        for cap in capabilities:
            if _libc.prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0:
                raise SystemExit('conformance: root may not drop CAP_DAC_OVERRIDE here '
                                 '(needs CAP_SETPCAP); run as an ordinary user')
    _clear(CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH)
    status = subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True, check=True)
    effective = next(int(line.split()[1], 16) for line in status.stdout.splitlines()
                     if line.startswith('CapEff:'))
    if effective & (1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH):
        raise SystemExit('conformance: child processes still override file permissions')


def _clear(*capabilities):
    header = _CapHeader(CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    mask = ~sum(1 << cap for cap in capabilities) & 0xFFFFFFFF
    for field in ('effective', 'permitted', 'inheritable'):
        setattr(data[0], field, getattr(data[0], field) & mask)
    _check(_libc.capset(ctypes.byref(header), data))


def _check(result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
