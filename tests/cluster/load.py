"""Stock clients that write, read and check until a file `end` appears.

Arguments: a directory for what they write down; servers as HOST:PORT,…; a storage's name; writers; a seed; seconds between
packs, 0 for none.
"""

import collections
import os
import random
import sys
import threading
import time
from base64 import encodebytes

import caches
import model
import transaction
import zeod
from model import History
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.blob import Blob
from ZODB.DB import DB
from ZODB.POSException import ConflictError, POSError, POSKeyError, StorageError, UndoError
from ZODB.utils import p64, u64

CONNECT_LIMIT_S = 60
READER_LIMIT_S = 10     # its only server may be gone for good
END_LIMIT_S = 90
PACK_AGE_S = 3          # what a snapshot may still be reading
SMALL, LARGE = (10, 1000, 20_000), (300_000, 2_500_000)
BLOBS = (0, 100, 70_000, 3_000_000)
CACHES_ON_DISK = 2      # so many writers have one


class Storage(ClientStorage):
    """A stock client that lets us know how far a transaction has come."""

    is_finishing = False

    def tpc_finish(self, txn, f=lambda tid: None):
        self.is_finishing = True
        self.tid = super().tpc_finish(txn, f)
        return self.tid


class Client:
    """What writers and readers have in common."""

    def __init__(self, directory, name, servers, storage, seed, **options):
        self.directory, self.name = directory, name
        self.random = random.Random(seed)
        self.counts = collections.Counter()
        self.complaints = zeod.Complaints()
        self.history = History(directory, name)
        blobs = os.path.join(directory, f'{name}.blobs')
        os.mkdir(blobs)
        # Spread over the servers in the beginning; later each may go to any.
        options.setdefault('wait_timeout', CONNECT_LIMIT_S)
        self.storage = Storage(servers[0], storage, blob_dir=blobs, var=directory, **options)
        self.storage.new_addr(servers)
        # A small object cache, so that reads go to the client's cache and the server.
        self.db = DB(self.storage, cache_size=30)
        self.connection = model.open_connection(self.db)
        self.manager = model.manager_of(self.connection)

    def run(self):
        while not os.path.exists(os.path.join(self.directory, 'end')):
            try:
                self.step()
            except ClientDisconnected as error:
                self.counts['disconnected'] += 1
                self.history.write('disconnected', why=str(error))
                time.sleep(0.02)
            except ConflictError:
                self.counts['conflicts'] += 1
            except StorageError as error:
                # A server that has no quorum says so, to a ping for instance.
                self.history.write('refused', why=str(error)[:200])
                self.counts['refused'] += 1
                time.sleep(0.1)
            self.manager.abort()
        self.cached = caches.contents(self.storage._cache)
        self.connection.close()
        self.db.close()
        self.counts.update(self.complaints.counts)
        check(not self.counts['out of sync'], f'{self.name}: its cache knows more than a server')
        return self.counts, self.cached

    def snapshot(self):
        return p64(u64(self.connection._storage._start) - 1)

    def check_snapshot(self):
        problem = model.problem_of(self.connection.root())
        check(problem is None, f'{self.name}: in the snapshot of {self.snapshot().hex()} {problem}')


