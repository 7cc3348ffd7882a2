"""Three nodes in place of one server; the test talks to one that follows."""

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time

import server

FOLLOWER, *OTHERS = 1, 2, 3
LEADER_LIMIT_S = 30
COMMAND_LIMIT_S = 60
CREATE = r'^\s*create\s+(1|yes|true|on)\s*$'
# What holds for all nodes; the rest, such as certificates, is for the clients of one.
COMMON_KEYS = ('msgpack', 'transaction-timeout', 'invalidation-queue-size', 'invalidation-age',
               'client-conflict-resolution')

_homes = {}     # {the database of the test's node: where the rest of its cluster lives}


def begin_test():
    for home in _homes.values():
        shutil.rmtree(home, ignore_errors=True)
    _homes.clear()


def fits(storage_conf):
    """Only databases in files are replicated."""
    sections = re.findall(r'<(\w+storage)\b', storage_conf, re.IGNORECASE)
    return bool(sections) and all(name.lower() in ('filestorage', 'blobstorage') for name in sections)


class Cluster:
    """Looks like a server.Server."""

    def __init__(self, zeo_conf, storage_conf, storage_files, keep, start_limit_s):
        self.storage_files, self.keep = storage_files, keep
        self.key = storage_files[0]
        self.stopped = False
        self.nodes = []
        storage_conf, empties = re.subn(CREATE, '', storage_conf, flags=re.MULTILINE | re.IGNORECASE)
        if empties:
            # What that key asks for; nodes refuse it.
            for path in storage_files:
                server.remove_storage_file(path)
        is_new = self.key not in _homes or not os.path.exists(self.key)
        if is_new:
            self._forget()
            _homes[self.key] = tempfile.mkdtemp(prefix='cluster', dir=os.environ['CONFORMANCE_RUN_DIR'])
        self.home = _homes[self.key]
        self._configure(zeo_conf, storage_conf, is_new)
        try:
            self._start(is_new, start_limit_s)
        except Exception:
            for node in self.nodes:
                node.kill()
            raise
        self.dir = self.nodes[0].dir
        self.address = self.nodes[0].address

    def _configure(self, zeo_conf, storage_conf, is_new):
        peers = os.path.join(self.home, 'peers.json')
        if is_new:
            with open(peers, 'w') as f:
                json.dump({number: f'127.0.0.1:{port}' for number, port in zip((FOLLOWER, *OTHERS), _free_ports(3))}, f)
        with open(peers) as f:
            peers = {int(number): address for number, address in json.load(f).items()}
        self.confs = {}
        for number in peers:
            own = os.path.join(self.home, f'node{number}')
            os.makedirs(own, exist_ok=True)
            if number == FOLLOWER:
                text = f'{zeo_conf}\n{storage_conf}\n'
            else:
                text = f'{_common(zeo_conf)}\n{_moved(storage_conf, own)}\n'
            others = ''.join(f'    peer {other} {address}\n' for other, address in peers.items() if other != number)
            self.confs[number] = (f'{text}<zeod>\n  <replication>\n    node-id {number}\n    address {peers[number]}\n'
                                  f'    directory {own}/raft\n{others}  </replication>\n</zeod>\n')

    def _start(self, is_new, limit_s):
        if is_new:
            # On what the test may have written already.
            conf = os.path.join(self.home, 'init.conf')
            with open(conf, 'w') as f:
                f.write(self.confs[FOLLOWER])
            self._command(conf, 'init')
        for number in (FOLLOWER, *OTHERS):
            self.nodes.append(server.Server(self.confs[number], [], limit_s))
            if is_new and number != FOLLOWER:
                self._command(self.nodes[-1].conf, 'join')
        self._follow()

    def _follow(self):
        """Wait until the test's node has another one for its leader."""
        deadline = time.monotonic() + LEADER_LIMIT_S
        while True:
            status = json.loads(self._command(self.nodes[0].conf, 'status', '--json'))
            storages = status['own'] or status['storages']
            leaders = {storage['leader'] for storage in storages}
            if storages and leaders <= set(OTHERS):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f'node {FOLLOWER} does not follow: {status}; it said:\n{self.said()}')
            if FOLLOWER in leaders:
                self._command(self.nodes[0].conf, 'transfer-leader', str(OTHERS[0]))
            time.sleep(0.02)

    def _command(self, conf, *arguments):
        command = [os.environ['ZEOD_BINARY'], 'cluster', *arguments, '-C', conf]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
        # A status that is not well is one.
        if done.returncode != 0 and not (arguments[0] == 'status' and done.stdout):
            raise RuntimeError(f'zeod cluster {arguments} failed: {done.stdout}{done.stderr}; the nodes said:\n{self.said()}')
        return done.stdout

    def stop(self, stop_timeout=None):
        if self.stopped:
            return
        self.stopped = True
        for node in self.nodes:
            node.stop()
        if not self.keep:
            self._forget()
            for path in self.storage_files:
                server.remove_storage_file(path)

    def _forget(self):
        """What remains of an earlier cluster is no part of a new database."""
        home = _homes.pop(self.key, None)
        if home:
            shutil.rmtree(home, ignore_errors=True)
        note = f'{self.key}.raft'
        if os.path.exists(note):
            os.remove(note)

    def said(self, lines=40):
        return '\n'.join(f'-- node {number}\n{node.said(lines)}' for number, node in enumerate(self.nodes, FOLLOWER))


def _common(zeo_conf):
    lines = [line for line in zeo_conf.splitlines() if line.split()[:1] and line.split()[0] in COMMON_KEYS]
    return '\n'.join(['<zeo>', '  address 127.0.0.1:0', *lines, '</zeo>'])


def _moved(storage_conf, directory):
    """The same storages, somewhere else."""
    def move(match):
        return f'{match[1]}{os.path.join(directory, os.path.basename(match[2].rstrip("/")))}'

    return re.sub(r'^(\s*(?:path|blob-dir)\s+)(.+?)\s*$', move, storage_conf, flags=re.MULTILINE)


def _free_ports(count):
    sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
