"""Votes at one server, and on the same object at another one when told to."""

import os
import sys

from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.utils import z64


def client(address):
    host, port = address.rsplit(":", 1)
    return ClientStorage((host.strip("[]"), int(port)), wait=True, wait_timeout=30, server_sync=False)


def vote(storage, oid):
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    storage.store(oid, z64, b"data", "", transaction)
    storage.tpc_vote(transaction)
    return transaction


def main(one, other):
    first, second = client(one), client(other)
    oid = first.new_oid()
    vote(first, oid)
    print("voted", flush=True)
    sys.stdin.read()
    second.tpc_abort(vote(second, oid))
    print("voted again", flush=True)
    # The first server stands still: nothing is said to it any more.
    os._exit(0)


main(*sys.argv[1:])
