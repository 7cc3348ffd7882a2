"""The server ends under load: what was acknowledged is there, and nothing else is.

Arguments: how often, and `kill` (kill -9) or `stop`, after which nobody is left in doubt either.
"""

import os
import random
import sys
import time

import transaction
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError, StorageTransactionError

CLIENTS = 4
SLOTS = 10              # so many objects each client has
GOES_ON_LIMIT_S = 60
END_LIMIT_S = 60


class LoggedStorage(ClientStorage):
    """Writes down, before and after, what it asks the server to finish."""

    def open_log(self, path):
        self.log = open(path, 'a', buffering=1)

    def tpc_finish(self, txn, f=lambda tid: None):
        token = txn.description.decode()
        if token:
            self.log.write(f'tried {token}\n')
        tid = super().tpc_finish(txn, f)
        if token:
            self.log.write(f'acknowledged {token} {tid.hex()}\n')
        return tid


def prepare(address):
    db = DB(ClientStorage(address, wait_timeout=20))
    with db.transaction() as connection:
        connection.root()['all'] = PersistentMapping()
        for number in range(CLIENTS):
            connection.root()[number] = [PersistentMapping() for _ in range(SLOTS)]
    db.close()


def load(address, directory, number):
    """Commits until the file `end` is there; the stock client reconnects by itself."""
    rng = random.Random(number)
    stale = zeod.Complaints()
    storage = LoggedStorage(address, wait_timeout=60)
    storage.open_log(os.path.join(directory, f'client{number}.tokens'))
    db = DB(storage)
    connection = db.open(transaction.TransactionManager())
    manager = connection.transaction_manager
    count = disconnected = conflicts = 0
    while not os.path.exists(os.path.join(directory, 'end')):
        token = f'token-{number}-{count}'
        count += 1
        try:
            manager.begin()
            root = connection.root()
            # Of different sizes: a crash leaves parts of them.
            rng.choice(root[number])['token'] = token, rng.randbytes(rng.choice([10, 1000, 200_000]))
            if rng.random() < 0.1:
                root['all']['token'] = token
            manager.get().note(token)
            manager.commit()
        except ClientDisconnected:
            disconnected += 1
            time.sleep(0.02)
        except (ConflictError, StorageTransactionError):
            conflicts += 1
        finally:
            manager.abort()
    connection.close()
    db.close()
    check(not stale.counts['out of sync'], 'the client cache knows more than the server: a loss')
    return count, disconnected, conflicts


def tokens(directory):
    """{token: its tid, or None where no acknowledgement came}, of all clients so far."""
    found = {}
    for number in range(CLIENTS):
        path = os.path.join(directory, f'client{number}.tokens')
        if not os.path.exists(path):
            continue
        with open(path) as f:
            for line in f:
                if line.endswith('\n'):
                    words = line.split()
                    found[words[1]] = bytes.fromhex(words[2]) if words[0] == 'acknowledged' else None
    return found


def check_file(path, found):
    """What is in the file, against what the clients know."""
    storage = FileStorage(path, read_only=True)
    in_file = {}
    for t in storage.iterator():
        token = t.description.decode()
        if token.startswith('token-'):
            check(token not in in_file, f'{token} is there twice')
            in_file[token] = t.tid
            check(any(token.encode() in record.data for record in t), f'{token} is there without its data')
    storage.close()
    for token, tid in found.items():
        check(tid is None or in_file.get(token) == tid,
              f'{token} was acknowledged as {tid and tid.hex()} and is {in_file.get(token)}')
    never = in_file.keys() - found.keys()
    check(not never, f'nobody asked to finish {sorted(never)[:5]}')
    return in_file


def wait_for_progress(directory, workers):
    """Every client has something acknowledged by this server."""
    def by_client():
        done = [0] * CLIENTS
        for token, tid in tokens(directory).items():
            done[int(token.split('-')[1])] += tid is not None
        return done

    before, deadline = by_client(), time.monotonic() + GOES_ON_LIMIT_S
    while not all(now > then for now, then in zip(by_client(), before)):
        check(not any(worker.poll() for worker in workers), 'a client ended')
        check(time.monotonic() < deadline, f'not all clients went on: {before}, {by_client()}')
        time.sleep(0.05)


def main(directory):
    rounds, way = int(sys.argv[1]), sys.argv[2]
    rng = random.Random(rounds)
    path = os.path.join(directory, 'Data.fs')
    # A path stays the same over restarts; a free port would not.
    socket = os.path.join(directory, 'zeo.sock')
    server = zeod.Zeod(directory, '-a', socket, '-f', path)
    zeod.run_all(directory, END_LIMIT_S, {'prepare': (prepare, socket)})
    workers = [zeod.Worker(directory, f'client{number}', load, socket, directory, number)
               for number in range(CLIENTS)]
    try:
        for _ in range(rounds):
            wait_for_progress(directory, workers)
            time.sleep(rng.random() * 0.3)
            if way == 'kill':
                server.kill()
            else:
                server.stop()
            # Before the next start repairs anything: read-only Python sees the good part.
            in_file = check_file(path, tokens(directory))
            server = zeod.Zeod(directory, '-a', socket, '-f', path)
        wait_for_progress(directory, workers)
        open(os.path.join(directory, 'end'), 'w').close()
        results = zeod.join(workers, END_LIMIT_S)
    finally:
        for worker in workers:
            worker.kill()
    server.stop()
    found = tokens(directory)
    in_file = check_file(path, found)
    acknowledged = sum(tid is not None for tid in found.values())
    cut = len([name for name in os.listdir(directory) if name.startswith('Data.fs.tr')])
    tried, disconnected, conflicts = map(sum, zip(*results.values()))
    # Who asks to finish has been told that it can: a stop waits for that.
    check(way == 'kill' or acknowledged == len(found), f'{len(found) - acknowledged} are in doubt')
    return (f'{rounds} times {way}, {tried} transactions tried, {acknowledged} acknowledged and all there; '
            f'{len(in_file) - acknowledged} of {len(found) - acknowledged} unacknowledged ones are there; '
            f'{cut} times a torn tail; {disconnected} disconnected, {conflicts} conflicts')


if __name__ == '__main__':
    zeod.main(main)
