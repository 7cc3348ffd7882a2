"""kill -9 while blobs are committed: what was acknowledged is there, and no blob without its
transaction. Argument: how often."""

import os
import random
import sys
import time

import blobdir
import transaction
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.blob import Blob, is_blob_record
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, StorageTransactionError
from ZODB.utils import u64

CLIENTS = 4
SIZES = [0, 100, 70_000, 700_000, 5_000_000]
BLOBS_LIMIT = 4         # in one transaction
KILL_AFTER_S = 0.4      # at most, once all have gone on
GOES_ON_LIMIT_S = 60
END_LIMIT_S = 60


class LoggedStorage(ClientStorage):
    """Writes down what was acknowledged."""

    def open_log(self, path):
        self.log = open(path, 'a', buffering=1)
        self.digests = {}

    def tpc_finish(self, txn, f=lambda tid: None):
        tid = super().tpc_finish(txn, f)
        for oid, digest in self.digests.items():
            self.log.write(f'{u64(oid)} {u64(tid)} {digest}\n')
        self.log.write(f'finished {u64(tid)}\n')
        return tid


def prepare(address):
    db = DB(ClientStorage(address, wait_timeout=20))
    with db.transaction() as connection:
        for number in range(CLIENTS):
            connection.root()[number] = PersistentMapping()
    db.close()


def load(address, directory, number):
    """Commits until the file `end` is there; the stock client reconnects by itself."""
    rng = random.Random(number)
    storage = LoggedStorage(address, blob_dir=os.path.join(directory, f'cache{number}'), wait_timeout=60)
    storage.open_log(os.path.join(directory, f'client{number}.blobs'))
    db = DB(storage)
    connection = db.open(transaction.TransactionManager())
    manager = connection.transaction_manager
    count = disconnected = 0
    while not os.path.exists(os.path.join(directory, 'end')):
        count += 1
        try:
            manager.begin()
            own = connection.root()[number]
            blobs = change(connection, own, rng)
            storage.digests = {blob._p_oid: digest for blob, digest in blobs.items()}
            manager.commit()
        except ClientDisconnected:
            disconnected += 1
            time.sleep(0.02)
        except (ConflictError, StorageTransactionError):
            pass        # of a commit that the crash came into, too
        finally:
            manager.abort()
    connection.close()
    db.close()
    return count, disconnected


def change(connection, own, rng):
    """New and changed blobs: {blob: the digest of its content}."""
    digests = {}
    for slot in rng.sample(range(10), rng.randint(1, BLOBS_LIMIT)):
        blob = own.get(slot)
        if blob is None or rng.random() < 0.3:
            blob = own[slot] = Blob()
            connection.add(blob)
        with blob.open('w') as f:
            digests[blob] = blobdir.write(f, rng.random(), rng.choice(SIZES))
    return digests


def acknowledged(directory):
    """{(oid, tid): digest} of every blob whose commit was acknowledged, and how many each client has."""
    found, counts = {}, [0] * CLIENTS
    for number in range(CLIENTS):
        path = os.path.join(directory, f'client{number}.blobs')
        if not os.path.exists(path):
            continue
        with open(path) as f:
            pending = {}
            for line in f:
                words = line.split()
                if words[0] != 'finished':
                    pending[int(words[0]), int(words[1])] = words[2]
                elif line.endswith('\n'):
                    found.update(pending)
                    pending = {}
                    counts[number] += 1
    return found, counts


def wait_for_progress(directory, workers):
    """Every client has something acknowledged by this server."""
    before, deadline = acknowledged(directory)[1], time.monotonic() + GOES_ON_LIMIT_S
    while not all(now > then for now, then in zip(acknowledged(directory)[1], before)):
        check(not any(worker.poll() for worker in workers), 'a client ended')
        check(time.monotonic() < deadline, f'not all clients went on after {before}')
        time.sleep(0.02)


def records_of_blobs(path):
    """The (oid, tid) of every blob's record."""
    storage = FileStorage(path, read_only=True)
    found = {(u64(record.oid), u64(record.tid))
             for t in storage.iterator() for record in t if record.data and is_blob_record(record.data)}
    storage.close()
    return found


def check_directory(directory, known):
    """Every acknowledged blob with its content, and nothing that has no transaction.

    The contents of `known` ones were looked at before: committed files never change.
    """
    files = blobdir.paths(directory)
    on_disk = blobdir.revisions_on_disk(files['blobs'])
    expected = acknowledged(directory)[0]
    for revision, digest in expected.items():
        check(revision in on_disk, f'the acknowledged blob {revision} is lost')
        if revision not in known:
            with open(on_disk[revision], 'rb') as f:
                check(blobdir.digest_of(f) == digest, f'the acknowledged blob {revision} has another content')
            known.add(revision)
    records = records_of_blobs(files['path'])
    check(on_disk.keys() == records,
          f'blobs without a record: {sorted(on_disk.keys() - records)[:5]}, '
          f'records without a blob: {sorted(records - on_disk.keys())[:5]}')
    below = blobdir.files_below(files['blobs'])
    check(len(below) == len(on_disk), f'other files stay: {[n for n in below if not n.endswith(".blob")][:5]}')


def quiet_restart(directory, known):
    """A start that no client meets, to look at what it leaves."""
    aside = os.path.join(directory, 'aside.sock')
    server = blobdir.start(directory, address=aside)
    check_directory(directory, known)
    server.kill()


def main(directory):
    rounds = int(sys.argv[1])
    rng = random.Random(rounds)
    known = set()
    # A path stays the same over restarts; a free port would not.
    socket = os.path.join(directory, 'zeo.sock')
    server = blobdir.start(directory, address=socket)
    zeod.run_all(directory, END_LIMIT_S, {'prepare': (prepare, socket)})
    workers = [zeod.Worker(directory, f'client{number}', load, socket, directory, number)
               for number in range(CLIENTS)]
    left_behind = 0
    try:
        for _ in range(rounds):
            wait_for_progress(directory, workers)
            time.sleep(rng.random() * KILL_AFTER_S)     # when the crash comes is by chance
            server.kill()
            left_behind += sum(not name.endswith('.blob')
                               for name in blobdir.files_below(blobdir.paths(directory)['blobs']))
            quiet_restart(directory, known)
            server = blobdir.start(directory, address=socket)
        wait_for_progress(directory, workers)
        open(os.path.join(directory, 'end'), 'w').close()
        results = zeod.join(workers, END_LIMIT_S)
    finally:
        for worker in workers:
            worker.kill()
    server.stop()
    check_directory(directory, known)
    found, counts = acknowledged(directory)
    tried, disconnected = map(sum, zip(*results.values()))
    return (f'{rounds} times kill -9, {tried} transactions tried, {sum(counts)} acknowledged with '
            f'{len(found)} blobs, all there; {left_behind} files of unfinished ones removed; '
            f'{disconnected} disconnected')


if __name__ == '__main__':
    zeod.main(main)
