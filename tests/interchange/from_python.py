"""Databases written by Python's FileStorage, with every kind of index and of tail, as zeod serves them."""

import os
import random
import shutil

import compare
import history
import zeod
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.tests.MinPO import MinPO
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import p64, z64

TRANSACTIONS = 1000
DENSE_OBJECTS = 70_000
MAGIC_PYTHON2 = b'FS21'


def write(directory):
    """The database; an older copy of its index; what a vote leaves at the end of the file."""
    path = os.path.join(directory, 'written.fs')
    storage = FileStorage(path)
    writer = history.Writer(storage, seed=1)
    writer.write(TRANSACTIONS // 2)
    storage.close()
    shutil.copy(f'{path}.index', f'{path}.older')
    storage = FileStorage(path)
    writer.storage = storage
    writer.write(TRANSACTIONS - TRANSACTIONS // 2)
    size = storage.getSize()
    storage.close()

    # A vote writes the whole transaction, with status 'c': in a copy, which is then read back.
    voted = os.path.join(directory, 'voted.fs')
    shutil.copy(path, voted)
    storage = FileStorage(voted)
    meta = TransactionMetaData('nobody', 'voted and never finished')
    storage.tpc_begin(meta)
    storage.store(p64(1 << 33), z64, zodb_pickle(MinPO('never')), '', meta)
    storage.tpc_vote(meta)
    with open(voted, 'rb') as f:
        f.seek(size)
        tail = f.read()
    storage.tpc_abort(meta)
    storage.close()
    check(tail[16:17] == b'c', f'a voted transaction has the status {tail[16:17]}')
    return path, writer.counts, tail


def write_dense(path):
    """More objects than have one prefix in the index, in few transactions."""
    dense = path.replace('written', 'dense')
    storage = FileStorage(dense)
    for start in range(0, DENSE_OBJECTS, 1000):
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        for oid in range(start, min(start + 1000, DENSE_OBJECTS)):
            storage.store(p64(oid), z64, zodb_pickle(MinPO(oid)), '', meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    storage.close()
    return dense


def read(path):
    with open(path, 'rb') as f:
        return f.read()


def variants(path, tail):
    """{name: (content of Data.fs, content of Data.fs.index)}, all with the same transactions."""
    data, index, older = read(path), read(f'{path}.index'), read(f'{path}.older')
    return {
        'present': (data, index),
        'missing': (data, None),
        'stale': (data, older),
        'garbage': (data, random.Random(2).randbytes(5000)),
        'cut': (data, index[:len(index) // 2]),
        'empty': (data, b''),
        'python2': (MAGIC_PYTHON2 + data[4:], index),
        'voted-tail': (data + tail, index),
        'voted-tail-no-index': (data + tail, None),
        'torn-tail': (data + tail.replace(b'c', b' ', 1)[:-20], index),
        'torn-header': (data + tail[:9], older),
    }


def main(directory):
    path, counts, tail = write(directory)
    made = variants(path, tail)
    references = dict.fromkeys(made, FileStorage(path, read_only=True))
    packed = os.path.join(directory, 'packed.fs')
    history.write_packed(packed)
    for name, written in (('packed', packed), ('dense', write_dense(path))):
        made[name] = read(written), read(f'{written}.index')
        made[f'{name}-no-index'] = read(written), None
        references[name] = references[f'{name}-no-index'] = FileStorage(written, read_only=True)
    config = ['<zeo>', '  address 127.0.0.1:0', '</zeo>']
    files = {}
    for name, (data, index) in made.items():
        os.mkdir(os.path.join(directory, name))
        files[name] = file = os.path.join(directory, name, 'Data.fs')
        with open(file, 'wb') as f:
            f.write(data)
        if index is not None:
            with open(f'{file}.index', 'wb') as f:
                f.write(index)
        config += [f'<filestorage {name}>', f'  path {file}', '</filestorage>']
    conf = os.path.join(directory, 'zeo.conf')
    with open(conf, 'w') as f:
        f.write('\n'.join(config) + '\n')

    server = zeod.Zeod(directory, '-C', conf)
    questions = 0
    for name in made:
        client = ClientStorage(server.address, storage=name, wait_timeout=20)
        pipeline = compare.Pipeline(server.address, name)
        # With the same content the others can only differ in the index, and at the end.
        full = name in ('present', 'packed')
        questions += compare.compare(name, references[name], client, pipeline, every_tid=full,
                                     part=name.startswith('dense'), iterate=full or 'tail' in name)
        pipeline.close()
        client.close()
    server.stop()
    for name, file in files.items():
        after_the_stop(name, file, made[name][0], references[name])
    for reference in set(references.values()):
        reference.close()
    return (f'{sum(counts.values())} changes {counts}, {len(history.OIDS)} oids, '
            f'{len(made)} storages, {questions} questions answered as FileStorage does')


def after_the_stop(name, file, before, reference):
    """Serving changes nothing but the tail; Python goes on with the file and the index."""
    size = reference.getSize()
    check(read(file) == before[:size], f'{name}: serving has changed Data.fs')
    if 'tail' in name or 'torn' in name:
        check(read(f'{file}.tr0') == before[size:], f'{name}: .tr0 is not what was cut off')
    if name == 'python2':
        with open(file, 'r+b') as f:
            f.write(b'FS30')    # Python 3 opens no other
    storage = FileStorage(file)
    check(storage._used_index == 1, f"{name}: Python does not take zeod's index")
    check(sorted(storage._index.items()) == sorted(reference._index.items()), f'{name}: another index')
    check(compare.iteration(storage) == compare.iteration(reference), f'{name}: Python reads something else after zeod')
    storage.close()


if __name__ == '__main__':
    zeod.main(main)
