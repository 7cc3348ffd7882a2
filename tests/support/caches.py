"""Looks into, and pulls the plug of, ZEO's client. Both use what is no interface of it."""

import os
import socket
from struct import unpack

from ZODB.utils import p64

HEADER = '>I8s8s8sHI'     # size, oid, tid, end tid, version's length, data's length
HEADER_BYTES = 34


def contents(cache):
    """The last tid, and all (oid, tid, end_tid, data); end_tid is zeros for what is current."""
    entries = []
    with cache._lock:
        places = [(oid, offset) for oid, offset in cache.current.items()]
        places += [(p64(oid), offset) for oid, tids in cache.noncurrent.items() for offset in tids.values()]
        for oid, offset in places:
            cache.f.seek(offset)
            assert cache.f.read(1) == b'a'
            _, saved, tid, end_tid, _, size = unpack(HEADER, cache.f.read(HEADER_BYTES))
            assert saved == oid
            entries.append((oid, tid, end_tid, cache.f.read(size)))
        return cache.getLastTid(), entries


def kill_socket(storage):
    """As a broken network would: neither side had a say. False where there is no connection just now."""
    io = storage._server.client
    protocol = io and io.protocol
    transport = protocol and protocol.sm_protocol.transport
    if not transport:
        return False
    try:
        duplicate = socket.socket(fileno=os.dup(transport.get_extra_info('socket').fileno()))
    except OSError:
        return False
    with duplicate:
        try:
            duplicate.shutdown(socket.SHUT_RDWR)
        except OSError:
            return False
    return True
