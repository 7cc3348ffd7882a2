"""A large blob up and down through a stock client, while the server's memory is watched.
Argument: its size in bytes."""

import os
import sys
import threading
import time

import blobdir
import transaction
import zeod
from zeod import check
from ZODB.blob import Blob
from ZODB.DB import DB

GROWTH_LIMIT_KB = 32 << 10
SAMPLE_S = 0.01
LIMIT_S = 3600          # the test's own limit comes first


class Memory(threading.Thread):
    """Samples the resident memory of a process until it is told to stop."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most_kb = pid, 0
        self.done = threading.Event()

    def run(self):
        while not self.done.wait(SAMPLE_S):
            self.most_kb = max(self.most_kb, resident_kb(self.pid))


def resident_kb(pid):
    with open(f'/proc/{pid}/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('VmRSS:'))


def watched(pid, function, *arguments):
    """The result, the seconds that it took, and by how much the server's memory grew."""
    memory, before, start = Memory(pid), resident_kb(pid), time.monotonic()
    memory.start()
    result = function(*arguments)
    seconds = time.monotonic() - start
    memory.done.set()
    memory.join()
    check(memory.most_kb > 0, 'the memory was never looked at')
    return result, seconds, max(0, memory.most_kb - before)


def upload(db, connection, size):
    blob = Blob()
    connection.root()['blob'] = blob
    with blob.open('w') as f:
        digest = blobdir.write(f, size, size)
    start = time.monotonic()
    connection.transaction_manager.commit()
    return digest, time.monotonic() - start


def download(connection):
    with connection.root()['blob'].open('r') as f:
        return blobdir.digest_of(f)


def use(address, pid, directory, size):
    # What the first requests take for themselves is no growth.
    db = DB(blobdir.connect(address, os.path.join(directory, 'up')))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root()['small'] = Blob(b'small')
    manager.commit()
    (digest, committed_s), _, up_kb = watched(pid, upload, db, connection, size)
    connection.close()
    db.close()
    db = DB(blobdir.connect(address, os.path.join(directory, 'down')))
    connection = db.open()
    check(connection.root()['small'].open('r').read() == b'small', 'the small blob differs')
    got, down_s, down_kb = watched(pid, download, connection)
    connection.close()
    db.close()
    check(got == digest, 'the blob comes back with another content')
    return digest, committed_s, up_kb, down_s, down_kb


def main(directory):
    size = int(sys.argv[1])
    server = blobdir.start(directory)
    job = {'client': (use, server.address, server.process.pid, directory, size)}
    digest, up_s, up_kb, down_s, down_kb = zeod.run_all(directory, LIMIT_S, job)['client']
    server.stop()
    blobs = blobdir.revisions_on_disk(os.path.join(directory, 'blobs'))
    check(len(blobs) == 2 and len(blobdir.files_below(os.path.join(directory, 'blobs'))) == 2,
          f'two blobs, not {blobs}')
    largest = max(blobs.values(), key=os.path.getsize)
    with open(largest, 'rb') as f:
        check(blobdir.digest_of(f) == digest, 'the blob lies there with another content')
    check(max(up_kb, down_kb) < GROWTH_LIMIT_KB, f'the server grew by {up_kb} and {down_kb} KB')
    megabytes = size / (1 << 20)
    return (f'{megabytes:.0f} MB up in {up_s:.1f} s ({megabytes / up_s:.0f} MB/s), the server grew by {up_kb} KB; '
            f'down in {down_s:.1f} s ({megabytes / down_s:.0f} MB/s), {down_kb} KB')


if __name__ == '__main__':
    zeod.main(main)
