"""Writes a database with Python's FileStorage that has all that can stand in one."""

import random
from base64 import encodebytes

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError
from ZODB.serialize import referencesf
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import p64, u64, z64

DENSE = 40
SPARSE = [65_535, 65_536, 65_537, 131_072, 1 << 24, (1 << 32) - 1, 1 << 32, (1 << 32) + 1,
          (1 << 32) + 70_000, 1 << 40, (1 << 48) + 5, (1 << 56) + 7, (1 << 62) + 9]
OIDS = [p64(number) for number in [*range(DENSE), *SPARSE]]

EXTENSIONS = [
    {},
    {'request': '/a/b/c', 'length': 12, 'big': 1 << 70, 'minus': -3},
    {'text': 'übertragen \U0001f40d', 'bytes': b'\x00\xff', 'none': None, 'yes': True, 'half': 0.5},
    {'deep': {'list': [1, [2, (3, 'x')]], 'dict': {'a': {}}}, 7: 'seven', ('a', 1): []},
]


def write_packed(path, transactions=1000):
    """Packed in the middle: packed transactions, and histories that begin later."""
    storage = FileStorage(path, pack_keep_old=False)
    Writer(storage, seed=5, repeat=False).write(transactions)
    tids = [transaction.tid for transaction in storage.iterator()]
    storage.pack(TimeStamp(tids[len(tids) // 2]).timeTime(), referencesf, gc=False)
    assert next(storage.iterator()).status == 'p', 'the pack has packed nothing'
    storage.close()


class Writer:
    """Goes on with a FileStorage: stores, deletions and undo, by chance."""

    def __init__(self, storage, seed, repeat=True):
        self.storage = storage
        self.repeat = repeat    # an oid in one transaction, now and then; FileStorage's pack cannot stand it
        self.random = random.Random(seed)
        self.counts = {'stores': 0, 'deletions': 0, 'undone': 0, 'not undoable': 0, 'empty': 0}
        self.serials = {}
        self.undoable = []
        for transaction in storage.iterator():
            for record in transaction:
                self.serials[record.oid] = record.tid
            self.undoable.append(transaction.tid)

    def write(self, transactions):
        end = len(self.undoable) + transactions
        number = 0
        while len(self.undoable) < end:
            number += 1
            choice = self.random.random()
            if choice < 0.15 and self.undoable:
                self._commit(self._undo, number)
            elif choice < 0.17:
                self.counts['empty'] += 1
                self._commit(lambda meta: {}, number)
            else:
                self._commit(self._change, number)
        # FileStorage takes no index where one of the last five records is not its object's last:
        # two of one object in one transaction.
        for oid in OIDS[:5]:
            self._commit(lambda meta, oid=oid: self._store(oid, meta), number)

    def _commit(self, change, number):
        meta = TransactionMetaData(
            'user %d' % (number % 5) if number % 3 else '', 'change %d \xfc' % number,
            EXTENSIONS[number % len(EXTENSIONS)])
        self.storage.tpc_begin(meta)
        try:
            oids = change(meta)
        except UndoError:
            self.counts['not undoable'] += 1
            self.storage.tpc_abort(meta)
            return
        self.storage.tpc_vote(meta)
        tid = self.storage.tpc_finish(meta)
        self.undoable.append(tid)
        for oid in oids:
            self.serials[oid] = tid

    def _change(self, meta):
        choose = self.random.choices if self.repeat else self.random.sample
        oids = choose(OIDS, k=self.random.choice([1, 1, 2, 3, 8]))
        for oid in oids:
            serial = self.serials.get(oid, z64)
            if serial != z64 and self.random.random() < 0.08:
                self.storage.deleteObject(oid, serial, meta)
                self.counts['deletions'] += 1
            else:
                self._store(oid, meta)
        return set(oids)

    def _store(self, oid, meta):
        self.storage.store(oid, self.serials.get(oid, z64), self._data(oid), '', meta)
        self.counts['stores'] += 1
        return {oid}

    def _undo(self, meta):
        tid = self.random.choice(self.undoable[-12:])
        oids = set(self.storage.undo(encodebytes(tid).rstrip(), meta)[1])
        self.counts['undone'] += 1
        return oids

    def _data(self, oid):
        # Few values: equal states are what undo's back pointers come from.
        value = self.random.randrange(4)
        return zodb_pickle(MinPO((u64(oid), value, 'x' * self.random.choice([0, 10, 3000]))))
