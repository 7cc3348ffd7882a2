"""An instance as mkzeoinstance makes it, run by zeoctl: Python's server, zeod, Python's, and zeod again.

Each finds all that the others wrote, undoes and packs it. One client stays through all of it, as a Zope does.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

import transaction
import zdaemon
import ZEO
import zeod
import ZODB.utils
from persistent.mapping import PersistentMapping
from zeod import check
from ZODB.blob import Blob

CONF = os.path.join(os.path.dirname(os.path.abspath(__file__)), '../confs/mkzeoinstance-blobs.conf')
PYTHON = f'exec {sys.executable} -m ZEO.runzeo'
ZEOD = f'exec {os.environ["ZEOD_BINARY"]}'
WAIT_S = 20
TURNS = 'python', 'zeod', 'python again', 'zeod again'


class Instance:
    """What mkzeoinstance makes, but for the address."""

    def __init__(self, directory):
        self.home = os.path.join(directory, 'instance')
        for name in 'etc', 'var', 'var/blobs', 'log', 'bin':
            os.makedirs(self.path(name))
        self.address = self.path('var/zeo.sock')
        with open(CONF) as f:
            text = f.read()
        # No fixed port, and the paths that are not those of the test's Python.
        for old, new in (('address 9999', f'address {self.address}'), ('@DIR@', self.home),
                         ('/no/such/venv/bin/python', sys.executable),
                         ('/no/such/venv/zdaemon', os.path.dirname(zdaemon.__file__))):
            check(old in text, f'{old} is not in {CONF}')
            text = text.replace(old, new)
        self.write('etc/zeo.conf', text, 0o644)
        self.script('zeoctl', f'exec {sys.executable} -m ZEO.zeoctl')
        self.conf = text

    def path(self, name):
        return os.path.join(self.home, name)

    def write(self, name, text, mode):
        with open(self.path(name), 'w') as f:
            f.write(text)
        os.chmod(self.path(name), mode)

    def script(self, name, command):
        lines = ('#!/bin/sh', f'INSTANCE_HOME={self.home}', 'export INSTANCE_HOME',
                 f'{command} -C {self.path("etc/zeo.conf")} "$@"', '')
        self.write(f'bin/{name}', '\n'.join(lines), 0o755)

    def zeoctl(self, action):
        return subprocess.run([self.path('bin/zeoctl'), action], stdin=subprocess.DEVNULL, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=2 * WAIT_S).stdout

    def pid(self):
        """The server's, from the PID file that both write below INSTANCE_HOME; '' before."""
        with contextlib.suppress(FileNotFoundError), open(self.path('var/ZEO.pid')) as f:
            return f.read().strip()
        return ''

    @contextlib.contextmanager
    def served_by(self, command, program):
        """From bin/zeoctl start to bin/zeoctl stop."""
        self.script('runzeo', command)
        self.zeoctl('start')
        wait_until(self.pid, f'{program} does not start')
        pid = self.pid()
        manager = parent_of(pid)
        try:
            check(f'pid={pid}' in self.zeoctl('status'), 'zeoctl does not know its server')
            check(os.path.basename(os.readlink(f'/proc/{pid}/exe')).startswith(program), f'not served by {program}')
            yield
            self.zeoctl('stop')
            check(not self.pid(), 'the PID file is left after the stop')
            # The manager goes last, and its socket with it.
            wait_until(lambda: not os.path.exists(self.path('var/zeo.zdsock')), 'the manager does not end')
        except BaseException:
            # The manager first, or it starts another one.
            for process in manager, pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(process), signal.SIGKILL)
            raise


def wait_until(condition, complaint):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        check(time.monotonic() < deadline, complaint)
        time.sleep(0.01)


def parent_of(pid):
    with open(f'/proc/{pid}/status') as f:
        return next(line for line in f if line.startswith('PPid:')).split()[1]


def revisions(db, oid):
    return len(db.storage.history(oid, size=100))


def write(db, turn):
    """Two transactions; the second changes what the first has made."""
    for round in 'first', 'second':
        with db.transaction(f'{turn}, {round}') as connection:
            root = connection.root()
            own = root.setdefault(turn, PersistentMapping())
            own['round'] = round
            if 'blob' not in own:
                own['blob'] = Blob()
            with own['blob'].open('w') as f:
                f.write(f'{turn}, {round}'.encode() * 10_000)


def expect(connection, turn, round):
    own = connection.root()[turn]
    check(own['round'] == round, f'{turn}: {own["round"]} instead of {round}')
    with own['blob'].open() as f:
        check(f.read() == f'{turn}, {round}'.encode() * 10_000, f'{turn}: another blob than of {round}')


def undo_last(db, description):
    last = db.undoInfo(0, 1)[0]
    check(last['description'] == description, f'the last to be undone: {last}')
    db.undo(last['id'], transaction.get())
    transaction.commit()


def take_turn(db, staying, turn, seen):
    """Undo what the server before wrote last, write, pack, and see to it that all is there."""
    with db.transaction() as connection:
        for earlier, round in seen.items():
            expect(connection, earlier, round)
    if seen:
        before = list(seen)[-1]
        undo_last(db, f'{before}, second')
        seen[before] = 'first'
    write(db, turn)
    seen[turn] = 'second'
    with db.transaction() as connection:
        oid = connection.root()._p_oid
        check(revisions(db, oid) > 1, 'nothing to pack')
    # This turn's second transaction is left for the next one to undo: pack up to the first.
    second, first = db.undoInfo(0, 2)
    check(first['description'] == f'{turn}, first', f'the last but one: {first}')
    db.pack((first['time'] + second['time']) / 2)
    check(revisions(db, oid) == 1, f'{turn}: the pack left {revisions(db, oid)} revisions of the root')
    # Until it has connected again, it reads its cache.
    wait_until(lambda: staying.lastTransaction() == db.lastTransaction(), 'the client that stays is not told')
    for which in db, staying:
        with which.transaction() as connection:
            for earlier, round in seen.items():
                expect(connection, earlier, round)


def main(directory):
    instance = Instance(directory)
    complaints = zeod.Complaints()
    seen = {}
    staying = None
    for turn in TURNS:
        command, program = (PYTHON, 'python') if turn.startswith('python') else (ZEOD, 'zeod')
        with instance.served_by(command, program):
            db = ZEO.DB(instance.address, wait_timeout=WAIT_S, blob_dir=os.path.join(directory, f'cache {turn}'))
            if staying is None:
                staying = ZEO.DB(instance.address, wait_timeout=WAIT_S, wait=True,
                                 blob_dir=os.path.join(directory, 'cache'))
            take_turn(db, staying, turn, seen)
            db.close()
    staying.close()
    with open(instance.path('etc/zeo.conf')) as f:
        check(f.read() == instance.conf, 'zeo.conf was changed')
    check(not complaints.counts, f'clients complained: {dict(complaints.counts)}')
    return f'{len(TURNS)} turns of Python\'s server and zeod, {seen}'


if __name__ == '__main__':
    zeod.main(main)
