"""What stock clients wrote through zeod, as Python's FileStorage reads it; and the way back."""

import logging
import os
import random
import shutil
import subprocess
import sys

import compare
import history
import transaction
import zeod
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import u64, z64

NAMES = '123'
CLIENTS = 4
COMMITS = 60
LARGE_BYTES = 5 << 20
# Beyond what the server keeps of a transaction in memory.
SPILLING_RECORDS, SPILLING_RECORD_BYTES = 70, 1 << 20
RESTORED_TRANSACTIONS = 300
LIMIT_S = 120


class Warnings(logging.Handler):
    """Collects what Python's ZODB complains about."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []
        logging.getLogger().addHandler(self)

    def emit(self, record):
        self.texts.append(record.getMessage())


def connect(server, storage='1'):
    return ClientStorage(server.address, storage=storage, wait_timeout=20)


def prepare(server):
    """A root with an object for each client and some for all."""
    db = DB(connect(server))
    with db.transaction('prepare') as connection:
        root = connection.root()
        root['shared'] = OOBTree()
        for number in range(CLIENTS):
            root[f'client{number}'] = PersistentMapping()
    db.close()


def use(server, number):
    return change(connect(server), number)


def change(storage, number):
    """ZODB transactions with new, changed and conflicting objects; deletions at the storage's level."""
    rng = random.Random(number)
    db = DB(storage)
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    conflicts = 0
    for count in range(COMMITS):
        while True:
            manager.begin()
            root = connection.root()
            root['shared'][rng.randrange(100)] = (number, count)
            own = root[f'client{number}']
            own[count] = MinPO('x' * rng.choice([1, 100, 10_000]))
            manager.get().note(f'client {number}, change {count}')
            manager.get().setUser(f'user{number}')
            manager.get().setExtendedInfo('count', count)
            try:
                manager.commit()
                break
            except ConflictError:
                conflicts += 1
                manager.abort()
        if count % 10 == 9:
            old = own[count - 5]
            delete(db.storage, old._p_oid, old._p_serial)
    connection.close()
    db.close()
    return conflicts


def delete(storage, oid, serial):
    meta = TransactionMetaData('', f'delete {u64(oid)}')
    storage.tpc_begin(meta)
    storage.deleteObject(oid, serial, meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)


