"""Shows that each check of check.py finds what it is for: a true copy passes, and no spoilt one does.

Arguments as check.py's.
"""

import contextlib
import json
import os
import pickle
import shutil
import struct
import sys
import tempfile

import check as checker
import transaction
from zeod import check
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.scripts.fstest import FormatError


class Copy:
    """One that may be spoilt."""

    def __init__(self, directory, disks, into):
        self.directory = os.path.join(into, 'clients')
        shutil.copytree(directory, self.directory, ignore=shutil.ignore_patterns('*.blobs', '*.zec*'))
        self.disks = [os.path.join(into, f'disk{number}') for number in range(len(disks))]
        for disk, copy in zip(disks, self.disks):
            shutil.copytree(disk, copy, ignore=shutil.ignore_patterns('raft', '*.index', '*.lock'))
        self.path = os.path.join(self.disks[0], 'Data.fs')

    def spread(self):
        """The first node's file to all others, so that they are the same again."""
        for disk in self.disks[1:]:
            shutil.copyfile(self.path, os.path.join(disk, 'Data.fs'))

    def rewrite(self, name, change):
        """Changes the events of a client."""
        path = os.path.join(self.directory, f'{name}.history')
        with open(path) as f:
            events = [json.loads(line) for line in f]
        change(events)
        with open(path, 'w') as f:
            f.writelines(json.dumps(event) + '\n' for event in events)

    @contextlib.contextmanager
    def root(self, description=''):
        """The database, to be changed in one more transaction."""
        db = DB(FileStorage(self.path))
        connection = db.open(transaction.TransactionManager())
        yield connection.root()
        connection.transaction_manager.get().note(description)
        connection.transaction_manager.commit()
        db.close()
        self.spread()

    def transactions(self):
        """The places of all transactions: (start, end)."""
        places, start = [], 4
        with open(self.path, 'rb') as f:
            while len(header := (f.seek(start), f.read(16))[1]) == 16:
                end = start + struct.unpack('>Q', header[8:])[0] + 8
                places.append((start, end))
                start = end
        return places


def last_ok(events, kind=None):
    did = {event['token']: event['did'][0] for event in events if event['event'] == 'try'}
    return next(event for event in reversed(events) if event['event'] == 'ok'
                and did[event['token']] in ([kind] if kind else ['add', 'count', 'transfer', 'blob']))


def lose_the_end(copy):
    os.truncate(copy.path, copy.transactions()[-3][0])
    copy.spread()


def lose_a_token(copy):
    with copy.root() as root:
        log = root['log'][0]
        del log[log.maxKey()]


def count_twice(copy):
    with copy.root() as root:
        root['counters'][7] += 2
        root['tallies'][0].added += 2


def lose_money(copy):
    with copy.root() as root:
        root['accounts'][3].balance -= 1


def move_money(copy):
    with copy.root() as root:
        root['accounts'][3].balance -= 1
        root['accounts'][4].balance += 1


def change_a_note(copy):
    with copy.root() as root:
        root['notes'][1]['text'] = 'never written'


def write_as_nobody(copy):
    with copy.root('9-000001') as root:
        root['own'] = 1


def write_twice(copy):
    with copy.root('0-000001') as root:
        root['own'] = 1


def turn_tids_around(copy):
    """The last transaction gets the tid of the second, in its records, too."""
    places = copy.transactions()
    start, end = places[-1]
    with open(copy.path, 'r+b') as f:
        f.seek(places[1][0])
        early = f.read(8)
        f.seek(start)
        own = f.read(end - start)
        f.seek(start)
        f.write(own.replace(own[:8], early))
    copy.spread()


def damage_the_format(copy):
    start, end = copy.transactions()[-2]
    with open(copy.path, 'r+b') as f:
        f.seek(end - 8)     # the length once more
        f.write(struct.pack('>Q', 1))
    copy.spread()


def change_a_byte(copy):
    path = os.path.join(copy.disks[-1], 'Data.fs')
    with open(path, 'r+b') as f:
        f.seek(os.path.getsize(path) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))


def blobs(copy, disk):
    return sorted(name for name, _ in checker.blobs_of(copy.disks[disk]).items())


def lose_a_blob(copy):
    os.remove(os.path.join(copy.disks[-1], blobs(copy, -1)[0]))


