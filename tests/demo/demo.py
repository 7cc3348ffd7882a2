"""Python's DemoStorage and zeod's, over copies of one database: the same changes, the same answers.

Argument: the name of a layout, see LAYOUTS.
"""

import glob
import os
import random
import shutil
import sys
import tempfile
import time

import compare
import history
import zeod
import ZODB.config
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, POSKeyError
from ZODB.serialize import referencesf
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import load_current, p64, z64
from zc.lockfile import LockError

LIMIT_S = 120
BASE_TRANSACTIONS = 60
CHANGES = 80
BLOBS = 4

FILE = '<filestorage {name}>\n path {directory}/{file}.fs\n {more}\n</filestorage>\n'


def file(name, file, more=''):
    return FILE.replace('{name}', name).replace('{file}', file).replace('{more}', more)


def demo(*parts, name=''):
    return f'<demostorage {name}>\n{"".join(parts)}</demostorage>\n'


BASE = file('', 'base')
READ_ONLY = file('', 'base', 'read-only true')
BASE_WITH_BLOBS = file('', 'base', 'blob-dir {directory}/base-blobs\n read-only true')
LAYOUTS = {
    'memory': demo(BASE, name='1'),
    'file': demo(READ_ONLY, file('changes', 'changes'), name='1'),
    'nested': demo(demo(READ_ONLY, file('changes', 'below')), file('changes', 'changes'), name='1'),
    'nested-changes': demo(READ_ONLY, demo(name='changes'), name='1'),
    'blobs': demo(file('changes', 'changes', 'blob-dir {directory}/blobs'), BASE_WITH_BLOBS, name='1'),
    'temporary-blobs': demo(BASE_WITH_BLOBS, name='1'),
}
WITH_BLOBS = 'blobs', 'temporary-blobs'


class Pair:
    """The reference, and a client of zeod, that are told the same."""

    def __init__(self, reference, client, directory):
        self.reference = reference
        self.client = client
        self.directory = directory
        self.in_file = hasattr(reference, 'supportsUndo')
        self.number = 0

    def commit(self, change):
        """change(storage, meta) on both, under one tid; that, or the error of both."""
        self.number += 1
        # Pickled by Python it takes more room in a file.
        extension = None if self.in_file else {'number': self.number}
        ours, theirs = (TransactionMetaData(f'user {self.number}', 'why \xfc', extension) for _ in range(2))
        tid, error = self._commit(self.client, change, ours)
        own_tid = tid or p64(int.from_bytes(self.reference.lastTransaction(), 'big') + 1)
        _, expected = self._commit(self.reference, change, theirs, own_tid)
        check(type(error) is type(expected), f'change {self.number}: {error!r}, not {expected!r}')
        return tid

    @staticmethod
    def _commit(storage, change, meta, *tid):
        storage.tpc_begin(meta, *tid)
        try:
            change(storage, meta)
            storage.tpc_vote(meta)
            return storage.tpc_finish(meta), None
        except (ConflictError, POSKeyError) as error:
            storage.tpc_abort(meta)
            return None, error

    def store(self, *changes):
        def change(storage, meta):
            for oid, serial, data in changes:
                storage.store(oid, serial, data, '', meta)
        return self.commit(change)

    def store_blob(self, oid, serial, content):
        def change(storage, meta):
            handle, path = tempfile.mkstemp(dir=self.directory)
            with open(handle, 'wb') as f:
                f.write(content)
            if storage is self.reference:
                # A client stores a blob's record twice, and so do both servers.
                storage.store(oid, serial, blob_record(), '', meta)
            storage.storeBlob(oid, serial, blob_record(), path, '', meta)
        return self.commit(change)

    def undo(self, tid):
        def change(storage, meta):
            entry, = [e for e in storage.undoLog(0, 100) if e['description'] and decoded(e['id']) == tid]
            storage.undo(entry['id'], meta)
        return self.commit(change)


