"""What must be true once all is over. Arguments: the directory of the clients' histories; the directory of each node's data."""

import bisect
import collections
import hashlib
import json
import logging
import os
import pickle
import random
import statistics
import sys

import model
from zeod import check
from ZODB.DB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.scripts import fstest
from ZODB.utils import p64, u64, z64

CACHE_ENTRIES = 3000    # of each client: a sample
INITIAL = 'initial database creation'


class Attempts:
    """What the clients know of their transactions."""

    def __init__(self, histories):
        self.tried, self.acknowledged, self.failed, self.unknown = {}, {}, set(), set()
        self.spans = []             # (begun, acknowledged, tid) of each that was acknowledged
        self.took = []
        for name, events in histories.items():
            for event in events:
                kind, token = event['event'], event.get('token')
                if kind == 'try':
                    check(token not in self.tried, f'{name}: {token} tried twice')
                    self.tried[token] = event['t'], event['did']
                elif kind == 'ok':
                    tid = bytes.fromhex(event['tid'])
                    self.acknowledged[token] = tid
                    self.spans.append((self.tried[token][0], event['t'], tid))
                    self.took.append(event['took'])
                elif kind == 'failed':
                    self.failed.add(token)
        # A client that was killed knows no more of its last one.
        self.unknown = self.tried.keys() - self.acknowledged.keys() - self.failed


class Ledger:
    """The tids of all that was acknowledged, by when."""

    def __init__(self, attempts):
        ends = sorted((end, tid) for _, end, tid in attempts.spans)
        self.ends = [end for end, _ in ends]
        self.highest = []
        for _, tid in ends:
            self.highest.append(max(tid, self.highest[-1] if self.highest else z64))

    def at(self, moment):
        """The highest tid that anyone had been told of."""
        place = bisect.bisect_left(self.ends, moment)
        return self.highest[place - 1] if place else z64


def digest(path):
    with open(path, 'rb') as f:
        return hashlib.file_digest(f, 'sha256').hexdigest()


def check_identical(disks):
    files = [os.path.join(disk, 'Data.fs') for disk in disks]
    digests = [digest(path) for path in files]
    for path, other in zip(files, digests):
        if other != digests[0]:
            with open(files[0], 'rb') as f, open(path, 'rb') as g:
                place = 0
                while (one := f.read(1 << 16)) == (two := g.read(1 << 16)) and one:
                    place += len(one)
                place += next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
            check(False, f'{path} ({os.path.getsize(path)} bytes) differs from {files[0]} '
                         f'({os.path.getsize(files[0])}) from byte {place} on')


def check_format(path):
    """The lengths and places are true, and the tids increase strictly."""
    fstest.check(path)


def scan(path, wanted):
    """The transactions as (tid, description), and the revisions of the wanted oids."""
    storage = FileStorage(path, read_only=True)
    transactions, revisions = [], collections.defaultdict(list)
    for t in storage.iterator():
        transactions.append((t.tid, t.description.decode()))
        for record in t:
            if record.oid in wanted:
                revisions[record.oid].append((record.tid, record.data))
    storage.close()
    return transactions, revisions


def check_descriptions(transactions, attempts, packed):
    """By the transactions' descriptions, which a pack may drop with the transactions."""
    found = collections.Counter(text for _, text in transactions)
    twice = [text for text, count in found.items() if count > 1 and text]
    check(not twice, f'transactions that are there twice: {twice[:5]}')
    failed = attempts.failed & found.keys()
    check(not failed, f'transactions that had failed, and are there: {sorted(failed)[:5]}')
    strangers = found.keys() - attempts.tried.keys() - {'', INITIAL}
    check(not strangers, f'transactions of nobody: {sorted(strangers)[:5]}')
    tids = {text: tid for tid, text in transactions}
    for token, tid in attempts.acknowledged.items():
        if token in tids or not packed:
            check(token in tids, f'{token} was acknowledged and is lost')
            check(tids[token] == tid, f'{token} was acknowledged as {tid.hex()} and is {tids[token].hex()}')


