"""Blobs in both layouts, around a file or in memory, for clients with a cache and clients that share
the directory."""

import os

import blobdir
import transaction
import zeod
from zeod import check
from ZODB.blob import Blob, BlobStorage
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError, Unsupported
from ZODB.utils import p64

SIZES = [0, 1, 58_999, 59_000, 59_001, 3_000_000]
LIMIT_S = 60

SET_UPS = {
    'filestorage with blob-dir': (blobdir.FILE, None),
    'filestorage in blobstorage': (blobdir.FILE_IN_BLOBSTORAGE, None),
    'filestorage in blobstorage, lawn': (blobdir.FILE_IN_BLOBSTORAGE, 'lawn'),
    'filestorage, bushy': (blobdir.FILE, 'bushy'),
    'filestorage, lawn': (blobdir.FILE, 'lawn'),
    'mappingstorage in blobstorage': (blobdir.MAPPING, None),
    'mappingstorage in blobstorage, lawn': (blobdir.MAPPING, 'lawn'),
}


def write(address, blob_dir, is_shared, name):
    """Two revisions of blobs of all sizes: {key: digest}."""
    db = DB(blobdir.connect(address, blob_dir, shared_blob_dir=is_shared))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    digests = {}
    for revision in range(2):
        for number, size in enumerate(SIZES):
            key = f'{name}{number}'
            blob = connection.root().setdefault(key, Blob())
            with blob.open('w') as f:
                digests[key] = blobdir.write(f, f'{key} {revision}', size + revision)
        manager.commit()
    # One that is given up.
    connection.root()['aborted'] = blob = Blob(b'aborted')
    connection.add(blob)
    manager.savepoint()
    manager.abort()
    connection.close()
    db.close()
    return digests


def read(address, blob_dir, is_shared, digests):
    """Another client finds the same content, and a second time from where it keeps it."""
    storage = blobdir.connect(address, blob_dir, shared_blob_dir=is_shared)
    db = DB(storage)
    for _ in range(2):
        with db.transaction() as connection:
            for key, digest in digests.items():
                with connection.root()[key].open('r') as f:
                    check(blobdir.digest_of(f) == digest, f'{key} has another content')
            serial = connection.root()['caching0']._p_serial
    try:
        storage.loadBlob(p64(0x777777), serial)
    except (POSKeyError, Unsupported):
        pass
    else:
        check(False, 'a blob that nobody wrote')
    db.close()


def use(address, directory, blobs):
    """Clients of both kinds write, and both kinds read what both wrote."""
    digests = write(address, os.path.join(directory, 'cache1'), False, 'caching')
    digests.update(write(address, blobs, True, 'sharing'))
    read(address, os.path.join(directory, 'cache2'), False, digests)
    read(address, blobs, True, digests)
    return digests


def lay_out(blobs, layout):
    os.mkdir(blobs)
    if layout:
        with open(os.path.join(blobs, '.layout'), 'w') as f:
            f.write(layout)


def check_on_disk(blobs, layout):
    with open(os.path.join(blobs, '.layout')) as f:
        check(f.read() == (layout or 'bushy'), 'the marker names another layout')
    found = blobdir.revisions_on_disk(blobs)
    check(len(found) == 2 * 2 * len(SIZES), f'{len(found)} revisions')
    files = {os.path.relpath(path, blobs) for path in found.values()}
    # The lock is ZODB's own, of the clients that share the directory.
    other = {name for name in blobdir.files_below(blobs) - files if os.path.basename(name) != '.lock'}
    check(not other, f'other files: {sorted(other)[:5]}')
    for path in found.values():
        check(not os.stat(path).st_mode & 0o222, f'{path} is writable')


def check_in_python(directory, conf, digests):
    """Python's own storage opens the same files."""
    files = blobdir.paths(directory)
    if conf == blobdir.FILE:
        storage = FileStorage(files['path'], blob_dir=files['blobs'])
    else:
        storage = BlobStorage(files['blobs'], FileStorage(files['path']))
    db = DB(storage)
    with db.transaction() as connection:
        for key, digest in digests.items():
            with connection.root()[key].open('r') as f:
                check(blobdir.digest_of(f) == digest, f'{key} has another content in Python')
    db.close()


def main(directory):
    for number, (name, (conf, layout)) in enumerate(SET_UPS.items()):
        own = os.path.join(directory, str(number))
        os.mkdir(own)
        blobs = blobdir.paths(own)['blobs']
        if layout:
            lay_out(blobs, layout)
        server = blobdir.start(own, conf)
        try:
            digests = zeod.run_all(directory, LIMIT_S, {name: (use, server.address, own, blobs)})[name]
            server.stop()
            check_on_disk(blobs, layout)
            if conf == blobdir.MAPPING:
                continue
            check_in_python(own, conf, digests)
            # Once more by zeod, with what Python left.
            server = blobdir.start(own, conf)
            job = {f'{name} again': (read, server.address, os.path.join(own, 'cache3'), False, digests)}
            zeod.run_all(directory, LIMIT_S, job)
            server.stop()
        except BaseException:
            print(f'in the set-up: {name}')
            raise
        finally:
            server.kill()
    return f'{len(SET_UPS)} set-ups, {2 * len(SIZES)} blobs in two revisions each'


if __name__ == '__main__':
    zeod.main(main)
