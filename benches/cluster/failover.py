"""A stock client that commits one small change after the other: failover.py FIRST SERVER,SERVER,…

Prints a line for each commit: when it was begun and when it was acknowledged, in seconds of CLOCK_MONOTONIC.
"""

import sys
import time

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError, StorageError


def main(first, servers):
    servers = [(host, int(port)) for host, port in (server.rsplit(':', 1) for server in servers.split(','))]
    # It begins at a server of its own, and may go to any later.
    storage = ClientStorage(servers[int(first)], wait_timeout=60)
    storage.new_addr(servers)
    db = None
    while db is None:
        try:
            db = ZODB.DB(storage)
        except ConflictError:
            # Another one has just made the root object.
            pass
    connection = db.open(transaction.TransactionManager())
    manager = connection.transaction_manager
    count = 0
    while True:
        begun = time.monotonic()
        try:
            manager.begin()
            # Its own, so that nothing conflicts but the first one.
            item = connection.root().get(first)
            if item is None:
                connection.root()[first] = item = PersistentMapping()
            count += 1
            item['count'] = count
            manager.commit()
        except (ClientDisconnected, ConflictError, StorageError):
            manager.abort()
            continue
        print(begun, time.monotonic(), flush=True)
        time.sleep(0.002)


if __name__ == '__main__':
    main(*sys.argv[1:])
