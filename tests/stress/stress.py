"""Eight stock clients in processes of their own on fifty objects. Arguments: pickle or msgpack, seconds,
and maybe fan-out: then most clients are those of two servers that stand in front of the one with the file.

Each client checks what it reads as it goes; at the end the file tells whether an increment was lost,
and whether what stands in the clients' caches is true.
"""

import bisect
import collections
import os
import random
import sys
import threading
import time
import uuid

import transaction
import zeod
from caches import contents, kill_socket
from persistent import Persistent
from zeod import check
from ZEO.cache import ClientCache
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, StorageTransactionError
from ZODB.utils import z64

CLIENTS = 8
COUNTERS = 40
PAIRS = 5                   # with the counters: fifty objects
PERSISTENT_CACHES = 4       # so many clients have one
SMALL_CACHE_BYTES = 20_000  # for a part of the clients: it overflows
CACHE_BYTES = 20 << 20
RECONNECTING = (1, 6)       # these lose their socket, and close and open their storage, now and then
END_LIMIT_S = 60


class Number(Persistent):
    """A number that the server cannot merge."""

    value = 0


class Client:
    def __init__(self, address, directory, number):
        self.address, self.directory, self.number = address, directory, number
        self.random = random.Random(number)
        self.counts = collections.Counter()
        self.complaints = zeod.Complaints()
        self.acknowledged = {}      # {token: the counters that it increments}
        self.uncertain = {}         # the same where the connection was lost in commit
        self.seen = collections.Counter()
        self.caches = []
        self.cache_bytes = SMALL_CACHE_BYTES if number % 4 == 2 else CACHE_BYTES
        self.cache_file = os.path.join(directory, f'client{number}-1.zec')
        self.open()

    def open(self):
        persistent = self.number < PERSISTENT_CACHES
        self.storage = ClientStorage(self.address, cache_size=self.cache_bytes, wait_timeout=30, var=self.directory,
                                     client=f'client{self.number}' if persistent else None)
        # A small object cache, so that reads go to the client's cache and the server.
        self.db = DB(self.storage, cache_size=10)
        self.connection = self.db.open(transaction.TransactionManager())
        self.manager = self.connection.transaction_manager

    def close(self):
        # While others still write.
        self.caches.append(contents(self.storage._cache))
        self.manager.abort()
        self.connection.close()
        self.db.close()
        self.counts['closed'] += 1

    def run(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            step = self.random.choice([self.increment, self.increment, self.write_pair, self.read, self.read_old])
            try:
                step()
            except (ConflictError, StorageTransactionError):
                self.counts['conflicts'] += 1
            except ClientDisconnected:
                self.counts['disconnected'] += 1
            self.manager.abort()
            if self.number in RECONNECTING:
                self.interrupt()
        self.close()
        if self.number < PERSISTENT_CACHES:
            cache = ClientCache(self.cache_file, self.cache_bytes)
            self.caches.append(contents(cache))
            cache.close()
        self.counts.update(self.complaints.counts)
        check(not self.counts['out of sync'], 'the cache knows more than the server')
        return self.counts, self.acknowledged, self.uncertain, self.caches

    def interrupt(self):
        chance = self.random.random()
        if chance < 0.02:
            # Soon, so that it happens amidst some call.
            threading.Timer(self.random.random() / 50, self.kill_socket).start()
        elif chance < 0.025:
            self.close()
            self.open()

    def kill_socket(self):
        self.counts['killed sockets'] += kill_socket(self.storage)

    def commit(self, counters):
        token = uuid.UUID(int=self.random.getrandbits(128)).hex + str(self.number)
        self.manager.get().note(token)
        try:
            self.manager.commit()
        except ClientDisconnected:
            # It may have come through: the file will tell.
            self.uncertain[token] = counters
            raise
        self.acknowledged[token] = counters

    def increment(self):
        self.manager.begin()
        counters = self.connection.root()['counters']
        chosen = self.random.sample(range(COUNTERS), self.random.choice([1, 1, 2, 4]))
        for index in chosen:
            counters[index].value += 1
        self.commit(chosen)
        self.counts['increments'] += len(chosen)

    def write_pair(self):
        self.manager.begin()
        left, right = self.connection.root()['pairs'][self.random.randrange(PAIRS)]
        check(left.value == right.value, f'a torn pair was read for writing: {left.value}, {right.value}')
        left.value += 1
        right.value += 1
        self.commit([])
        self.counts['pairs'] += 1

    def read(self):
        self.manager.begin()
        self.check_snapshot(self.connection.root(), self.seen)
        self.counts['snapshots'] += 1

    def read_old(self):
        """A historical connection sees a snapshot, too, and may see older numbers."""
        connection = self.db.open(transaction.TransactionManager(), at=self.storage.lastTransaction())
        self.check_snapshot(connection.root(), collections.Counter())
        connection.close()
        self.counts['old snapshots'] += 1

    def check_snapshot(self, root, seen):
        for index, (left, right) in enumerate(root['pairs']):
            check(left.value == right.value, f'a torn pair was read: {left.value}, {right.value}')
            self.see(seen, ('pair', index), left.value)
        for index in self.random.sample(range(COUNTERS), 10):
            self.see(seen, index, root['counters'][index].value)

    def see(self, seen, key, value):
        check(value >= seen[key], f'{key} was {seen[key]} before and is {value} now')
        seen[key] = value


def prepare(address):
    db = DB(ClientStorage(address, wait_timeout=20))
    with db.transaction() as connection:
        root = connection.root()
        root['counters'] = [Number() for _ in range(COUNTERS)]
        root['pairs'] = [(Number(), Number()) for _ in range(PAIRS)]
    db.close()


def run(*arguments):
    *arguments, seconds = arguments
    return Client(*arguments).run(seconds)


def check_counters(path, results):
    """Each increment that was acknowledged is there once, and no other."""
    storage = FileStorage(path, read_only=True)
    tokens = collections.Counter(t.description.decode() for t in storage.iterator())
    acknowledged, uncertain = {}, {}
    for _, ours, theirs, _ in results.values():
        acknowledged.update(ours)
        uncertain.update(theirs)
    lost = [token for token in acknowledged if tokens[token] != 1]
    check(not lost, f'{len(lost)} acknowledged transactions are not in the file once: {lost[:5]}')
    finished = {token: counters for token, counters in uncertain.items() if tokens[token]}
    unknown = tokens.keys() - acknowledged.keys() - uncertain.keys() - {'', 'initial database creation'}
    check(not unknown, f'transactions of nobody: {unknown}')

    wanted = collections.Counter(index for done in (acknowledged, finished)
                                 for counters in done.values() for index in counters)
    db = DB(storage)
    connection = db.open()
    found = {index: number.value for index, number in enumerate(connection.root()['counters'])}
    db.close()
    wrong = {index: (value, wanted[index]) for index, value in found.items() if value != wanted[index]}
    check(not wrong, f'counters that lost updates {{counter: (value, increments)}}: {wrong}')
    return len(acknowledged), len(uncertain), len(finished), sum(found.values())


def check_caches(path, results):
    """Each entry is a revision of the file, with its data and its end."""
    storage = FileStorage(path, read_only=True)
    revisions = collections.defaultdict(dict)
    for t in storage.iterator():
        for record in t:
            revisions[record.oid][record.tid] = record.data
    storage.close()
    tids = {oid: sorted(own) for oid, own in revisions.items()}
    count = 0
    for name, (_, _, _, caches) in results.items():
        for last_tid, entries in caches:
            for oid, tid, end_tid, data in entries:
                count += 1
                entry = f'{name}: cached {oid.hex()} of {tid.hex()} to {end_tid.hex()}, last {last_tid.hex()}'
                check(tid in revisions[oid], f'{entry}: no such revision')
                check(data == revisions[oid][tid], f'{entry}: other data')
                place = bisect.bisect_right(tids[oid], tid)
                later = tids[oid][place] if place < len(tids[oid]) else None
                if end_tid == z64:
                    check(later is None or later > last_tid,
                          f'{entry}: as current, and the next revision is {later and later.hex()}')
                else:
                    check(end_tid == later, f'{entry}: the next revision is {later and later.hex()}')
    return count


def in_front(directory, number, wire, address):
    """A server whose storage is the other's; small, so that its cache overflows."""
    conf = os.path.join(directory, f'front{number}.conf')
    with open(conf, 'w') as f:
        f.write(f'<zeo>\n  address 127.0.0.1:0\n  msgpack {"true" if wire == "msgpack" else "false"}\n</zeo>\n'
                f'<zeoclient>\n  server {address[0]}:{address[1]}\n  cache-size 4KB\n</zeoclient>\n')
    return zeod.Zeod(directory, '-C', conf, name=f'front{number}')


def main(directory):
    wire, seconds = sys.argv[1], float(sys.argv[2])
    path = os.path.join(directory, 'Data.fs')
    conf = os.path.join(directory, 'zeo.conf')
    with open(conf, 'w') as f:
        f.write(f'<zeo>\n  address 127.0.0.1:0\n  msgpack {"true" if wire == "msgpack" else "false"}\n</zeo>\n'
                f'<filestorage>\n  path {path}\n</filestorage>\n')
    server = zeod.Zeod(directory, '-C', conf)
    fronts = [in_front(directory, number, wire, server.address) for number in (1, 2) if 'fan-out' in sys.argv]
    addresses = [server.address, *(front.address for front in fronts)]
    zeod.run_all(directory, END_LIMIT_S, {'prepare': (prepare, server.address)})
    results = zeod.run_all(directory, seconds + END_LIMIT_S, {
        f'client{number}': (run, addresses[number % len(addresses)], directory, number, seconds)
        for number in range(CLIENTS)})
    for front in fronts:
        front.stop()
    server.stop()
    acknowledged, uncertain, finished, total = check_counters(path, results)
    entries = check_caches(path, results)
    counts = collections.Counter()
    for result in results.values():
        counts.update(result[0])
    check(all(result[0]['increments'] for result in results.values()), f'a client starved: {results}')
    return (f'{acknowledged} transactions acknowledged and found, {uncertain} uncertain ({finished} found), '
            f'counters sum up to {total}; {dict(counts)}; {entries} cache entries true')


if __name__ == '__main__':
    zeod.main(main)
