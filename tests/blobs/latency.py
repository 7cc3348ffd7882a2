"""Small commits while others upload blobs, compared with the same commits alone."""

import os
import statistics
import time

import blobdir
import transaction
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZODB.blob import Blob
from ZODB.DB import DB

CLIENTS = 8
UPLOAD_BYTES = 32 << 20
ALONE = 100             # commits
RATIO_LIMIT = 20        # loose, for times are noisy; hung commits are what is looked for
LIMIT_S = 150


def prepare(address):
    db = DB(blobdir.connect(address, None))
    with db.transaction() as connection:
        for number in range(CLIENTS):
            connection.root()[number] = PersistentMapping()
        connection.root()['small'] = PersistentMapping()
    db.close()


def commit_small(address, goes_on):
    """The times of small commits, for as long as goes_on(their number)."""
    db = DB(blobdir.connect(address, None))
    manager = transaction.TransactionManager()
    small = db.open(manager).root()['small']
    times = []
    while goes_on(len(times)):
        small['value'] = len(times)
        start = time.perf_counter()
        manager.commit()
        times.append(time.perf_counter() - start)
    db.close()
    return times


def upload(address, directory, number):
    db = DB(blobdir.connect(address, os.path.join(directory, f'cache{number}')))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    blob = connection.root()[number]['blob'] = Blob()
    with blob.open('w') as f:
        digest = blobdir.write(f, number, UPLOAD_BYTES)
    start = time.perf_counter()
    manager.commit()
    seconds = time.perf_counter() - start
    db.close()
    return digest, seconds


def uploading(directory):
    """Is one of the uploads still to come to its end?"""
    names = [f'upload{number}.result' for number in range(CLIENTS)]
    return lambda count: not all(os.path.exists(os.path.join(directory, name)) for name in names)


def main(directory):
    server = blobdir.start(directory)
    zeod.run_all(directory, LIMIT_S, {'prepare': (prepare, server.address)})
    job = {'alone': (commit_small, server.address, lambda count: count < ALONE)}
    alone = zeod.run_all(directory, LIMIT_S, job)['alone']
    jobs = {f'upload{number}': (upload, server.address, directory, number) for number in range(CLIENTS)}
    jobs['small'] = commit_small, server.address, uploading(directory)
    results = zeod.run_all(directory, LIMIT_S, jobs)
    server.stop()
    check_content(directory, {results[f'upload{number}'][0] for number in range(CLIENTS)})

    meanwhile = results['small']
    check(meanwhile, 'no small commit came to its end')
    one, other = statistics.median(alone), statistics.median(meanwhile)
    ratio = other / one
    slowest = max(results[f'upload{number}'][1] for number in range(CLIENTS))
    figures = (f'{CLIENTS} uploads of {UPLOAD_BYTES >> 20} MB in {slowest:.1f} s; a small commit takes '
               f'{one * 1000:.2f} ms alone and {other * 1000:.2f} ms meanwhile: {ratio:.1f} times '
               f'(longest of {len(meanwhile)}: {max(meanwhile) * 1000:.0f} ms)')
    check(ratio < RATIO_LIMIT, figures)
    return figures


def check_content(directory, digests):
    found = set()
    for path in blobdir.revisions_on_disk(os.path.join(directory, 'blobs')).values():
        with open(path, 'rb') as f:
            found.add(blobdir.digest_of(f))
    check(found == digests, 'the blobs lie there with another content')


if __name__ == '__main__':
    zeod.main(main)
