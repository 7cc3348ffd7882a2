"""Runs batches of tests in worker processes and collects the outcomes."""

import glob
import json
import os
import selectors
import shutil
import signal
import sys
import tempfile
import time
from collections import deque

import suite
import worker

PROGRESS_EVERY_S = 15


class Pool:
    def __init__(self, directory, args):
        self.directory = directory
        self.args = args

    def run(self, tests, jobs, batch_size=suite.BATCH_SIZE):
        """Run the tests; return {key: the worker's last word on it}."""
        self.outcomes = {}
        self.total = len(tests)
        self.queue = deque(suite.batches(tests, batch_size))
        self.selector = selectors.DefaultSelector()
        self.running = set()
        told = time.monotonic()
        try:
            while self.queue or self.running:
                while self.queue and len(self.running) < jobs:
                    self.running.add(_Worker(self.queue.popleft(), self))
                for key, _ in self.selector.select(timeout=1):
                    key.data.read()
                for running in list(self.running):
                    running.check_limit(self.args.test_limit)
                if time.monotonic() - told > PROGRESS_EVERY_S and not self.args.verbose:
                    told = time.monotonic()
                    failed = sum(o['outcome'] == 'failed' for o in self.outcomes.values())
                    print(f'{len(self.outcomes)} of {self.total} done, {failed} failed', flush=True)
        finally:
            for running in list(self.running):
                running.kill()
        return self.outcomes

    def note(self, outcome):
        self.outcomes[outcome['end']] = outcome
        if self.args.verbose or outcome['outcome'] == 'failed':
            print(f'[{len(self.outcomes):3}/{self.total}] {outcome["outcome"]:7} '
                  f'{outcome["end"]} ({outcome["seconds"]:.1f} s)', flush=True)


class _Worker:
    """The parent's side of one forked process."""

    def __init__(self, batch, pool):
        self.batch = batch
        self.pool = pool
        self.left = {test.key: test for test in batch.tests}
        self.current = None
        self.since = time.monotonic()
        self.over_limit = False
        self.buffer = b''
        self.directory = tempfile.mkdtemp(prefix='batch', dir=pool.directory)
        self.fd, events = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.fd)
            worker.run_batch(batch, events, self.directory, pool.args.reference)
        os.close(events)
        pool.selector.register(self.fd, selectors.EVENT_READ, self)

    def read(self):
        data = os.read(self.fd, 1 << 16)
        self.buffer += data
        *lines, self.buffer = self.buffer.split(b'\n')
        for line in lines:
            event = json.loads(line)
            self.since = time.monotonic()
            if 'start' in event:
                self.current = event['start']
            else:
                self.current = None
                del self.left[event['end']]
                self.pool.note(event)
        if not data:
            self._ended()

    def check_limit(self, limit_s):
        if time.monotonic() - self.since > limit_s and not self.over_limit:
            self.over_limit = True
            os.kill(self.pid, signal.SIGABRT)   # says where each thread stands

    def kill(self):
        self._forget()
        _kill_group(self.pid)
        os.waitpid(self.pid, 0)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _ended(self):
        """All tests have run, or one of them took the process with it: then the rest goes on without it."""
        self._forget()
        _kill_group(self.pid)   # what a test left running, too
        _, status = os.waitpid(self.pid, 0)
        if self.left:
            guilty = self.current or next(iter(self.left))
            why = (f'took more than {self.pool.args.test_limit:.0f} s' if self.over_limit
                   else f'its process ended with {os.waitstatus_to_exitcode(status)}')
            self.pool.note({'end': guilty, 'outcome': 'failed', 'servers': 1,
                            'detail': '\n'.join([why, *self._last_words()]),
                            'seconds': time.monotonic() - self.since})
            del self.left[guilty]
            if self.left:
                self.pool.queue.append(suite.Batch(self.batch.layer, list(self.left.values())))
        shutil.rmtree(self.directory, ignore_errors=True)

    def _last_words(self):
        run = os.path.join(self.directory, 'run')
        for path in [os.path.join(run, 'output'), *sorted(glob.glob(os.path.join(run, 'server*', 'stderr')))]:
            with open(path, errors='replace') as f:
                text = f.read()[-worker.OUTPUT_TAIL_BYTES:].rstrip()
            if text:
                yield f'{os.path.relpath(path, run)}:\n{text}'

    def _forget(self):
        self.pool.selector.unregister(self.fd)
        os.close(self.fd)
        self.pool.running.discard(self)


def _kill_group(pid):
    """The worker made itself the leader of a group of this number."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