def decoded(transaction_id):
    from base64 import decodebytes
    return decodebytes(transaction_id + b'\n')


def blob_record():
    from ZODB.blob import Blob
    return zodb_pickle(Blob())


def write_base(directory, blobs):
    path = os.path.join(directory, 'base.fs')
    storage = FileStorage(path, blob_dir=os.path.join(directory, 'base-blobs') if blobs else None)
    # Deletions and undo included.
    history.Writer(storage, seed=7).write(BASE_TRANSACTIONS)
    revisions = []
    for number in range(BLOBS if blobs else 0):
        oid, serial = p64((1 << 50) + number), z64
        for content in (b'first', b'second' * 20_000):
            name = os.path.join(directory, 'content')
            with open(name, 'wb') as f:
                f.write(content)
            meta = TransactionMetaData()
            storage.tpc_begin(meta)
            storage.storeBlob(oid, serial, blob_record(), name, '', meta)
            storage.tpc_vote(meta)
            serial = storage.tpc_finish(meta)
            revisions.append((oid, serial))
    storage.close()
    return revisions


def serial_of(storage, oid):
    try:
        return load_current(storage, oid)[1]
    except POSKeyError:
        return z64


def change_both(pair, oids):
    """Stores of base objects, of new ones, and of some that were changed meanwhile."""
    rng = random.Random(5)
    conflicts = 0
    own = []
    new = [pair.client.new_oid() for _ in range(10)]
    check(not set(new) & set(oids), 'new oids are in use')
    for _ in range(CHANGES):
        picked = rng.sample([*oids, *new], rng.choice([1, 1, 2, 5]))
        serials = [serial_of(pair.reference, oid) for oid in picked]
        stale = rng.random() < 0.2 and serials[0] != z64
        if stale:
            serials[0] = p64(int.from_bytes(serials[0], 'big') - 1)
        changes = [(oid, serial, zodb_pickle(MinPO(rng.randrange(4)))) for oid, serial in zip(picked, serials)]
        tid = pair.store(*changes)
        check((tid is None) == stale, f'a {"stale" if stale else "current"} serial: {tid!r}')
        conflicts += tid is None
        if tid is not None:
            own.append((tid, picked))
    # What the one wrote, the other is told of: this check must fail, and the next pass.
    oid = own[-1][1][0]
    for serial, passes in ((z64, False), (own[-1][0], True)):
        tid = pair.commit(lambda storage, meta: (
            storage.checkCurrentSerialInTransaction(oid, serial, meta),
            storage.store(new[0], serial_of(pair.reference, new[0]), zodb_pickle(MinPO(1)), '', meta)))
        check((tid is not None) == passes, f'checkCurrentSerialInTransaction: {tid!r}')
    return conflicts


def undo_both(pair, oids):
    """What the changes alone know can be undone in both."""
    oid = oids[0]
    for number in range(2):
        tid = pair.store((oid, serial_of(pair.reference, oid), zodb_pickle(MinPO(f'undone {number}'))))
    pair.undo(tid)


def blobs_in_both(pair, revisions):
    changed = []
    for oid, serial in (revisions[1], (p64(1 << 51), z64)):
        for content in (b'', b'changed' * 50_000):
            serial = pair.store_blob(oid, serial, content)
            changed.append((oid, serial))
    # A blob of the base that is no blob any more; one that never was one.
    oid, serial = revisions[-1]
    serial = pair.store((oid, serial, zodb_pickle(MinPO(1))))
    for oid, serial in [*revisions, *changed, (oid, serial), (history.OIDS[0], z64)]:
        want = content_of(pair.reference, oid, serial)
        check(content_of(pair.client, oid, serial) == want, f'blob {oid.hex()} {serial.hex()}')
        check(want is not None or (oid, serial) not in {*revisions, *changed}, 'the blob is not there')
    return len(changed)


def content_of(storage, oid, serial):
    try:
        with open(storage.loadBlob(oid, serial), 'rb') as f:
            return f.read()
    except POSKeyError:
        return None


