"""Records as ZODB programs of all ages wrote them: two pickles each, with references of every shape."""

import io
import pickle
import struct

import zodbpickle.pickle
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.serialize import referencesf


class Pid:
    """Stands for a reference in a state; pickled as its persistent id."""

    def __init__(self, pid):
        self.pid = pid


def persistent_id(thing):
    return thing.pid if isinstance(thing, Pid) else None


def is_ascii(oid):
    return all(byte < 0x80 for byte in oid) and b"\n" not in oid


def reference(random, oid, protocol):
    """A persistent id that keeps the object `oid` alive."""
    if protocol == 0:
        return Pid(oid.decode("ascii"))
    if protocol in (1, 2):
        # Bytes have no form of their own there.
        oid = oid.decode("ascii")
    return random.choice([Pid(oid), Pid((oid, PersistentMapping)), Pid((oid, None))])


def weak_reference(random, oid):
    """A persistent id that does not."""
    return Pid(
        random.choice(
            [
                ["w", (oid,)],
                ["w", (oid, "other")],
                ["n", ("other", oid)],
                ["m", ("other", oid, PersistentMapping)],
                [oid],
            ]
        )
    )


def filling(random):
    """A value of no interest."""
    return random.choice(
        [
            None,
            True,
            random.randrange(1 << random.choice([4, 12, 30, 200])),
            -random.randrange(1 << 40),
            random.random(),
            "text \u20ac" * random.randrange(40),
            random.randbytes(random.randrange(400)),
            (1, (2, 3, 4, 5), ()),
            [1, [], {}],
            {"key": {3: b"value"}},
            {1, 2},
            frozenset("ab"),
            2.5j,
            bytearray(b"Q."),
            PersistentMapping,
        ]
    )


def record(random, references, weak, protocol, is_blob=False):
    """A record of an object that refers to `references`, and weakly to `weak`."""
    if protocol == "python 2":
        return python2_record(random, references)
    if is_blob:
        # ZODB does not see that one of a later protocol is one, and leaves its file.
        protocol = min(protocol, 3)
    if protocol < 3:
        references = [oid for oid in references if is_ascii(oid)]
        weak = [oid for oid in weak if protocol]
    pids = [reference(random, oid, protocol) for oid in references]
    # The same persistent id twice is written once and fetched from the memo.
    pids += [Pid(pid.pid) for pid in pids if random.random() < 0.3]
    pids += [weak_reference(random, oid) for oid in weak]
    random.shuffle(pids)
    state = {"list": pids[::2], "some": filling(random), "tuple": tuple(pids[1::2])}
    for number in range(random.randrange(4)):
        state[number] = filling(random)
    module = zodbpickle.pickle if protocol <= 3 else pickle
    out = io.BytesIO()
    pickler = module.Pickler(out, protocol)
    pickler.persistent_id = persistent_id
    kind = PersistentMapping if random.random() < 0.8 else (PersistentMapping, None)
    pickler.dump(Blob if is_blob else kind)
    # Up to protocol 3 the second may use what the first put into the memo; behind that places are only
    # counted, and ZODB's writer begins anew with each.
    if protocol > 3 or random.random() < 0.7:
        pickler.clear_memo()
    pickler.dump(None if is_blob and random.random() < 0.8 else state)
    return out.getvalue()


def python2_record(random, references):
    """As cPickle of Python 2 wrote it, with oids that are strings."""
    out = [b"\x80\x02cpersistent.mapping\nPersistentMapping\nq\x01.\x80\x02}q\x02("]
    for number, oid in enumerate(references):
        if not is_ascii(oid):
            continue
        out.append(b"K" + bytes([number % 256]))
        text = b"U\x08" + oid
        if random.random() < 0.2:
            text = b"T" + struct.pack("<i", 8) + oid
        elif random.random() < 0.2:
            text = b"S'" + b"".join(b"\\x%02x" % byte for byte in oid) + b"'\n"
        shape = random.randrange(4)
        if shape == 0:
            out.append(text + b"q\x03Q")
        elif shape == 1:
            out.append(b"(" + text + b"cpersistent.mapping\nPersistentMapping\nq\x05tq\x06Q")
        elif shape == 2:
            out.append(text + b"cpersistent.mapping\nPersistentMapping\nq\x05\x86q\x07Q")
        else:
            out.append(random.choice([b"](U\x01w(" + text + b"teQ", b"(" + text + b"lQ"]))
    out.append(b"U\x04text(lp9\nI1\na")
    out.append(b"u.")
    return b"".join(out)


def references_of(record, oids=None):
    """What `referencesf` says, also for the protocols that it does not know."""
    if record[:1] != b"\x80" or record[1] <= 3:
        return referencesf(record, oids)
    found = [] if oids is None else oids

    class Unpickler(pickle.Unpickler):
        def find_class(self, module, name):
            return super().find_class(module, name)

        def persistent_load(self, pid):
            if isinstance(pid, tuple):
                pid = pid[0]
            if not isinstance(pid, list):
                found.append(pid if isinstance(pid, bytes) else pid.encode("ascii"))

    stream = io.BytesIO(record)
    Unpickler(stream).load()
    Unpickler(stream).load()
    return found
