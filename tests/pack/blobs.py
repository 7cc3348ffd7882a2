"""Databases with blobs, packed by Python and through zeod: the same files, the same blobs."""

import os
import random
import shutil
import sys
import time

import transaction
import zeod
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError
from ZODB.serialize import referencesf

CHANGES = 25
NAMES = 'abcdef'


def change(database, connection, chance):
    """One transaction: a blob comes, changes or goes, or an earlier transaction is undone."""
    root = connection.root()
    name = chance.choice(NAMES)
    what = chance.random()
    # Without the root there is no database.
    log = [entry for entry in database.undoLog(0, 6)
           if entry['description'] != 'initial database creation']
    if what < 0.2 and log:
        database.undo(chance.choice(log)['id'])
    elif what < 0.35 and name in root:
        del root[name]
    else:
        if name not in root or chance.random() < 0.2:
            root[name] = Blob()
        with root[name].open('w') as f:
            f.write(chance.randbytes(chance.randrange(1, 3000)))
    try:
        transaction.commit()
    except UndoError:
        transaction.abort()
    connection.sync()


def write_history(path, blobs, chance):
    """A database; the times between its transactions, at which it can be packed."""
    database = DB(FileStorage(path, blob_dir=blobs))
    connection = database.open()
    times = []
    for _ in range(CHANGES):
        change(database, connection, chance)
        times.append(time.time())
    connection.close()
    database.close()
    return times


def tree(directory):
    """A file's content, or that of all files below a directory by their path."""
    found = {}
    if os.path.isfile(directory):
        with open(directory, 'rb') as f:
            found[''] = f.read()
    for base, directories, files in os.walk(directory):
        for name in files:
            path = os.path.join(base, name)
            with open(path, 'rb') as f:
                found[os.path.relpath(path, directory)] = f.read()
        for name in directories:
            if not os.listdir(os.path.join(base, name)):
                found[os.path.relpath(os.path.join(base, name), directory)] = None
    return found


def remove_orphans(path, blobs):
    """A failed undo leaves a file of no transaction in Python's blob directory. A whole object's
    removal takes it along there; zeod touches nothing that is later than the pack time."""
    storage = FileStorage(path, read_only=True)
    tids = {record.tid for record in storage.iterator()}
    storage.close()
    for base, _, files in os.walk(blobs):
        for name in files:
            if name.endswith('.blob') and bytes.fromhex(name[2:-5]) not in tids:
                os.remove(os.path.join(base, name))


def pack_with_python(path, blobs, times):
    storage = FileStorage(path, blob_dir=blobs)
    for when in times:
        storage.pack(when, referencesf)
    storage.close()


def pack_with_zeod(directory, path, blobs, times):
    conf = os.path.join(directory, 'zeo.conf')
    with open(conf, 'w') as f:
        f.write(f'<zeo>\n  address 127.0.0.1:0\n</zeo>\n'
                f'<filestorage 1>\n  path {path}\n  blob-dir {blobs}\n</filestorage>\n')
    server = zeod.Zeod(directory, '-C', conf)
    client = ClientStorage(server.address, wait_timeout=30)
    for when in times:
        client.pack(when, wait=True)
    client.close()
    server.stop()


def compare(directory, seed):
    chance = random.Random(seed)
    ours, theirs = os.path.join(directory, 'ours'), os.path.join(directory, 'theirs')
    os.mkdir(theirs)
    times = write_history(os.path.join(theirs, 'Data.fs'), os.path.join(theirs, 'blobs'), chance)
    remove_orphans(os.path.join(theirs, 'Data.fs'), os.path.join(theirs, 'blobs'))
    shutil.copytree(theirs, ours)
    when = sorted(chance.sample(times, chance.randrange(1, 3)))
    pack_with_python(os.path.join(theirs, 'Data.fs'), os.path.join(theirs, 'blobs'), when)
    pack_with_zeod(directory, os.path.join(ours, 'Data.fs'), os.path.join(ours, 'blobs'), when)
    names = ['Data.fs', 'Data.fs.old', 'blobs', 'blobs.old']
    if not os.path.exists(os.path.join(theirs, 'Data.fs.old')):
        # Python removes what an earlier pack kept also when the next one has nothing to do.
        names = ['Data.fs', 'blobs']
    count = 0
    for name in names:
        a, b = tree(os.path.join(ours, name)), tree(os.path.join(theirs, name))
        # Python leaves its list of blobs to remove where a pack had nothing to do.
        b.pop('.removed', None)
        check(a == b, f'seed {seed}: {name} differs; only here {sorted(set(a) - set(b))}, '
                      f'only there {sorted(set(b) - set(a))}')
        count += len(a)
    shutil.rmtree(ours)
    shutil.rmtree(theirs)
    return count


def run(directory):
    seeds = int(sys.argv[1])
    files = sum(compare(directory, seed) for seed in range(seeds))
    return f'{seeds} databases with blobs packed alike, {files} files and directories compared'


if __name__ == '__main__':
    zeod.main(run)