def change_a_blob(copy):
    with open_for_change(os.path.join(copy.disks[-1], blobs(copy, -1)[-1])) as f:
        f.write(b'changed')


def change_a_blob_everywhere(copy):
    for number, disk in enumerate(copy.disks):
        with open_for_change(os.path.join(disk, blobs(copy, number)[-1])) as f:
            f.write(b'changed')


def open_for_change(path):
    os.chmod(path, 0o600)
    return open(path, 'w+b')


def fail_what_came_through(copy):
    def change(events):
        last_ok(events)['event'] = 'failed'

    copy.rewrite('writer0', change)


def acknowledge_another_tid(copy):
    def change(events):
        last_ok(events)['tid'] = 'ff' * 8

    copy.rewrite('writer0', change)


def acknowledge_what_is_nowhere(copy):
    def change(events):
        t = events[-1]['t']
        events.append({'event': 'try', 't': t, 'token': '0-999999', 'did': ['add', 1]})
        events.append({'event': 'ok', 't': t, 'token': '0-999999', 'tid': 'ff' * 8, 'took': 1})

    copy.rewrite('writer0', change)


def read_the_past(copy):
    def change(events):
        reads = [event for event in events if event['event'] == 'read']
        reads[-1]['tid'] = reads[0]['tid']

    copy.rewrite('reader0', change)


def acknowledge_out_of_order(copy):
    """The first one was acknowledged long before the second was begun."""
    def change(events):
        acknowledged = [event for event in events if event['event'] == 'ok']
        acknowledged[0]['tid'], acknowledged[-1]['tid'] = acknowledged[-1]['tid'], acknowledged[0]['tid']

    copy.rewrite('writer0', change)


def spoil_a_cache(change):
    def spoil(copy):
        path = os.path.join(copy.directory, 'writer0.result')
        with open(path, 'rb') as f:
            counts, (last_tid, entries) = pickle.load(f)
        with open(path, 'wb') as f:
            pickle.dump((counts, (last_tid, [change(*entry) for entry in entries])), f)

    return spoil


SPOILT = [
    (lose_the_end, 'lost|lacks'),
    (lose_a_token, 'lost'),
    (count_twice, 'counters'),
    (lose_money, 'balances'),
    (move_money, 'balances'),
    (change_a_note, 'note 1'),
    (write_as_nobody, 'of nobody'),
    (write_twice, 'twice'),
    (turn_tids_around, 'time-stamp reduction'),
    (damage_the_format, 'format'),
    (change_a_byte, 'differs'),
    (lose_a_blob, 'lacks the blobs'),
    (change_a_blob, 'blobs differ|another one'),
    (change_a_blob_everywhere, 'another one'),
    (fail_what_came_through, 'had failed'),
    (acknowledge_another_tid, 'was acknowledged as|was begun after'),
    (acknowledge_what_is_nowhere, 'lost|was begun after'),
    (acknowledge_out_of_order, 'was acknowledged as|was begun after'),
    (read_the_past, 'has read the snapshot'),
    (spoil_a_cache(lambda oid, tid, end_tid, data: (oid, tid, end_tid, data + b'.')), 'other data'),
    (spoil_a_cache(lambda oid, tid, end_tid, data: (oid, b'\1' + tid[1:], end_tid, data)), 'no such revision'),
]


def outcome(copy):
    """What the checker says of a copy; None where it is content."""
    try:
        checker.run(copy.directory, copy.disks)
    except FormatError as error:
        return f'format: {error}'
    except AssertionError as error:
        return str(error)
    return None


def main(directory, *disks):
    with tempfile.TemporaryDirectory() as parent:
        complaint = outcome(Copy(directory, disks, os.path.join(parent, 'true')))
        check(complaint is None, f'a true copy is refused: {complaint}')
        for number, (spoil, words) in enumerate(SPOILT):
            copy = Copy(directory, disks, os.path.join(parent, str(number)))
            spoil(copy)
            complaint = outcome(copy)
            name = f'{number} {spoil.__name__}'
            check(complaint is not None, f'{name}: not found')
            check(any(word in complaint for word in words.split('|')), f'{name}: found as {complaint}')
            shutil.rmtree(os.path.join(parent, str(number)))
    print(f'  the checker finds all of {len(SPOILT)} losses')


if __name__ == '__main__':
    main(*sys.argv[1:])
