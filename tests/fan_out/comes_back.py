"""The server behind goes, and another comes in its place, with more transactions: nobody reads what is old.

Argument: zeod or python, the servers behind.
"""

import os
import shutil
import sys

import servers
import transaction
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZEO.Exceptions import ClientDisconnected
from ZODB.DB import DB
from ZODB.POSException import ReadOnlyError

ROUNDS = 3
SHELVES = 20


def write(server, directory, name, number):
    """Every second shelf gets a new number."""
    db = DB(servers.client(server, directory, name))
    with db.transaction() as connection:
        for place in range(number % 2, SHELVES, 2):
            connection.root()['shelves'][place]['number'] = number
    db.close()


def shelves(connection):
    try:
        connection.sync()
        return [shelf['number'] for shelf in connection.root()['shelves']]
    except ClientDisconnected:
        return None


def main(directory):
    kind = sys.argv[1]
    # The front starts first, and its client, too.
    front = servers.in_front(directory, 'one', 'two', more='wait off')
    server = servers.behind(kind, directory, 'one')
    db = DB(servers.client(front, directory, 'through', client='through', var=directory))
    with db.transaction() as connection:
        connection.root()['shelves'] = [PersistentMapping(number=0) for _ in range(SHELVES)]
    connection = db.open(transaction.TransactionManager())
    wanted = [0] * SHELVES
    check(shelves(connection) == wanted, 'the beginning is not seen')
    for number in range(1, ROUNDS + 1):
        server.stop()
        server = servers.behind(kind, directory, ('one', 'two')[number % 2])
        write(server, directory, f'direct{number}', number)
        for place in range(number % 2, SHELVES, 2):
            wanted[place] = number
        servers.wait_until(f'change {number} is seen', lambda: shelves(connection) == wanted)
        # And the other way.
        connection.root()['shelves'][0]['number'] = wanted[0] = 100 + number
        connection.transaction_manager.commit()
        check(shelves(connection) == wanted, 'the own change is not seen')
    connection.close()
    db.close()
    front.stop()
    server = check_passed_over(kind, directory, server, wanted)
    check_read_only(kind, directory, server, wanted)
    return f'{ROUNDS} servers lost'


def check_passed_over(kind, directory, server, wanted):
    """A server that lets the front in and is behind what was seen is no reason not to try the next one."""
    server.stop()
    old = os.path.join(directory, 'old')
    os.mkdir(old)
    shutil.copy(os.path.join(directory, 'Data.fs'), old)
    server = servers.behind(kind, directory, 'two')
    front = servers.in_front(directory, 'old/one', 'two', more='wait off', name='choosy')
    db = DB(servers.client(front, directory, 'choosy'))
    connection = db.open(transaction.TransactionManager())
    servers.wait_until('the front begins', lambda: shelves(connection) == wanted)
    connection.root()['shelves'][0]['number'] = wanted[0] = -1
    connection.transaction_manager.commit()
    late = servers.behind(kind, old, 'one')
    server.stop()
    with open(os.path.join(directory, 'choosy.log')) as log:
        said = ['']

        def is_behind():
            said[0] += log.read()
            return 'it is behind' in said[0]
        servers.wait_until('the server that is behind is tried', is_behind)
    server = servers.behind(kind, directory, 'two')
    fresh = DB(servers.client(front, directory, 'fresh'))
    again = fresh.open(transaction.TransactionManager())
    check(shelves(again) == wanted, 'something else is seen')
    again.close()
    fresh.close()
    connection.close()
    db.close()
    front.stop()
    late.stop()
    return server


def check_read_only(kind, directory, server, wanted):
    """A server that takes no changes will do where the front may fall back."""
    server.stop()
    server = servers.behind(kind, directory, 'three', more='read-only true')
    front = servers.in_front(directory, 'three', more='read-only-fallback on', name='reading')
    db = DB(servers.client(front, directory, 'reading', read_only_fallback=True))
    connection = db.open(transaction.TransactionManager())
    check(shelves(connection) == wanted, 'the read-only server has something else')
    try:
        db.storage.new_oid()
        raise AssertionError('a read-only storage gives oids out')
    except ReadOnlyError:
        pass
    connection.close()
    db.close()
    front.stop()
    server.stop()


if __name__ == '__main__':
    zeod.main(main)