class Writer(Client):
    """Commits one transaction after the other; most leave a token in the database."""

    def __init__(self, directory, number, servers, storage, seed):
        options = {'client': f'writer{number}'} if number < CACHES_ON_DISK else {}
        servers = servers[number % len(servers):] + servers[:number % len(servers)]
        super().__init__(directory, f'writer{number}', servers, storage, f'{seed} writer {number}', **options)
        self.number = number
        self.serial = 0

    def step(self):
        kind, = self.random.choices(
            [self.add, self.count, self.transfer, self.blob, self.undo, self.read], [30, 30, 20, 6, 4, 10])
        self.manager.begin()
        self.root = self.connection.root()
        kind()

    def commit(self, did, bytes_of_fill=0, then=None):
        """One transaction with a token; what is done with it depends on `did` alone."""
        token = self.new_token()
        value = model.Token(token, did, self.random.randbytes(bytes_of_fill))
        if then:
            then(token, value)
        self.root['log'][self.number][token] = value
        self.finish(token, did)
        return token, value

    def new_token(self):
        self.serial += 1
        return f'{self.number}-{self.serial:06}'

    def finish(self, token, did):
        self.manager.get().note(token)
        self.storage.is_finishing = False
        self.history.write('try', token=token, did=did)
        begun = time.monotonic()
        try:
            self.manager.commit()
        except BaseException as error:
            event = 'unknown' if self.storage.is_finishing else 'failed'
            self.history.write(event, token=token, why=f'{type(error).__name__}: {error}'[:200])
            self.counts[event] += 1
            if event == 'failed' and isinstance(error, (StorageError, UndoError)) and not isinstance(
                    error, (ConflictError, ClientDisconnected)):
                # For instance a disk that is full: it is as good as any refusal.
                self.counts[type(error).__name__] += 1
                time.sleep(0.02)
                return
            if event == 'unknown' and not isinstance(error, ClientDisconnected):
                self.counts[f'finish: {type(error).__name__}'] += 1
                return
            raise
        self.history.write('ok', token=token, tid=self.storage.tid.hex(), took=time.monotonic() - begun)
        self.counts[did[0]] += 1

    def add(self):
        size = self.random.choice(SMALL if self.random.random() < 0.97 else LARGE)
        self.commit(('add', size), size)

    def count(self):
        changes = {self.random.randrange(model.COUNTERS): self.random.randint(1, 3) for _ in range(2)}
        for key, by in changes.items():
            self.root['counters'][key] += by
        self.root['tallies'][self.number].added += sum(changes.values())
        self.commit(('count', sorted(changes.items())))

    def transfer(self):
        self.check_snapshot()
        giver, taker = self.random.sample(range(model.ACCOUNTS), 2)
        amount = self.random.randint(1, 50)
        self.root['accounts'][giver].balance -= amount
        self.root['accounts'][taker].balance += amount
        self.commit(('transfer', giver, taker, amount))

    def blob(self):
        size = self.random.choice(BLOBS)

        def attach(token, value):
            value.blob = Blob()
            with value.blob.open('w') as f:
                f.write(model.blob_content(token, size))

        before = self.counts['blob']
        token, value = self.commit(('blob', size), then=attach)
        if self.counts['blob'] > before:
            self.manager.begin()
            self.check_blob(token, value)

    def check_blob(self, token, value):
        with value.blob.open('r') as f:
            check(f.read() == model.blob_content(token, value.did[1]), f'{self.name}: another blob of {token}')

    def undo(self):
        """A change of a note, which no other client changes, and back again."""
        note = self.root['notes'][self.number]
        text = note['text']
        token = self.new_token()
        note['text'] = token
        before = self.counts['note']
        self.finish(token, ('note', token))
        if self.counts['note'] == before:
            return
        tid = self.storage.tid
        self.manager.begin()
        check(note['text'] == token, f'{self.name}: the own note {token} reads as {note["text"]}')
        self.db.undo(encodebytes(tid).rstrip(), self.manager.get())
        before = self.counts['undo']
        self.finish(self.new_token(), ('undo', text))
        if self.counts['undo'] > before:
            self.manager.begin()
            check(note['text'] == text, f'{self.name}: the note after its undo reads {note["text"]}, not {text}')

    def read(self):
        """Something of one's own, from the client's cache or the server."""
        log = self.root['log'][self.number]
        if not log:
            return
        token = self.random.choice(list(log.keys()))
        value = log[token]
        check(value.token == token, f'{self.name}: {token} reads as {value.token}')
        if value.did[0] == 'blob':
            self.check_blob(token, value)


