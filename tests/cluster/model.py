"""The database of the cluster's tests: what clients write, and what must be true of it at any time."""

import hashlib
import json
import os
import time

import transaction
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping

COUNTERS = 240      # in one tree, more than a bucket holds
ACCOUNTS = 10
BALANCE = 1000


class Token(Persistent):
    """Written once, with what its transaction did: its serial is that transaction's tid, also after packs."""

    def __init__(self, token, did, fill):
        self.token, self.did, self.fill = token, did, fill


class Account(Persistent):
    balance = BALANCE


class Tally(Persistent):
    """What one client has added to the counters."""

    added = 0


def fill(root, writers):
    root['log'] = {writer: OOBTree() for writer in range(writers)}
    root['tallies'] = [Tally() for _ in range(writers)]
    root['counters'] = IOBTree({key: 0 for key in range(COUNTERS)})
    root['accounts'] = [Account() for _ in range(ACCOUNTS)]
    root['notes'] = [PersistentMapping(text='none') for _ in range(writers)]


def problem_of(root):
    """What is wrong with a snapshot, or None."""
    total = sum(account.balance for account in root['accounts'])
    if total != ACCOUNTS * BALANCE:
        return f'the bank has {total}'
    counted, added = sum(root['counters'].values()), sum(tally.added for tally in root['tallies'])
    if counted != added:
        return f'the counters sum up to {counted}, and {added} were added'
    return None


def blob_content(token, size):
    seed = hashlib.sha256(token.encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def now():
    """Seconds of the clock that all processes of the machine share, and no clock jump changes."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class History:
    """The lines that one client writes, each at once: they outlive it."""

    def __init__(self, directory, name):
        self.file = open(os.path.join(directory, f'{name}.history'), 'a', buffering=1)

    def write(self, event, **what):
        self.file.write(json.dumps({'event': event, 't': now(), **what}) + '\n')


def histories(directory):
    """{name of a client: its events}; a line that was cut off by a kill is left out."""
    found = {}
    for name in sorted(os.listdir(directory)):
        if name.endswith('.history'):
            with open(os.path.join(directory, name)) as f:
                found[name.removesuffix('.history')] = [json.loads(line) for line in f if line.endswith('\n')]
    return found


def manager_of(connection):
    return connection.transaction_manager


def open_connection(db):
    return db.open(transaction.TransactionManager())
