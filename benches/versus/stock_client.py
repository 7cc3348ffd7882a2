"""Measure a ZEO server through Python's own client, ClientStorage, as an
application would use it: stock_client.py HOST PORT SECONDS

Prints a JSON object: row -> operations per second.
"""
import json
import sys
import time

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZEO.ClientStorage import ClientStorage
from ZODB.POSException import ConflictError

OBJECTS = 200
VALUE = b"z" * 900


def repeat(seconds, operation):
    """Calls per second; `operation` tells how many operations a call was."""
    count = 0
    start = now = time.perf_counter()
    while now - start < seconds:
        count += operation()
        now = time.perf_counter()
    return count / (now - start)


class Bench:

    def __init__(self, host, port, seconds):
        self.address = host, port
        self.seconds = seconds
        self.db = self.open()
        self.manager = transaction.TransactionManager()
        root = self.db.open(self.manager).root()
        # each run has a place of its own
        self.name = "run-%d" % len(root)
        root[self.name] = self.home = OOBTree()
        self.manager.commit()
        self.serial = 0

    def open(self, **options):
        storage = ClientStorage(self.address, wait_timeout=30, **options)
        return ZODB.DB(storage, cache_size=10 * OBJECTS)

    def add(self):
        """A new object per commit."""
        self.serial += 1
        self.home["added-%d" % self.serial] = PersistentMapping(value=VALUE)
        self.manager.commit()
        return 1

    def fill(self):
        self.items = [PersistentMapping(value=VALUE) for _ in range(OBJECTS)]
        for number, item in enumerate(self.items):
            self.home["item-%d" % number] = item
        self.manager.commit()

    def update(self):
        """A change of one object per commit."""
        self.serial += 1
        item = self.items[self.serial % OBJECTS]
        item["value"] = VALUE + b"%d" % self.serial
        self.manager.commit()
        return 1

    def cold_load(self, db):
        """All items by a connection and a client without caches."""
        db.storage._cache.clear()
        manager = transaction.TransactionManager()
        connection = db.open(manager)
        connection.cacheMinimize()
        loaded = 0
        for item in self.oids:
            connection.get(item)["value"]
            loaded += 1
        manager.abort()
        connection.close()
        return loaded

    def conflict(self, dbs):
        """Two clients change one object from the same state: one commits,
        the other gets its conflict, begins again and commits."""
        managers = [transaction.TransactionManager() for _ in dbs]
        items = []
        for db, manager in zip(dbs, managers):
            item = db.open(manager).get(self.oids[0])
            self.change(item)
            items.append(item)
        self.commit(managers[0], items[0])
        try:
            managers[1].commit()
        except ConflictError:
            managers[1].abort()
        else:
            raise AssertionError("a conflict was not seen")
        managers[1].begin()
        self.change(items[1])
        self.commit(managers[1], items[1])
        for item in items:
            item._p_jar.close()
        return 1

    def change(self, item):
        self.serial += 1
        item["value"] = VALUE + b"%d" % self.serial

    def commit(self, manager, item):
        """Commit and, where that conflicts, change again and commit. Even with
        server_sync Python's server can answer a new transaction's ping before
        it sends the invalidation of the commit just finished.
        """
        for _ in range(100):
            try:
                return manager.commit()
            except ConflictError:
                manager.abort()
                manager.begin()
                self.change(item)
        raise AssertionError("the conflict does not go away")

    def run(self):
        rates = {"add": repeat(self.seconds, self.add)}
        self.fill()
        self.oids = [item._p_oid for item in self.items]
        rates["update"] = repeat(self.seconds, self.update)
        other = self.open()
        rates["cold load"] = repeat(
            self.seconds, lambda: self.cold_load(other))
        other.close()
        dbs = [self.open(server_sync=True) for _ in range(2)]
        rates["conflicting commits"] = repeat(
            self.seconds, lambda: self.conflict(dbs))
        for db in dbs:
            db.close()
        self.db.close()
        return rates


host, port, seconds = sys.argv[1:]
print(json.dumps(Bench(host, int(port), float(seconds)).run()))