def store_large(server):
    """A record above 4 MB, and a transaction above 64 MB."""
    storage = connect(server)
    for description, count, size in (('one large', 1, LARGE_BYTES),
                                     ('many', SPILLING_RECORDS, SPILLING_RECORD_BYTES)):
        meta = TransactionMetaData('', description)
        storage.tpc_begin(meta)
        for number in range(count):
            data = zodb_pickle(MinPO(random.Random(number).randbytes(size)))
            storage.store(storage.new_oid(), z64, data, '', meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    storage.close()


def restore(server, name, path):
    """Copy a database with undo and deletions into a storage."""
    source = FileStorage(path, read_only=True)
    storage = connect(server, name)
    storage.copyTransactionsFrom(source)
    check(compare.iteration(storage) == compare.iteration(source), 'the copy differs from its source')
    storage.close()
    source.close()


def seen(server):
    """What a client sees of all storages: iteration, last transaction, objects, size."""
    result = []
    for name in NAMES:
        storage = connect(server, name)
        result.append((compare.iteration(storage), storage.lastTransaction(),
                       len(storage), storage.getSize()))
        storage.close()
    return result


def check_in_python(path, expected, by_index):
    """Python's FileStorage takes the file, quietly, and finds what the clients saw."""
    transactions, last, objects, size = expected
    warnings = Warnings()
    storage = FileStorage(path)
    logging.getLogger().removeHandler(warnings)
    check(not warnings.texts, f'Python complains: {warnings.texts}')
    check(storage._used_index == int(by_index), f'used index: {storage._used_index}')
    check(compare.iteration(storage) == transactions, f'{path}: the iterator differs')
    check((storage.lastTransaction(), len(storage), storage.getSize()) == (last, objects, size),
          f'{path}: {storage.lastTransaction()}, {len(storage)}, {storage.getSize()}')
    fstest = subprocess.run([sys.executable, '-m', 'ZODB.scripts.fstest', path], capture_output=True, text=True)
    check(fstest.returncode == 0 and not fstest.stdout + fstest.stderr,
          f'fstest: {fstest.returncode}\n{fstest.stdout}{fstest.stderr}')
    return storage


def write_more(paths):
    """Python goes on with the files, its own way to undo included."""
    change(FileStorage(paths[0]), 0)
    storage = FileStorage(paths[0])
    for entry in storage.undoLog(0, 5):
        meta = TransactionMetaData('', 'undo')
        storage.tpc_begin(meta)
        storage.undo(entry['id'], meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    storage.close()
    for path in paths[1:]:
        storage = FileStorage(path)
        history.Writer(storage, seed=4).write(50)
        storage.close()


def compare_with(server, directory, paths):
    """A server on files that both have written, against Python on copies."""
    questions = 0
    for name, path in zip(NAMES, paths):
        copy = os.path.join(directory, f'copy{name}.fs')
        shutil.copy(path, copy)
        reference = FileStorage(copy)
        client = connect(server, name)
        pipeline = compare.Pipeline(server.address, name)
        questions += compare.compare(name, reference, client, pipeline)
        pipeline.close()
        client.close()
        reference.close()
    return questions


def in_process(directory, name, limit_s, function, *arguments):
    """This process must stay without threads, and a client has some."""
    return zeod.run_all(directory, limit_s, {name: (function, *arguments)})[name]


def main(directory):
    source = os.path.join(directory, 'source.fs')
    storage = FileStorage(source)
    history.Writer(storage, seed=3).write(RESTORED_TRANSACTIONS)
    storage.close()
    packed = os.path.join(directory, 'packed.fs')
    history.write_packed(packed)

    paths = [os.path.join(directory, f'Data{name}.fs') for name in NAMES]
    server = zeod.on_free_port(directory, *paths)
    in_process(directory, 'prepare', LIMIT_S, prepare, server)
    jobs = {f'client{number}': (use, server, number) for number in range(CLIENTS)}
    jobs['large'] = store_large, server
    jobs['restore'] = restore, server, '2', source
    jobs['restore-packed'] = restore, server, '3', packed
    results = zeod.run_all(directory, LIMIT_S, jobs)
    before = in_process(directory, 'seen', LIMIT_S, seen, server)
    server.stop()
    for path, expected in zip(paths, before):
        check_in_python(path, expected, by_index=True).close()
    write_more(paths)

    server = zeod.on_free_port(directory, *paths)
    questions = in_process(directory, 'compare', LIMIT_S, compare_with, server, directory, paths)
    jobs = {f'client{number}': (use, server, number) for number in range(CLIENTS)}
    zeod.run_all(directory, LIMIT_S, jobs)
    after = in_process(directory, 'seen', LIMIT_S, seen, server)
    server.kill()
    for path, expected in zip(paths, after):
        # The index of the clean stop still fits; without one Python reads the file.
        for by_index in (True, False):
            copy = os.path.join(directory, 'killed.fs')
            shutil.copy(path, copy)
            if by_index:
                shutil.copy(f'{path}.index', f'{copy}.index')
            else:
                os.remove(f'{copy}.index')
            check_in_python(copy, expected, by_index).close()

    return (f'{[len(e[0]) for e in before]} transactions, {[e[3] >> 10 for e in before]} KB, '
            f'{sum(results[f"client{n}"] for n in range(CLIENTS))} conflicts retried; '
            f'{questions} questions after Python went on; {[len(e[0]) for e in after]} after kill -9')


if __name__ == '__main__':
    zeod.main(main)
