"""Small commits while others upload blobs, compared with the same commits alone, and while as many
others only keep the processors busy: where cores are few, that is most of the difference."""

import io
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
UPLOADS = 3             # of each client
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
    """(begin, end) of small commits, for as long as goes_on(their number)."""
    db = DB(blobdir.connect(address, None))
    manager = transaction.TransactionManager()
    small = db.open(manager).root()['small']
    times = []
    while goes_on(len(times)):
        small['value'] = len(times)
        start = time.monotonic()
        manager.commit()
        times.append((start, time.monotonic()))
    db.close()
    return times


def durations(times, since=float('-inf'), until=float('inf')):
    """Of those that began in this span."""
    return [end - start for start, end in times if since <= start <= until]


def upload(address, directory, number):
    """The digests of what it commits, and from when until when."""
    db = DB(blobdir.connect(address, os.path.join(directory, f'cache{number}')))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    digests, times = [], []
    for count in range(UPLOADS):
        blob = connection.root()[number][count] = Blob()
        with blob.open('w') as f:
            digests.append(blobdir.write(f, f'{number} {count}', UPLOAD_BYTES))
        start = time.monotonic()
        manager.commit()
        times.append((start, time.monotonic()))
    db.close()
    return digests, times


def compute(directory):
    """Keeps a processor busy until the small commits are made."""
    while not os.path.exists(os.path.join(directory, 'busy.result')):
        blobdir.digest_of(io.BytesIO(bytes(UPLOAD_BYTES)))


def uploading(directory):
    """Is one of the uploads still to come to its end?"""
    names = [f'upload{number}.result' for number in range(CLIENTS)]
    return lambda count: not all(os.path.exists(os.path.join(directory, name)) for name in names)


def main(directory):
    server = blobdir.start(directory)
    zeod.run_all(directory, LIMIT_S, {'prepare': (prepare, server.address)})
    commits = commit_small, server.address, lambda count: count < ALONE
    alone = zeod.run_all(directory, LIMIT_S, {'alone': commits})['alone']
    jobs = {f'computing{number}': (compute, directory) for number in range(CLIENTS)}
    busy = zeod.run_all(directory, LIMIT_S, jobs | {'busy': commits})['busy']
    jobs = {f'upload{number}': (upload, server.address, directory, number) for number in range(CLIENTS)}
    jobs['small'] = commit_small, server.address, uploading(directory)
    results = zeod.run_all(directory, LIMIT_S, jobs)
    server.stop()
    digests, spans = [], []
    for number in range(CLIENTS):
        more_digests, more_spans = results[f'upload{number}']
        digests += more_digests
        spans += more_spans
    check_content(directory, set(digests))

    start, end = min(start for start, _ in spans), max(end for _, end in spans)
    meanwhile = durations(results['small'], start, end)
    check(meanwhile, 'no small commit came to its end')
    medians = [statistics.median(times) for times in (durations(alone), durations(busy), meanwhile)]
    figures = (f'{len(spans)} uploads of {UPLOAD_BYTES >> 20} MB by {CLIENTS} clients in {end - start:.1f} s; '
               'a small commit takes %.2f ms alone, %.2f ms beside busy processes, %.2f ms beside uploads: '
               % tuple(median * 1000 for median in medians)
               + f'{medians[2] / medians[0]:.1f} and {medians[2] / medians[1]:.1f} times '
               f'(longest of {len(meanwhile)}: {max(meanwhile) * 1000:.0f} ms)')
    check(medians[2] < RATIO_LIMIT * max(medians[:2]), figures)
    return figures


def check_content(directory, digests):
    found = set()
    for path in blobdir.revisions_on_disk(os.path.join(directory, 'blobs')).values():
        with open(path, 'rb') as f:
            found.add(blobdir.digest_of(f))
    check(found == digests, 'the blobs lie there with another content')


if __name__ == '__main__':
    zeod.main(main)
