"""The set-ups of the ZEO manual. Argument: shared, one-server, two-servers or crossed."""

import collections
import os
import random
import sys
import time

import transaction
import ZODB.config
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZEO.Exceptions import ClientDisconnected
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

HERE = os.path.dirname(os.path.abspath(__file__))
PROCESSES = 4
ACCOUNTS = 6            # in each database: few, so that transfers meet
TRANSFERS = 100         # of each process
START = 1000
CROSSED = {'accounts': 1, 'transfers': 15, 'crossed': True}    # few: each deadlock takes a second
LIMIT_S = 100
SHARING = 2
ADDITIONS = 200


def fixture(name, **definitions):
    """The text of a configuration, with %define lines in front."""
    with open(os.path.join(HERE, name)) as f:
        return ''.join(f'%define {key} {value}\n' for key, value in definitions.items()) + f.read()


def start(directory, name):
    conf = os.path.join(directory, name)
    with open(conf, 'w') as f:
        f.write(fixture(name, INSTANCE=directory))
    return zeod.Zeod(directory, '-C', conf, name=name.removesuffix('.conf'))


def define(servers):
    return {f'SERVER{number}': '%s:%d' % server.address for number, server in enumerate(servers, 1)}


# Two clients that share one database.

def create(definitions):
    ZODB.config.databaseFromString(fixture('zope-shared.conf', **definitions)).close()


def add(definitions, number):
    db = ZODB.config.databaseFromString(fixture('zope-shared.conf', **definitions))
    connection = db.open(transaction.TransactionManager())
    conflicts = 0
    for count in range(ADDITIONS):
        while True:
            try:
                with connection.transaction_manager:
                    root = connection.root()
                    root[f'{number}-{count}'] = count
                    root['sum'] = root.get('sum', 0) + 1
                break
            except ConflictError:
                conflicts += 1
    # What both have added must become visible without any new start.
    deadline = time.monotonic() + LIMIT_S
    while connection.root().get('sum') != SHARING * ADDITIONS:
        check(time.monotonic() < deadline, f'{connection.root().get("sum")} of all additions are seen')
        time.sleep(0.01)
        connection.transaction_manager.begin()
    names = {f'{client}-{count}' for client in range(SHARING) for count in range(ADDITIONS)}
    check(names <= set(connection.root()), 'an addition of a client is missing')
    connection.close()
    db.close()
    return conflicts


def shared(directory):
    server = start(directory, 'first-server.conf')
    definitions = define([server])
    # ZODB itself cannot stand two clients that create the root at the same time.
    zeod.run_all(directory, LIMIT_S, {'create': (create, definitions)})
    results = zeod.run_all(directory, LIMIT_S, {
        f'client{number}': (add, definitions, number) for number in range(SHARING)})
    server.stop()
    check('sum' in DB(FileStorage(os.path.join(directory, 'var/Data1.fs'))).open().root(), 'nothing on disk')
    return f'{SHARING * ADDITIONS} additions of {SHARING} clients seen by both, {sum(results.values())} conflicts'


# Transactions that span two databases.

def open_both(definitions):
    databases = ZODB.config.databaseFromString(fixture('zope-two.conf', **definitions)).databases
    check(sorted(databases) == ['1', '2'], f'databases: {sorted(databases)}')
    return databases


def close(databases):
    for db in databases.values():
        db.close()


def prepare(definitions, accounts):
    databases = open_both(definitions)
    for db in databases.values():
        with db.transaction() as connection:
            for number in range(accounts):
                connection.root()[number] = PersistentMapping(balance=START)
    close(databases)


def transfer(definitions, number, accounts, transfers, crossed):
    """Move amounts to and fro; which database is written first changes each time."""
    rng = random.Random(number)
    if crossed and number % 2:
        # ZODB votes in the order of these keys, so that all clients lock the databases in the same order.
        ClientStorage.sortKey = lambda storage: f'reversed {3 - int(storage._storage)}'
    databases = open_both(definitions)
    # The one is a secondary database of the other, and in half of the processes the other of the one.
    first, second = ('1', '2') if number % 2 else ('2', '1')
    connection = databases[first].open(transaction.TransactionManager())
    manager = connection.transaction_manager
    counts = collections.Counter()
    while counts['transfers'] < transfers:
        begun = time.monotonic()
        try:
            with manager:
                roots = {first: connection.root(), second: connection.get_connection(second).root()}
                giver, taker = rng.sample(['1', '2'], 2)
                amount = rng.randrange(1, 20)
                roots[giver][rng.randrange(accounts)]['balance'] -= amount
                roots[taker][rng.randrange(accounts)]['balance'] += amount
            counts['transfers'] += 1
        except ConflictError:
            counts['conflicts'] += 1
        except ClientDisconnected:
            check(crossed, 'disconnected')
            counts['timeouts'] += 1
            time.sleep(rng.random() / 10)
        counts['slowest ms'] = max(counts['slowest ms'], round((time.monotonic() - begun) * 1000))
    connection.close()
    close(databases)
    return counts


def span(directory, *confs, accounts=ACCOUNTS, transfers=TRANSFERS, crossed=False):
    servers = [start(directory, conf) for conf in confs]
    definitions = define([servers[0], servers[-1]])
    zeod.run_all(directory, LIMIT_S, {'prepare': (prepare, definitions, accounts)})
    results = zeod.run_all(directory, LIMIT_S, {
        f'process{number}': (transfer, definitions, number, accounts, transfers, crossed) for number in range(PROCESSES)})
    for server in servers:
        server.stop()
    total = commits = 0
    for number in '12':
        db = DB(FileStorage(os.path.join(directory, f'var/Data{number}.fs')))
        root = db.open().root()
        total += sum(root[account]['balance'] for account in range(accounts))
        commits += len(list(db.storage.iterator())) - 2     # the root's and the accounts' own
        db.close()
    slowest = max(result.pop('slowest ms') for result in results.values())
    counts = sum(results.values(), collections.Counter())
    # After a timeout, too: what was voted first, and timed out, is what a client asks to finish first.
    check(total == 2 * accounts * START, f'the sum of all accounts is {total}')
    check(commits == 2 * PROCESSES * transfers, f'{commits} transactions in both files')
    return f'{dict(counts)}, the slowest took {slowest} ms; the sum is kept'


SETUPS = {
    'shared': shared,
    'one-server': lambda directory: span(directory, 'two-databases.conf'),
    'two-servers': lambda directory: span(directory, 'first-server.conf', 'second-server.conf'),
    'crossed': lambda directory: span(directory, 'transaction-timeout.conf', **CROSSED),
}


def main(directory):
    os.mkdir(os.path.join(directory, 'var'))
    return SETUPS[sys.argv[1]](directory)


if __name__ == '__main__':
    zeod.main(main)
