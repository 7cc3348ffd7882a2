"""Compares what a server answers with what one of Python's storages says of the same files."""

import bisect
import pickle
import socket
import struct

from zeod import check
from ZODB.POSException import POSKeyError
from ZODB.utils import p64, u64

WINDOW = 500    # so many requests are sent before the first answer is read
SOCKET_LIMIT_S = 30
PART = (0, 1, 2, 65_534, 65_535)    # where pages of an index begin and end


class Pipeline:
    """A client without a cache that asks many questions at once."""

    def __init__(self, address, storage):
        self.socket = socket.create_connection(address, timeout=SOCKET_LIMIT_S)
        self.file = self.socket.makefile('rb')
        check(self._read() == b'Z5', 'the server does not offer pickles')
        self._send(b'Z5')
        self.call_all([('register', storage, True)])

    def close(self):
        self.file.close()
        self.socket.close()

    def call_all(self, calls):
        """The answer, or the error (class, arguments), to each (method, *arguments)."""
        answers = []
        for start in range(0, len(calls), WINDOW):
            window = calls[start:start + WINDOW]
            self._send(*(pickle.dumps((number, False, call[0], call[1:]), 3)
                         for number, call in enumerate(window)))
            for number in range(len(window)):
                got, flag, method, answer = pickle.loads(self._read())
                while method != '.reply':       # an info of the server
                    got, flag, method, answer = pickle.loads(self._read())
                check(got == number, f'answer {got} to request {number}')
                answers.append(('error', answer[0]) if flag == 2 else answer)
        return answers

    def _send(self, *payloads):
        self.socket.sendall(b''.join(struct.pack('>I', len(p)) + p for p in payloads))

    def _read(self):
        size, = struct.unpack('>I', self.file.read(4))
        return self.file.read(size)


def iteration(storage):
    """Everything that the iterator gives."""
    return [(t.tid, t.status, t.user, t.description, t.extension,
             [(r.oid, r.tid, r.data, r.data_txn) for r in t])
            for t in storage.iterator()]


def answer(method, *arguments):
    """As Pipeline answers."""
    try:
        return method(*arguments)
    except POSKeyError:
        return 'error', 'ZODB.POSException.POSKeyError'
    except ValueError:
        return 'error', 'builtins.ValueError'


def revisions(transactions):
    """{oid: the tids of its revisions}, from an iteration."""
    tids = {}
    for tid, _, _, _, _, records in transactions:
        for oid in {record[0] for record in records}:
            tids.setdefault(oid, []).append(tid)
    return tids


def compare(name, reference, client, pipeline, every_tid=False, part=False, iterate=True):
    """Compare all that can be asked; `client` is a ClientStorage. Returns the number of questions.

    Each oid is asked for at its own tids, or at every tid of the storage; or only a part of the oids is.
    """
    check(client.lastTransaction() == reference.lastTransaction(),
          f'{name}: last transaction {client.lastTransaction()} != {reference.lastTransaction()}')
    check(len(client) == len(reference), f'{name}: {len(client)} objects, not {len(reference)}')
    check(client.getSize() == reference.getSize(), f'{name}: size {client.getSize()}, not {reference.getSize()}')
    transactions = iteration(reference)
    if iterate:
        served = iteration(client)
        check(len(served) == len(transactions), f'{name}: {len(served)} transactions served')
        for theirs, ours in zip(transactions, served):
            check(theirs == ours, f'{name}: the iterator gives {difference(ours, theirs)}')

    calls, expected = questions(reference, transactions, every_tid, part)
    for call, want, got in zip(calls, expected, pipeline.call_all(calls)):
        check(got == want, f'{name}: {call} gives {difference(got, want)}')
    return len(calls)


def difference(got, want):
    """The first item in which two answers differ, as text."""
    if isinstance(got, (list, tuple)) and type(got) is type(want) and len(got) == len(want):
        for one, other in zip(got, want):
            if one != other:
                return difference(one, other)
    if isinstance(got, dict) and isinstance(want, dict) and got.keys() == want.keys():
        for key in got:
            if got[key] != want[key]:
                return f'{key!r}: {difference(got[key], want[key])}'
    return f'{got!r:.1000}, not {want!r:.1000}'


def questions(reference, transactions, every_tid, part):
    """All calls, and the reference's answers."""
    tids = [transaction[0] for transaction in transactions]
    of_oid = revisions(transactions)
    # One that is not there, too, and one behind all others.
    absent = p64(u64(min(of_oid)) + 77_777), p64(u64(max(of_oid)) + 1)
    if part:
        of_oid = {oid: own for oid, own in of_oid.items() if u64(oid) % 65_536 in PART or u64(oid) % 997 == 0}
    for oid in absent:
        of_oid.setdefault(oid, [])
    calls, expected = [], []

    def ask(name, *arguments, want):
        calls.append((name, *arguments))
        expected.append(want)

    enumerates = hasattr(reference, 'record_iternext')
    if enumerates:
        ask('record_iternext', None, want=answer(reference.record_iternext, None))
    for oid, own in of_oid.items():
        # Between two revisions the answer is the same for all tids: the reference is asked once there.
        ends = [*own, b'\x7f' + b'\xff' * 7]
        before = [answer(reference.loadBefore, oid, end) for end in ends]
        asked = set(tids) if every_tid else set()
        asked.update(own, ends, (p64(u64(tid) + 1) for tid in own))
        for tid in sorted(asked):
            ask('loadBefore', oid, tid, want=before[bisect.bisect_left(ends, tid)])
        for serial in [*(tids if every_tid else own), tids[0], tids[-1]]:
            ask('loadSerial', oid, serial, want=answer(reference.loadSerial, oid, serial)
                if serial in own else ('error', 'ZODB.POSException.POSKeyError'))
        for size in (1, 5, 10_000):
            ask('history', oid, size, want=answer(reference.history, oid, size))
        if enumerates:
            ask('record_iternext', oid, want=answer(reference.record_iternext, oid))
        ask('getTid', oid, want=answer(reference.getTid, oid))
    return calls, expected
