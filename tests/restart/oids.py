"""No oid is given twice, over restarts and crashes that clients live through with oids in hand."""

import collections
import os
import pickle
import random
import time

import zeod
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import p64, u64, z64

RESTARTS = 8
ROUND_LIMIT_S = 60
AT_MOST = 250   # a client fetches 100 at once


def take(storage, oids, rng, name):
    """Take some oids; store objects under a part of them, also none."""
    for _ in range(rng.randrange(AT_MOST)):
        oids.append(u64(storage.new_oid()))
    stored = oids[-rng.randrange(1, AT_MOST):][::rng.choice([1, 3])]
    while True:
        meta = TransactionMetaData('', f'{name}: {len(stored)} objects')
        try:
            storage.tpc_begin(meta)
            try:
                for oid in stored:
                    # Its own objects only: whoever stores here again has the last serial.
                    storage.store(p64(oid), z64, zodb_pickle(MinPO(name)), '', meta)
                storage.tpc_vote(meta)
                storage.tpc_finish(meta)
            except BaseException:
                storage.tpc_abort(meta)
                raise
            return
        except ClientDisconnected:
            time.sleep(0.05)


def stay(address, control):
    """Takes oids once in each round, and goes through all restarts."""
    rng = random.Random(1)
    storage = ClientStorage(address, wait_timeout=40)
    oids = []
    for number in range(RESTARTS + 1):
        while not os.path.exists(f'{control}.go{number}'):
            time.sleep(0.01)
        first = len(oids)
        # Whatever the state of the connection: what is in hand is used first.
        fresh = []
        take(storage, fresh, rng, f'stay{number}')
        oids += fresh
        with open(f'{control}.new', 'wb') as f:
            pickle.dump(oids[first:], f)
        os.rename(f'{control}.new', f'{control}.done{number}')
    check(storage._oids, 'the client has no oids in hand at the end')
    storage.close()
    return oids


def fresh(address, number):
    """A client of one round."""
    storage = ClientStorage(address, wait_timeout=20)
    oids = []
    take(storage, oids, random.Random(100 + number), f'fresh{number}')
    storage.close()
    return oids


def main(directory):
    path = os.path.join(directory, 'Data.fs')
    socket = os.path.join(directory, 'zeo.sock')
    control = os.path.join(directory, 'control')
    server = zeod.Zeod(directory, '-a', socket, '-f', path)
    staying = zeod.Worker(directory, 'stay', stay, socket, control)
    takers = collections.defaultdict(list)
    try:
        for number in range(RESTARTS + 1):
            open(f'{control}.go{number}', 'w').close()
            name = f'fresh{number}'
            for oid in zeod.run_all(directory, ROUND_LIMIT_S, {name: (fresh, socket, number)})[name]:
                takers[oid].append(name)
            deadline = time.monotonic() + ROUND_LIMIT_S
            while not os.path.exists(f'{control}.done{number}'):
                check(not staying.poll() and time.monotonic() < deadline, 'the staying client does not go on')
                time.sleep(0.01)
            if number < RESTARTS:
                server.kill() if number % 2 else server.stop()
                server = zeod.Zeod(directory, '-a', socket, '-f', path)
        for oid in zeod.join([staying], ROUND_LIMIT_S)['stay']:
            takers[oid].append('stay')
    finally:
        staying.kill()
    server.stop()

    twice = {oid: names for oid, names in takers.items() if len(names) > 1}
    check(not twice, f'{len(twice)} oids were given twice: {dict(list(twice.items())[:5])}')
    storage = FileStorage(path, read_only=True)
    records = collections.Counter(record.oid for t in storage.iterator() for record in t)
    storage.close()
    check(max(records.values()) == 1, 'an object was overwritten by another')
    check(records.keys() <= {p64(oid) for oid in takers}, 'an object that nobody created')
    return (f'{len(takers)} oids over {RESTARTS} restarts, half of them by kill -9, none given twice; '
            f'{len(records)} objects stored, the greatest oid is {max(takers)}')


if __name__ == '__main__':
    zeod.main(main)
