"""Makes databases with random histories, and packs them with ZODB.

    generate.py DIRECTORY SEED COUNT

Each pack leaves `N-K.before`, and `N-K.after` where it changed something, and a line in `manifest`:

    name  time as a float  pack time as hex  gc  outcome  seed

The outcome is `packed`, `same`, or the class of the exception. What a pack of a database with blobs would
remove is in `N-K.removed`.
"""

import base64
import os
import random as random_module
import shutil
import sys
import tempfile
import time

import ZODB.FileStorage
from persistent.TimeStamp import TimeStamp
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSError
from ZODB.serialize import referencesf
from ZODB.utils import p64

from records import record, references_of

ROOT = p64(0)


class Storage(ZODB.FileStorage.FileStorage):
    """Keeps what the packer wrote of blobs that are to go."""

    removed = None

    def _remove_blob_files_tagged_for_removal_during_pack(self):
        with open(os.path.join(self.blob_dir, ".removed"), "rb") as file:
            self.removed = file.read()
        super()._remove_blob_files_tagged_for_removal_during_pack()


class History:
    def __init__(self, directory, name, seed):
        self.random = random_module.Random(seed)
        self.seed = seed
        self.directory = directory
        self.name = name
        self.work = tempfile.mkdtemp(dir=directory)
        self.path = os.path.join(self.work, "Data.fs")
        self.has_blobs = self.random.random() < 0.4
        self.protocols = self.random.choice([[3], [0, 1, 2, 3, "python 2"], [2, "python 2"], [3, 4, 5], [3, "python 2"]])
        self.careless = self.random.random() < 0.2
        self.undoes = self.random.choice([0.05, 0.2, 0.5])
        self.clock = 1_500_000_000 + self.random.random() * 1e8
        self.times = []
        self.tids = []
        self.oids = [ROOT]
        self.steps = 0
        self.storage = self.open()

    def open(self):
        return Storage(self.path, blob_dir=os.path.join(self.work, "blobs") if self.has_blobs else None)

    # One transaction.

    def commit(self, change, tid_status=" "):
        self.clock += self.random.choice([0.001, 0.7, 13, 100, 4000]) * (0.1 + self.random.random())
        now = self.clock
        tid = TimeStamp(*time.gmtime(now)[:5] + (now % 60,)).raw()
        meta = TransactionMetaData(
            "user" * self.random.randrange(2), "why " * self.random.randrange(3)
        )
        self.storage.tpc_begin(meta, tid, tid_status)
        try:
            change(meta)
            self.storage.tpc_vote(meta)
        except POSError:
            self.storage.tpc_abort(meta)
            return
        self.storage.tpc_finish(meta)
        self.times.append(now)
        self.tids.append(tid)

    def serial(self, oid):
        position = self.storage._index.get(oid, 0)
        return self.storage._read_data_header(position).tid if position else p64(0)

    def exists(self, oid):
        position = self.storage._index.get(oid, 0)
        if not position:
            return False
        header = self.storage._read_data_header(position)
        return bool(header.plen or header.back)

    def some_oids(self, most):
        alive = [oid for oid in self.oids if self.careless or self.exists(oid)]
        return self.random.sample(alive, min(len(alive), self.random.randrange(most + 1)))

    def record(self, references, is_blob=False):
        protocol = self.random.choice(self.protocols)
        return record(self.random, references, self.some_oids(2), protocol, is_blob)

    def store_one(self, meta, oid, references):
        is_blob = self.has_blobs and oid != ROOT and oid[7] % 3 == 0
        data = self.record(references, is_blob)
        if not is_blob:
            self.storage.store(oid, self.serial(oid), data, "", meta)
            return
        handle, path = tempfile.mkstemp(dir=self.work)
        os.write(handle, b"blob")
        os.close(handle)
        self.storage.storeBlob(oid, self.serial(oid), data, path, "", meta)

    def store(self, meta):
        new = [p64(self.new_oid()) for _ in range(self.random.randrange(4))]
        for oid in new:
            self.store_one(meta, oid, self.some_oids(3))
        parents = self.some_oids(3) or [ROOT]
        self.oids += new
        for oid in parents:
            references = self.some_oids(3)
            if self.random.random() < 0.8:
                references += new
            self.store_one(meta, oid, references)
            if self.random.random() < 0.05:
                self.store_one(meta, oid, references[1:])

    def new_oid(self):
        gap = self.random.choice([1, 1, 1, 70, 1 << 17, 1 << 33])
        self.last = getattr(self, "last", 0) + gap
        return self.last

    def undo(self, meta):
        for _ in range(self.random.choice([1, 1, 2, 3])):
            recent = self.tids[-self.random.choice([1, 3, 8, 50]) :]
            tid = self.random.choice(recent)
            self.storage.undo(base64.encodebytes(tid).rstrip(), meta)

    def delete(self, meta):
        for oid in self.some_oids(2):
            if oid != ROOT:
                self.storage.deleteObject(oid, self.serial(oid), meta)

    def restore(self, meta):
        tid = self.storage._tid
        for oid in self.some_oids(2):
            earlier = self.random.choice(self.tids)
            try:
                data = self.storage.loadSerial(oid, earlier)
            except POSError:
                data, earlier = self.record(self.some_oids(2)), None
            self.storage.restore(oid, tid, data, "", earlier, meta)

    def run(self, manifest):
        self.commit(lambda meta: self.store_one(meta, ROOT, []))
        for _ in range(self.random.randrange(1, 45)):
            chance = self.random.random()
            if chance < self.undoes:
                self.commit(self.undo)
            elif chance < self.undoes + 0.04:
                self.commit(self.delete)
            elif chance < self.undoes + 0.07:
                self.commit(self.restore, self.random.choice(" p"))
            elif chance < self.undoes + 0.09:
                self.commit(lambda meta: None)
            elif chance < self.undoes + 0.12:
                self.pack(manifest)
            else:
                self.commit(self.store)
        self.pack(manifest)
        self.storage.close()
        shutil.rmtree(self.work)

    # A pack.

    def pack_time(self):
        moment = self.random.choice(self.times)
        where = self.random.choice(["at", "before", "behind", "at", "last", "first", "exact"])
        if where == "last":
            return self.clock + 1
        if where == "first":
            return self.times[0] - 1
        if where == "exact":
            return TimeStamp(self.random.choice(self.tids)).timeTime()
        return moment + {"at": 0, "before": -1e-3, "behind": 1e-3}[where]

    def pack(self, manifest):
        self.storage.close()
        name = f"{self.name}-{self.steps}"
        self.steps += 1
        before = os.path.join(self.directory, name + ".before")
        shutil.copy(self.path, before)
        self.storage = self.open()
        for left in ".blobs.old", "blobs.old":
            shutil.rmtree(os.path.join(self.work, left), ignore_errors=True)
        moment = self.pack_time()
        gc = self.random.random() < 0.8
        find = references_of if 5 in self.protocols else referencesf
        stop = TimeStamp(*time.gmtime(moment)[:5] + (moment % 60,)).raw()
        try:
            self.storage.pack(moment, find, gc=gc)
            outcome = "packed"
        except Exception as error:
            outcome = type(error).__name__
            # What it holds afterwards is of no interest.
            self.storage.close()
            shutil.copy(before, self.path)
            for suffix in ".index", ".pack":
                if os.path.exists(self.path + suffix):
                    os.remove(self.path + suffix)
            self.storage = self.open()
        if outcome == "packed":
            with open(self.path, "rb") as after, open(before, "rb") as old:
                outcome = "same" if after.read() == old.read() else "packed"
        if outcome == "packed":
            shutil.copy(self.path, os.path.join(self.directory, name + ".after"))
            if self.has_blobs:
                with open(os.path.join(self.directory, name + ".removed"), "wb") as file:
                    file.write(self.storage.removed)
            present = set(self.storage._index.keys())
            self.oids = [oid for oid in self.oids if oid in present]
        self.storage.removed = None
        print(name, repr(moment), stop.hex(), int(gc), outcome, self.seed, file=manifest)


def main():
    directory, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(os.path.join(directory, "manifest"), "w") as manifest:
        for number in range(count):
            History(directory, str(number), seed + number).run(manifest)


main()