def info(reference, directory, served):
    """What zeod says when a client connects; without what changes."""
    import zope.interface
    undo = getattr(reference, 'supportsUndo', lambda: False)()
    return {'name': reference.getName().replace(directory, served), 'supportsUndo': bool(undo),
            'supports_record_iternext': hasattr(reference, 'record_iternext'),
            'interfaces': tuple((i.__module__, i.__name__) for i in zope.interface.providedBy(reference).__iro__)}


def compare_both(server, layout, served, copy, revisions):
    reference = ZODB.config.storageFromString(LAYOUTS[layout].replace('{directory}', copy))
    client = ClientStorage(server.address, wait_timeout=20, blob_dir=os.path.join(served, 'cache')
                           if layout in WITH_BLOBS else None)
    pipeline = compare.Pipeline(server.address, '1')
    told, = pipeline.call_all([('get_info',)])
    want = info(reference, copy, served)
    check({key: told[key] for key in want} == want, f'info: {told}, not {want}')
    questions = compare.compare(f'{layout}, unchanged', reference, client, pipeline, every_tid=True)

    pair = Pair(reference, client, served)
    conflicts = change_both(pair, history.OIDS)
    if want['supportsUndo']:
        undo_both(pair, history.OIDS)
    blobs = blobs_in_both(pair, revisions) if revisions else 0
    pipeline.call_all([('lastTransaction',)])
    questions += compare.compare(layout, reference, client, pipeline, every_tid=True)
    if want['supportsUndo']:
        # The pack of Python's DemoStorage fails itself (AttributeError); this is what it is meant to call.
        now = time.time()
        client.pack(now, wait=True)
        reference.changes.pack(now, referencesf, gc=False)
        questions += compare.compare(f'{layout}, packed', reference, client, pipeline)
    seen = compare.iteration(reference)
    pipeline.close()
    client.close()
    reference.close()
    return questions, conflicts, blobs, seen


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def main(directory):
    layout = sys.argv[1]
    served, copy = os.path.join(directory, 'served'), os.path.join(directory, 'copy')
    os.mkdir(served)
    revisions = write_base(served, layout in WITH_BLOBS)
    shutil.copytree(served, copy)
    base = read(os.path.join(served, 'base.fs'))
    conf = os.path.join(directory, 'zeo.conf')
    with open(conf, 'w') as f:
        f.write('<zeo>\n address 127.0.0.1:0\n</zeo>\n' + LAYOUTS[layout].replace('{directory}', served))
    os.environ['TMPDIR'] = temporary = os.path.join(directory, 'tmp')
    os.mkdir(temporary)

    server = zeod.Zeod(directory, '-C', conf)
    questions, conflicts, blobs, seen = zeod.run_all(
        directory, LIMIT_S, {layout: (compare_both, server, layout, served, copy, revisions)})[layout]
    try:
        # As the reference does: a base that is not read-only is locked.
        FileStorage(os.path.join(served, 'base.fs')).close()
        check('read-only' in LAYOUTS[layout], 'the base is not locked')
    except LockError:
        check('read-only' not in LAYOUTS[layout], 'the base is locked')
    made = glob.glob(os.path.join(temporary, 'zeod*.demoblobs'))
    check(bool(made) == (layout == 'temporary-blobs'), f'temporary directories: {made}')
    server.stop()
    check(not any(map(os.path.exists, made)), 'temporary blobs are left')
    check(read(os.path.join(served, 'base.fs')) == base, 'the base has changed')
    if '/changes.fs' in LAYOUTS[layout]:
        # Python goes on where zeod has stopped.
        storage = ZODB.config.storageFromString(LAYOUTS[layout].replace('{directory}', served))
        check(compare.iteration(storage) == seen, 'Python sees something else after zeod')
        storage.close()
    return f'{layout}: {questions} questions, {conflicts} conflicts, {blobs} blobs answered as DemoStorage does'


if __name__ == '__main__':
    zeod.main(main)