def check_tokens(root, attempts):
    """By the tokens in the database. Gives all that are there: {token: did}."""
    present = {}
    for log in root['log'].values():
        for token, value in log.items():
            check(value.token == token, f'{token} reads as {value.token}')
            check(token in attempts.tried, f'{token} is there, and nobody has written it')
            check(token not in attempts.failed, f'{token} had failed, and is there')
            did = json.loads(json.dumps(value.did))
            check(did == attempts.tried[token][1], f'{token} is {value.did}, not {attempts.tried[token][1]}')
            tid = attempts.acknowledged.get(token, value._p_serial)
            check(value._p_serial == tid, f'{token} was acknowledged as {tid.hex()} and is {value._p_serial.hex()}')
            present[token] = value
    with_token = {token for token in attempts.acknowledged if attempts.tried[token][1][0] not in ('note', 'undo')}
    lost = with_token - present.keys()
    check(not lost, f'{len(lost)} acknowledged transactions are lost: {sorted(lost)[:5]}')
    return present


def check_sums(root, present):
    """Counters and accounts are what the transactions that are there have made of them: none is half there, or twice."""
    counters = collections.Counter()
    balances = [model.BALANCE] * model.ACCOUNTS
    for value in present.values():
        kind, *did = value.did
        if kind == 'count':
            for key, by in did[0]:
                counters[key] += by
        elif kind == 'transfer':
            giver, taker, amount = did
            balances[giver] -= amount
            balances[taker] += amount
    wrong = {key: (count, counters[key]) for key, count in root['counters'].items() if count != counters[key]}
    check(not wrong, f'counters {{key: (is, should be)}}: {wrong}')
    found = [account.balance for account in root['accounts']]
    check(found == balances, f'the balances are {found}, and should be {balances}')
    problem = model.problem_of(root)
    check(problem is None, f'at the end {problem}')


def check_notes(root, attempts):
    """Each note is what the last that changed it surely has made of it, or what one did that may have come later."""
    for writer, note in enumerate(root['notes']):
        possible = {'none'}
        for token, (_, did) in attempts.tried.items():
            if did[0] in ('note', 'undo') and token.split('-')[0] == str(writer):
                if token in attempts.acknowledged:
                    possible = {did[1]}
                elif token in attempts.unknown:
                    possible.add(did[1])
        check(note['text'] in possible, f'note {writer} is {note["text"]}, and can be {possible}')


def check_order(attempts, ledger):
    """Who begins after an acknowledgement gets a higher tid."""
    for begun, _, tid in attempts.spans:
        before = ledger.at(begun)
        check(tid > before, f'{tid.hex()} was begun after {before.hex()} had been acknowledged')


def check_reads(histories, ledger):
    count = 0
    for name, events in histories.items():
        for event in events:
            if event['event'] == 'read':
                count += 1
                told = ledger.at(event['asked'])
                check(bytes.fromhex(event['tid']) >= told,
                      f'{name} has read the snapshot of {event["tid"]} after {told.hex()} had been acknowledged')
    return count


def blobs_of(disk):
    found = {}
    for parent, _, names in os.walk(os.path.join(disk, 'blobs')):
        for name in names:
            if name.endswith('.blob'):
                path = os.path.join(parent, name)
                found[os.path.relpath(path, disk)] = digest(path)
    return found


def check_blobs(storage, present, disks):
    count = 0
    for token, value in present.items():
        if value.did[0] == 'blob':
            count += 1
            try:
                value.blob._p_activate()
                path = storage.loadBlob(value.blob._p_oid, value.blob._p_serial)
            except POSKeyError as error:
                raise AssertionError(f'the blob of {token} is lost: {error}') from None
            with open(path, 'rb') as f:
                check(f.read() == model.blob_content(token, value.did[1]), f'the blob of {token} is another one')
    everywhere = blobs_of(disks[0])
    for disk in disks[1:]:
        own = blobs_of(disk)
        check(own.keys() == everywhere.keys(),
              f'{disk} lacks the blobs {sorted(everywhere.keys() - own.keys())[:5]} of {disks[0]}, '
              f'and alone has {sorted(own.keys() - everywhere.keys())[:5]}')
        check(own == everywhere, f'blobs differ between {disks[0]} and {disk}')
    return count


