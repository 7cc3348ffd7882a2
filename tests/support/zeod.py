"""What the acceptance tests share: the server under test, and clients in processes of their own."""

import collections
import ctypes
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

START_LIMIT_S = 30
STOP_LIMIT_S = 15
PR_SET_PDEATHSIG = 1

# Loaded before anything forks.
_libc = ctypes.CDLL(None) if sys.platform == 'linux' else None


def die_with_parent():
    """Have the kernel end this process when the one that started it ends, however that happened."""
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def check(condition, text):
    if not condition:
        raise AssertionError(text)


def main(function):
    """Run function(directory) in a fresh directory; its return value is what to print."""
    # So that the directory is removed after a time limit, too.
    signal.signal(signal.SIGTERM, lambda *args: sys.exit('ended by SIGTERM: over its time limit?'))
    start = time.monotonic()
    # Short: the path of a unix socket has room for 107 bytes only.
    directory = tempfile.mkdtemp(prefix='zeod')
    try:
        print(f'{os.path.basename(sys.argv[0])} {" ".join(sys.argv[1:])}: {function(directory)} '
              f'in {time.monotonic() - start:.1f} s', flush=True)
    except BaseException:
        for name in sorted(os.listdir(directory)):
            if name.endswith('.log'):
                with open(os.path.join(directory, name), errors='replace') as f:
                    print(f'{name} ends with:\n{"".join(f.readlines()[-15:])}', file=sys.stderr)
        raise
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class Zeod:
    """One server process. The arguments are zeod's, without --address-file."""

    def __init__(self, directory, *arguments, name='zeod'):
        self.address_file = os.path.join(directory, f'{name}.address')
        if os.path.exists(self.address_file):
            os.remove(self.address_file)    # a killed server leaves it
        self.log = os.path.join(directory, f'{name}.log')
        with open(self.log, 'ab') as log:
            self.process = subprocess.Popen(
                [os.environ['ZEOD_BINARY'], *arguments, '--address-file', self.address_file],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        deadline = time.monotonic() + START_LIMIT_S
        while not os.path.exists(self.address_file):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f'zeod does not listen ({self.process.returncode})')
            time.sleep(0.005)
        with open(self.address_file) as f:
            address = next(line for line in f if line.startswith('zeo ')).split()[1]
        if address.startswith('/'):
            self.address = address
        else:
            host, port = address.rsplit(':', 1)
            self.address = host, int(port)

    def stop(self):
        """Stop cleanly, or fail."""
        check(self.process.poll() is None, f'zeod ended by itself with {self.process.returncode}')
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f'zeod does not stop within {STOP_LIMIT_S} s of SIGTERM') from None
        check(self.process.returncode == 0, f'zeod exits with {self.process.returncode} after SIGTERM')

    def kill(self):
        """As a crash would."""
        self.process.kill()
        self.process.wait()


def on_free_port(directory, *paths, name='zeod'):
    """A server of these files, as storages 1, 2, …"""
    files = [argument for path in paths for argument in ('-f', path)]
    return Zeod(directory, '-a', '127.0.0.1:0', *files, name=name)


class Complaints(logging.Handler):
    """Counts what a ZEO client says only where something is wrong with its connection or its cache."""

    TEXTS = ('out of sync',         # its cache knows more than the server
             'dropping stale cache', 'Registration or cache validation failed')

    def __init__(self):
        super().__init__(logging.ERROR)
        self.counts = collections.Counter()
        logging.getLogger('ZEO').addHandler(self)

    def emit(self, record):
        self.counts.update(text for text in self.TEXTS if text in record.getMessage())


class Worker:
    """function(*arguments) in a forked process. Fork only while this process has one thread."""

    def __init__(self, directory, name, function, *arguments):
        self.name = name
        self.result_file = os.path.join(directory, f'{name}.result')
        sys.stdout.flush()
        self.pid = os.fork()
        self.status = None
        if self.pid == 0:
            self._run(os.path.join(directory, f'{name}.log'), function, arguments)

    def _run(self, log, function, arguments):
        code = 1
        try:
            die_with_parent()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            logging.basicConfig(filename=log, level=logging.WARNING, force=True,
                                format='%(asctime)s %(levelname)s %(name)s %(message)s')
            with open(f'{self.result_file}.new', 'wb') as f:
                pickle.dump(function(*arguments), f)
            os.rename(f'{self.result_file}.new', self.result_file)
            code = 0
        except BaseException:
            with open(log, 'a') as f:
                traceback.print_exc(file=f)
        finally:
            os._exit(code)

    def poll(self):
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    def kill(self):
        if not self.poll():
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.status = -9

    def result(self):
        check(self.status == 0, f'{self.name} failed ({self.status}); its log stands above')
        with open(self.result_file, 'rb') as f:
            return pickle.load(f)


def run_all(directory, limit_s, jobs):
    """Run jobs {name: (function, *arguments)} at once; return their results by name."""
    workers = [Worker(directory, name, *job) for name, job in jobs.items()]
    return join(workers, limit_s)


def join(workers, limit_s):
    deadline = time.monotonic() + limit_s
    try:
        while not all([worker.poll() for worker in workers]):
            if any(worker.status not in (None, 0) for worker in workers):
                break
            late = [worker.name for worker in workers if worker.status is None]
            check(time.monotonic() < deadline, f'{late} did not end within {limit_s} s')
            time.sleep(0.01)
    finally:
        failed = [worker for worker in workers if worker.status not in (None, 0)]
        for worker in workers:
            worker.kill()
    for worker in failed:
        worker.result()
    return {worker.name: worker.result() for worker in workers}
