"""Starts the server under test wherever ZEO's tests would start a Python one."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import cluster
import process

START_LIMIT_S = 33
STOP_LIMIT_S = 15
STORAGE_FILE_ENDINGS = ('', '.old', '.tmp', '.lock', '.index', '.pack', '.raft')

servers = []        # every server that the current test started
problems = []       # what went wrong with them outside of the test's own assertions
start_count = 0
use_python = False  # this test looks inside a Python server
through_follower = False    # databases in files are those of three nodes, and the test talks to a follower
_original = None


def patch(reference, follower):
    """Replace start_zeo_server under every name by which a loaded module knows it."""
    global _original, use_python, through_follower
    import ZEO._forker

    through_follower = follower

    _original = ZEO._forker.start_zeo_server
    use_python = reference
    for module in list(sys.modules.values()):
        if getattr(module, 'start_zeo_server', None) is _original:
            module.start_zeo_server = start_zeo_server


def begin_test(python):
    global start_count, use_python
    servers.clear()
    problems.clear()
    start_count = 0
    use_python = python
    cluster.begin_test()


def end_test():
    """Stop what the test left running; return what it did not notice by itself."""
    for server in servers:
        server.stop()
    return list(problems)


def start_zeo_server(storage_conf=None, zeo_conf=None, port=None, keep=False, path='Data.fs',
                     protocol=None, blob_dir=None, suicide=True, debug=False, threaded=False,
                     start_timeout=START_LIMIT_S, name=None, log=None, show_config=False):
    """Stand in for ZEO._forker.start_zeo_server: same arguments, same (address, stop)."""
    global start_count
    start_count += 1
    if use_python:
        return _original(storage_conf, zeo_conf, port, keep, path, protocol, blob_dir, suicide, debug,
                         threaded, start_timeout, name, log, show_config)
    if protocol is not None:
        raise NotImplementedError('the server under test speaks one protocol version only')
    if not storage_conf:
        storage_conf = f'<filestorage>\n  path {path}\n</filestorage>\n'
    if blob_dir:
        storage_conf = f'<blobstorage>\n  blob-dir {blob_dir}\n{storage_conf}\n</blobstorage>\n'
    zeo_conf = _zeo_section(zeo_conf, port, log)
    config = f'{zeo_conf}\n{storage_conf}'
    if show_config:
        print(config)
    files = _storage_files(storage_conf)
    if through_follower and cluster.fits(storage_conf):
        server = cluster.Cluster(zeo_conf, storage_conf, files, keep, start_timeout)
    else:
        server = Server(config, [] if keep else files, start_timeout)
    servers.append(server)
    return server.address, server.stop


def _zeo_section(zeo_conf, port, log):
    from ZEO._forker import ZEOConfig

    if zeo_conf is None or isinstance(zeo_conf, dict):
        address = ('127.0.0.1', port or 0) if port is None or isinstance(port, int) else port
        zeo_conf = ZEOConfig(address, log=log, **(zeo_conf or {}))
    text = str(zeo_conf)
    if os.environ.get('ZEO_MSGPACK') and 'msgpack' not in text:
        # The Python server reads the variable; another server is told in the configuration.
        text = text.replace('<zeo>', '<zeo>\n  msgpack true', 1)
    return text


def _storage_files(storage_conf):
    """The database files; blob directories outlive a server in the reference, so they do here."""
    sections = re.findall(r'<filestorage\b.*?</filestorage>', storage_conf, re.DOTALL | re.IGNORECASE)
    paths = [re.search(r'^\s*path\s+(.+?)\s*$', section, re.MULTILINE) for section in sections]
    return [os.path.abspath(path[1]) for path in paths if path]


class Server:
    """One process of the server under test."""

    def __init__(self, config, storage_files, start_limit_s):
        self.storage_files = storage_files
        self.stopped = False
        # Apart from the test's own directory, which some tests look through.
        self.dir = tempfile.mkdtemp(prefix='server', dir=os.environ['CONFORMANCE_RUN_DIR'])
        self.conf = os.path.join(self.dir, 'zeo.conf')
        with open(self.conf, 'w') as f:
            f.write(config)
        address_file = os.path.join(self.dir, 'address')
        with open(os.path.join(self.dir, 'stderr'), 'wb') as stderr:
            self.process = subprocess.Popen(
                [os.environ['ZEOD_BINARY'], '-C', self.conf, '--address-file', address_file],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                env=_environment(), preexec_fn=process.die_with_parent)
        try:
            self.address = self._wait_for_address(address_file, start_limit_s)
        except Exception:
            self.kill()
            raise

    def _wait_for_address(self, path, limit_s):
        deadline = time.monotonic() + limit_s
        while not os.path.exists(path):
            if self.process.poll() is not None:
                raise RuntimeError(f'the server exited with {self.process.returncode} instead of '
                                   f'listening; it said:\n{self.said()}')
            if time.monotonic() > deadline:
                raise RuntimeError(f'the server did not listen within {limit_s} s; it said:\n{self.said()}')
            time.sleep(0.005)
        with open(path) as f:
            for line in f:
                kind, _, address = line.strip().partition(' ')
                if kind == 'zeo':
                    return _parse_address(address)
        raise RuntimeError(f'the address file has no line "zeo ADDRESS": {open(path).read()!r}')

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, stop_timeout=None):
        """Terminate cleanly; a server that does not is a failure of the test, told by end_test."""
        if self.stopped:
            return
        self.stopped = True
        before = self.process.poll()
        if before is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.kill()
                problems.append(f'the server did not exit within {STOP_LIMIT_S} s of SIGTERM')
                return
        if before is not None:
            problems.append(f'the server ended by itself with {before}')
        elif self.process.returncode != 0:
            problems.append(f'the server exited with {self.process.returncode} after SIGTERM')
        for path in self.storage_files:
            remove_storage_file(path)

    def said(self, lines=40):
        with open(os.path.join(self.dir, 'stderr'), errors='replace') as f:
            return ''.join(f.readlines()[-lines:]).rstrip()


def remove_storage_file(path):
    for ending in STORAGE_FILE_ENDINGS:
        try:
            os.remove(path + ending)
        except FileNotFoundError:
            pass


def _environment():
    """The server's python3, which calls functions of ZEO's tests, is the one that runs them."""
    path = os.path.dirname(sys.executable) + os.pathsep + os.environ.get('PATH', os.defpath)
    return {**os.environ, 'PATH': path}


def _parse_address(text):
    if text.startswith('/') or ':' not in text:
        return text
    host, port = text.rsplit(':', 1)
    return host.strip('[]'), int(port)