class Reader(Client):
    """Looks at one snapshot after the other, of one server. Each is as new as all that was acknowledged before."""

    def __init__(self, directory, number, servers, storage, seed):
        super().__init__(directory, f'reader{number}', servers, storage, f'{seed} reader {number}', server_sync=True,
                         wait_timeout=READER_LIMIT_S)
        self.last = b''

    def step(self):
        asked = model.now()
        self.manager.begin()
        self.history.write('read', asked=asked, tid=self.snapshot().hex())
        if self.random.random() < 0.2:
            self.connection.cacheMinimize()
        check(self.snapshot() >= self.last, f'{self.name} went back from {self.last.hex()} to {self.snapshot().hex()}')
        self.last = self.snapshot()
        try:
            self.check_snapshot()
        except POSKeyError as error:
            # A pack takes away what a snapshot that lasted too long still wanted.
            self.history.write('gone', what=str(error))
            self.counts['gone'] += 1
        self.counts['snapshots'] += 1
        time.sleep(0.02)


def write(directory, number, servers, storage, seed):
    return Writer(directory, number, servers, storage, seed).run()


def read(directory, number, servers, storage, seed):
    return Reader(directory, number, servers, storage, seed).run()


def pack(directory, servers, storage, pause_s):
    """Packs now and then, whatever happens to it."""
    history = History(directory, 'packer')
    counts = collections.Counter()
    db = DB(ClientStorage(servers, storage, wait_timeout=CONNECT_LIMIT_S))
    due = time.monotonic() + pause_s
    while not os.path.exists(os.path.join(directory, 'end')):
        time.sleep(0.05)
        if time.monotonic() < due:
            continue
        try:
            history.write('pack')
            # Not before anything is there, nor what the snapshots of readers need.
            db.pack(time.time() - PACK_AGE_S)
            history.write('packed')
            counts['packs'] += 1
        except (POSError, OSError) as error:
            history.write('not packed', why=f'{type(error).__name__}: {error}'[:200])
            counts['not packed'] += 1
        due = time.monotonic() + pause_s
    db.close()
    return counts, None


def prepare(servers, storage, writers):
    db = DB(ClientStorage(servers, storage, wait_timeout=CONNECT_LIMIT_S))
    with db.transaction() as connection:
        model.fill(connection.root(), writers)
    db.close()


def jobs(directory, servers, storage, writers, seed, pack_pause_s):
    for number in range(writers):
        yield f'writer{number}', (write, directory, number, servers, storage, seed)
    for number, server in enumerate(servers):
        yield f'reader{number}', (read, directory, number, [server], storage, seed)
    if pack_pause_s:
        yield 'packer', (pack, directory, servers, storage, pack_pause_s)


def main(directory, servers, storage, writers, seed, pack_pause_s):
    zeod.die_with_parent()
    servers = [(server.rsplit(':', 1)[0], int(server.rsplit(':', 1)[1])) for server in servers.split(',')]
    zeod.run_all(directory, END_LIMIT_S, {'prepare': (prepare, servers, storage, int(writers))})
    workers = [zeod.Worker(directory, name, *job)
               for name, job in jobs(directory, servers, storage, int(writers), seed, float(pack_pause_s))]
    try:
        # Whatever is wrong is told at once.
        while not os.path.exists(os.path.join(directory, 'end')):
            for worker in workers:
                check(not worker.poll() or worker.status == 0, f'{worker.name} failed')
            time.sleep(0.05)
        results = zeod.join(workers, END_LIMIT_S)
    except BaseException:
        for worker in workers:
            worker.kill()
        for name in sorted(os.listdir(directory)):
            if name.endswith('.log'):
                with open(os.path.join(directory, name), errors='replace') as f:
                    print(f'{name} ends with:\n{"".join(f.readlines()[-12:])}', file=sys.stderr)
        raise
    print(sum((result[0] for result in results.values()), collections.Counter()))


if __name__ == '__main__':
    main(*sys.argv[1:])