def sample_of_caches(directory):
    rng = random.Random(0)
    for name in sorted(os.listdir(directory)):
        if name.endswith('.result'):
            with open(os.path.join(directory, name), 'rb') as f:
                result = pickle.load(f)
            if result and isinstance(result, tuple) and result[1]:
                last_tid, entries = result[1]
                yield name.removesuffix('.result'), last_tid, rng.sample(entries, min(CACHE_ENTRIES, len(entries)))


def check_caches(caches, revisions, pack_tid):
    """Each entry is a revision of the file, with its data and its end; packs may have taken older ones away."""
    count = 0
    for name, last_tid, entries in caches:
        for oid, tid, end_tid, data in entries:
            count += 1
            entry = f'{name}: cached {oid.hex()} of {tid.hex()} to {end_tid.hex()}, last {last_tid.hex()}'
            tids = [own for own, _ in revisions[oid]]
            later = next((own for own in tids if own > tid), None)
            if tid not in tids:
                check((later or z64) < pack_tid and end_tid != z64 or end_tid != z64 and end_tid < pack_tid
                      or end_tid == z64 and not tids
                      # What the client knew last came before, and a pack has taken it away since.
                      or end_tid == z64 and later is not None and last_tid < later,
                      f'{entry}: no such revision')
                continue
            check(data == dict(revisions[oid])[tid], f'{entry}: other data')
            if end_tid == z64:
                check(later is None or later > last_tid, f'{entry}: as current, and the next is {later and later.hex()}')
            elif end_tid in tids or end_tid > pack_tid:
                check(end_tid == later, f'{entry}: the next revision is {later and later.hex()}')
    return count


def recoveries(directory, attempts):
    """Of each fault: the seconds until the first transaction that was begun after it and came through."""
    path = os.path.join(directory, 'faults.jsonl')
    if not os.path.exists(path):
        return
    with open(path) as f:
        for line in f:
            fault = json.loads(line)
            ends = [end for begun, end, _ in attempts.spans if begun > fault['t']]
            yield fault['what'], min(ends) - fault['t'] if ends else None


def run(directory, disks):
    logging.getLogger('ZODB').setLevel(logging.CRITICAL + 1)   # clocks that were wrong are no news
    histories = model.histories(directory)
    attempts = Attempts(histories)
    ledger = Ledger(attempts)
    check(attempts.acknowledged, 'nothing was acknowledged at all')
    packs = [event for event in histories.get('packer', ()) if event['event'] == 'pack']
    path = os.path.join(disks[0], 'Data.fs')
    check_identical(disks)
    check_format(path)
    caches = list(sample_of_caches(directory))
    transactions, revisions = scan(path, {entry[0] for _, _, entries in caches for entry in entries})
    check_descriptions(transactions, attempts, packed=bool(packs))
    check_order(attempts, ledger)
    reads = check_reads(histories, ledger)
    # Any tid of the run may lie before a pack.
    entries = check_caches(caches, revisions, p64(u64(transactions[-1][0]) + 1) if packs else z64)
    gone = [event for events in histories.values() for event in events if event['event'] == 'gone']
    check(packs or not gone, f'objects that snapshots have not found: {gone[:5]}')
    storage = FileStorage(path, read_only=True, blob_dir=os.path.join(disks[0], 'blobs'))
    db = DB(storage)
    root = model.open_connection(db).root()
    present = check_tokens(root, attempts)
    check_sums(root, present)
    check_notes(root, attempts)
    blobs = check_blobs(storage, present, disks)
    db.close()
    came_through = len(attempts.unknown & {text for _, text in transactions})
    took = sorted(attempts.took)
    for what, seconds in recoveries(directory, attempts):
        print(f'  {what}: ' + (f'{seconds:.2f} s until the next commit' if seconds else 'no commit after it'))
    return (f'{len(attempts.acknowledged)} transactions acknowledged and found, {len(attempts.failed)} failed, '
            f'{len(attempts.unknown)} unknown ({came_through} or more found); {reads} reads up to date; '
            f'{blobs} blobs; {entries} cache entries true; {len(packs)} packs; {len(disks)} files identical; '
            f'a commit took {statistics.median(took) * 1000:.1f} ms, '
            f'99 % {took[len(took) * 99 // 100] * 1000:.0f} ms, the longest {took[-1]:.2f} s')


if __name__ == '__main__':
    print(f'  {run(sys.argv[1], sys.argv[2:])}', flush=True)
