"""What a server answers is what its front answers; what is committed there is committed here.

Argument: zeod or python, the server behind.
"""

import os
import shutil
import sys
import time
from base64 import b64encode

import compare
import history
import servers
import transaction
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, POSKeyError, ReadConflictError
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import load_current, p64, z64

TRANSACTIONS = 60
BLOB = bytes(range(256)) * 1500


def commit(storage, action):
    """A transaction with what `action` does in it; its tid."""
    meta = TransactionMetaData('somebody', 'something', {'some': 'thing'})
    storage.tpc_begin(meta)
    try:
        action(meta)
        storage.tpc_vote(meta)
    except BaseException:
        storage.tpc_abort(meta)
        raise
    return storage.tpc_finish(meta)


def raises(error, function, *arguments):
    try:
        function(*arguments)
    except error:
        return
    raise AssertionError(f'{function} {arguments} does not raise {error}')


def compare_histories(kind, directory):
    """A file with all that can stand in one, asked through the front."""
    path = os.path.join(directory, 'Data.fs')
    storage = FileStorage(path)
    history.Writer(storage, seed=3).write(TRANSACTIONS)
    storage.close()
    shutil.copy(path, os.path.join(directory, 'copy.fs'))
    server = servers.behind(kind, directory, 'one')
    front = servers.in_front(directory, 'one')
    reference = FileStorage(os.path.join(directory, 'copy.fs'), read_only=True)
    client = servers.client(front, directory, 'compared')
    pipeline = compare.Pipeline(front.address, '1')
    questions = compare.compare('front', reference, client, pipeline)
    undoable = client.undoLog(0, -1000)
    check(undoable == reference.undoLog(0, -1000), 'the undo log differs')
    check(client.undoInfo(3, 9) == reference.undoInfo(3, 9), 'a part of it differs')
    user = undoable[5]['user_name']
    check(client.undoInfo(0, -5, {'user_name': user}) == reference.undoInfo(0, -5, {'user_name': user}),
          'what it says of one user differs')
    pipeline.close()
    client.close()
    reference.close()
    return server, front, questions


def check_changes(front, direct):
    """Every kind of change, through the front, seen by another client of the server behind."""
    oid, other = front.new_oid(), front.new_oid()
    first = commit(front, lambda t: (front.store(oid, z64, zodb_pickle(MinPO(1)), '', t),
                                     front.store(other, z64, zodb_pickle(MinPO(2)), '', t)))
    servers.wait_until('the server behind tells of it', lambda: direct.lastTransaction() == first)
    check(load_current(direct, oid)[1] == first, 'another revision is stored')
    check(direct.history(oid)[0]['some'] == 'thing', 'the extension is lost')
    second = commit(front, lambda t: front.store(oid, first, zodb_pickle(MinPO(3)), '', t))
    raises(ConflictError, commit, front, lambda t: front.store(oid, first, zodb_pickle(MinPO(4)), '', t))
    raises(ReadConflictError, commit, front, lambda t: front.checkCurrentSerialInTransaction(oid, first, t))
    # One that stores nothing, and one that only checks.
    last = commit(front, lambda t: None)
    check(last >= second, 'an empty transaction comes before the last')
    commit(front, lambda t: front.checkCurrentSerialInTransaction(oid, second, t))
    undone = commit(front, lambda t: front.undo(b64encode(second), t))
    check(load_current(front, oid)[0] == zodb_pickle(MinPO(1)), 'undo does not bring the first state back')
    servers.wait_until('the server behind tells of it', lambda: direct.lastTransaction() >= undone)
    check(load_current(direct, oid)[1] == undone, 'undo is not seen')
    # Others' changes come through.
    theirs = commit(direct, lambda t: direct.store(oid, undone, zodb_pickle(MinPO(5)), '', t))
    servers.wait_until('the front tells of it', lambda: front.lastTransaction() == theirs)
    check(load_current(front, oid) == (zodb_pickle(MinPO(5)), theirs), 'the front has an old revision')
    deleted = commit(front, lambda t: front.deleteObject(other, first, t))
    raises(POSKeyError, front.loadBefore, other, p64(1 << 62))
    raises(POSKeyError, front.loadBefore, p64(1 << 50), p64(1 << 62))
    check(direct.loadBefore(other, deleted)[2] == deleted, 'the deletion is not seen')


def check_blobs(front, direct, directory):
    # The history has something else there.
    commit(front, lambda t: front.store(z64, load_current(front, z64)[1], zodb_pickle(PersistentMapping()), '', t))
    database, other = DB(front), DB(direct)
    connection = database.open()
    connection.root()['blob'] = Blob(BLOB)
    transaction.commit()
    database.storage.sync()
    theirs = other.open(transaction.TransactionManager())
    servers.wait_until('the blob is seen', lambda: 'blob' in (theirs.sync() or theirs.root()))
    with theirs.root()['blob'].open() as f:
        check(f.read() == BLOB, 'another blob is stored')
    with theirs.root()['blob'].open('w') as f:
        f.write(b'changed' + BLOB)
    theirs.transaction_manager.commit()
    changed = direct.lastTransaction()
    servers.wait_until('its change is seen', lambda: front.lastTransaction() >= changed)
    connection.sync()
    with connection.root()['blob'].open() as f:
        check(f.read() == b'changed' + BLOB, 'the changed blob is not seen')
    kept = [name for name in find(os.path.join(directory, 'front-blobs')) if name.endswith('.blob')]
    check(kept, 'the front keeps no blobs')
    left = os.listdir(os.path.join(directory, 'front-blobs', 'tmp'))
    check(not left, f'uploads are left: {left}')
    connection.close()
    theirs.close()


def find(directory):
    return [name for _, _, names in os.walk(directory) for name in names]


def check_restoring(front):
    """Transactions of another storage keep their ids."""
    last = int.from_bytes(front.lastTransaction(), 'big')
    for number in range(3):
        tid, oid = p64(last + (number + 1 << 20)), p64((1 << 40) + number)
        meta = TransactionMetaData()
        front.tpc_begin(meta, tid, ' ')
        front.restore(oid, tid, zodb_pickle(MinPO(number)), '', None, meta)
        front.tpc_vote(meta)
        check(front.tpc_finish(meta) == tid, 'the id has changed')
        check(load_current(front, oid) == (zodb_pickle(MinPO(number)), tid), 'another state')


def main(directory):
    kind = sys.argv[1]
    server, front, questions = compare_histories(kind, directory)
    through, direct = (servers.client(one, directory, name) for one, name in ((front, 'through'), (server, 'direct')))
    check_changes(through, direct)
    check_restoring(through)
    through.pack(time.time() + 10_000, None, wait=1)
    check(len(list(direct.iterator())) < TRANSACTIONS, 'the pack did nothing')
    through.close()
    direct.close()
    through, direct = (servers.client(one, directory, name) for one, name in ((front, 'through'), (server, 'direct')))
    check_blobs(through, direct, directory)
    through.close()
    direct.close()
    front.stop()
    server.stop()
    return f'{questions} answers compared'


if __name__ == '__main__':
    zeod.main(main)
