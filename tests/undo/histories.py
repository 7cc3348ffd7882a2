"""The same random history in Python's FileStorage and, through a stock client, in zeod: the files are
the same, byte for byte. Arguments: the first seed, and how many histories."""

import collections
import io
import os
import pickle
import random
import sys
from base64 import encodebytes

import compare
import zeod
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ServerException
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, POSKeyError, UndoError
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import p64, u64, z64

TRANSACTIONS = 60
OIDS = 7                # few, so that transactions meet
VALUES = 3              # few, so that states come back
FIRST_TID = 0x0400000000000000
LIMIT_S = 10            # for one history

# Said by FileStorage only where it wanted to merge with a state that is gone; zeod's answer is the same.
REASONS = {'_loadBack() failed for %s': 'Some data were modified by a later transaction'}

EXTENSIONS = [{}, {'request': '/a'}, {'count': 7, 'undone': True}]


class History:
    """What to do next, by chance. Of what happened it knows what both storages agree upon."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.serials = {}
        self.tids = []
        self.now = FIRST_TID

    def next_transaction(self):
        """(tid, the steps): what each storage is to do in its next transaction."""
        self.now += self.random.randrange(1, 1 << 40)
        if self.tids and self.random.random() < 0.5:
            return p64(self.now), self._undos()
        steps, seen = [], set()
        for _ in range(self.random.choice([0, 1, 1, 2, 3, 5])):
            oid = p64(self.random.randrange(OIDS))
            serial = self.serials.get(oid, z64)
            # FileStorage looks at the serial before its own transaction only; twice is allowed.
            if serial != z64 and oid not in seen and self.random.random() < 0.15:
                steps.append(('delete', oid, serial))
            else:
                steps.append(('store', oid, serial, self._data(oid)))
            seen.add(oid)
        return p64(self.now), steps

    def _undos(self):
        if self.random.random() < 0.03:
            return [('undo', p64(self.now - 1))]      # there is no such transaction
        recent = self.tids[-15:]
        count = min(len(recent), self.random.choice([1, 1, 1, 2, 3, 5]))
        if self.random.random() < 0.5:
            chosen = recent[-count:]
        else:
            chosen = sorted(self.random.sample(recent, count))
        # From the newest on, as Zope asks for it; now and then in another order, or one twice.
        chosen.reverse()
        if self.random.random() < 0.1:
            self.random.shuffle(chosen)
        if self.random.random() < 0.05:
            chosen.append(chosen[0])
        steps = [('undo', tid) for tid in chosen]
        if self.random.random() < 0.15:
            # Together with a change.
            oid = p64(self.random.randrange(OIDS))
            change = 'store', oid, self.serials.get(oid, z64), self._data(oid)
            steps.insert(self.random.randrange(len(steps) + 1), change)
        return steps

    def _data(self, oid):
        value = self.random.randrange(VALUES)
        return zodb_pickle(MinPO((u64(oid), value, 'x' * (value * 1000))))

    def committed(self, tid, steps, undone):
        self.tids.append(tid)
        oids = {step[1] for step in steps if step[0] != 'undo'} | undone
        for oid in oids:
            self.serials[oid] = tid


def outcome_of(error):
    """The name of an error, and which objects cannot be undone for which reasons."""
    name, state = type(error).__name__, vars(error)
    if isinstance(error, ServerException):      # what the stock client makes of undo's errors
        name, state = error.args[0].rsplit('.')[-1], error.args[1]
    if name != 'MultipleUndoErrors':
        return name, None
    return name, sorted((oid, REASONS.get(text, text)) for oid, text in (
        (oid, getattr(reason, '_reason', reason)) for oid, reason in state['_errs']))


class Recorder:
    """A storage, by the steps of a history."""

    def __init__(self, storage):
        self.storage = storage

    def commit(self, tid, steps, number):
        """('committed', the undone objects), or the error with what it names."""
        meta = TransactionMetaData(f'user{number % 3}', f'change {number} \xe4',
                                   self.extension(EXTENSIONS[number % len(EXTENSIONS)]))
        self.storage.tpc_begin(meta, tid)
        undone = set()
        try:
            for step in steps:
                undone |= self.take(step, meta)
            undone |= self.vote(meta)
        except (ConflictError, POSKeyError, UndoError, ServerException) as error:
            self.storage.tpc_abort(meta)
            return outcome_of(error)
        check(self.storage.tpc_finish(meta) == tid, 'committed under another id')
        return 'committed', undone

    def take(self, step, meta):
        name, *arguments = step
        if name == 'store':
            self.storage.store(*arguments, '', meta)
        elif name == 'delete':
            self.storage.deleteObject(*arguments, meta)
        else:
            result = self.storage.undo(encodebytes(arguments[0]).rstrip(), meta)
            return set(result[1]) if result else set()
        return set()


class InPython(Recorder):
    def extension(self, items):
        """As zeod pickles it: without a memo, which such items need not."""
        file = io.BytesIO()
        pickler = pickle.Pickler(file, 3)
        pickler.fast = True
        pickler.dump(items)
        return file.getvalue() if items else b''

    def vote(self, meta):
        self.storage.tpc_vote(meta)
        return set()


class Served(Recorder):
    def extension(self, items):
        return items

    def vote(self, meta):
        # The objects that were undone, with whatever else the storage says.
        return set(self.storage.tpc_vote(meta) or ())


def replay(address, seed, counts, path):
    """One history in both; what differs in what they answer is an error at once."""
    history = History(seed)
    reference = FileStorage(path, create=True)
    client = ClientStorage(address, wait_timeout=20)
    for number in range(TRANSACTIONS):
        tid, steps = history.next_transaction()
        expected = InPython(reference).commit(tid, steps, number)
        got = Served(client).commit(tid, steps, number)
        check(got == expected,
              f'seed {seed}, transaction {number}, {steps}: {got}, not {expected}')
        counts[got[0]] += 1
        if got[0] != 'committed':
            continue
        counts['undone'] += sum(step[0] == 'undo' for step in steps)
        history.committed(tid, steps, expected[1])
    for first, last in ((0, -20), (3, 7), (5, -5), (0, 1000)):
        got, expected = client.undoLog(first, last), reference.undoLog(first, last)
        check(got == expected, f'seed {seed}: undoLog gives {compare.difference(got, expected)}')
        some = {'request': '/a'}
        check(client.undoInfo(first, last, some) == reference.undoInfo(first, last, some),
              f'seed {seed}: undoInfo')
    client.close()
    reference.close()
    return counts


def main(directory):
    first, histories = map(int, sys.argv[1:])
    counts = collections.Counter()
    total_bytes = 0
    for seed in range(first, first + histories):
        ours, theirs = (os.path.join(directory, f'{name}{seed}.fs') for name in ('zeod', 'python'))
        server = zeod.on_free_port(directory, ours)
        # In a process of its own: a client has threads.
        job = {f'seed{seed}': (replay, server.address, seed, collections.Counter(), theirs)}
        counts.update(zeod.run_all(directory, LIMIT_S, job)[f'seed{seed}'])
        server.stop()
        with open(ours, 'rb') as f, open(theirs, 'rb') as g:
            written, expected = f.read(), g.read()
        same = os.path.commonprefix([written, expected])
        check(written == expected, f'seed {seed}: the files differ from byte {len(same)} on')
        total_bytes += len(expected)
    check(counts['undone'] > 5 * histories and counts['MultipleUndoErrors'] > histories,
          f'the histories have become dull: {counts}')
    return f'{histories} histories, {total_bytes} bytes the same; {dict(sorted(counts.items()))}'


if __name__ == '__main__':
    zeod.main(main)
