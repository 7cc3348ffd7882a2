"""Runs one batch of tests in a forked process and tells the parent about each, a JSON line at a time."""

import faulthandler
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unittest

import process
import server
from suite import PYTHON

OUTPUT_TAIL_BYTES = 4000


def run_batch(batch, events, directory, reference):
    """Never returns: the process ends here, so that nothing of the parent is run twice."""
    status = 1
    try:
        process.die_with_parent()
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _settle_in(directory)
        with os.fdopen(events, 'w', buffering=1) as out:
            layers = _layers(batch.layer)
            for layer in layers:
                _call(layer, 'setUp')
            for test in batch.tests:
                out.write(json.dumps({'start': test.key}) + '\n')
                out.write(json.dumps(_run_test(test, layers, reference)) + '\n')
            for layer in reversed(layers):
                _call(layer, 'tearDown')
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _settle_in(directory):
    """Files, standard output and temporary directories of the batch live in its own directory."""
    os.chdir(directory)
    os.mkdir('run')
    os.mkdir('tmp')
    log = os.open('run/output', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ['CONFORMANCE_RUN_DIR'] = os.path.abspath('run')
    tempfile.tempdir = os.environ['TMPDIR'] = os.path.abspath('tmp')
    os.chdir('tmp')
    faulthandler.enable()
    # Some tests read what only a handler that formats gives a record; ZEO's own log.ini has one too.
    logging.basicConfig(stream=sys.stderr)


def _layers(layer):
    """The layer after those that it is built on."""
    if layer is None:
        return []
    below = [base for bases in map(_layers, layer.__bases__) for base in bases if base is not object]
    return below + [layer]


def _call(layer, name):
    method = getattr(layer, name, None)
    if method is not None:
        method()


class _Result(unittest.TestResult):
    """Keeps the worst outcome of one test, with the tracebacks."""

    def __init__(self):
        super().__init__()
        self.outcome = 'passed'
        self.details = []

    def _failed(self, test, error):
        self.outcome = 'failed'
        self.details.append(self._exc_info_to_string(error, test))

    addError = addFailure = _failed

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self._failed(test, error)

    def addUnexpectedSuccess(self, test):
        self.outcome = 'failed'
        self.details.append('unexpected success')

    def addSkip(self, test, reason):
        self.outcome = 'skipped'
        self.details.append(reason)


def _run_test(test, layers, reference):
    # A wrapper around the server can tell by this which test a server belongs to.
    os.environ['CONFORMANCE_TEST'] = test.key
    server.begin_test(python=reference or test.group == PYTHON)
    here = os.getcwd()
    output_start = os.stat(1).st_size
    result = _Result()
    begun = time.monotonic()
    for layer in layers:
        _call(layer, 'testSetUp')
    test.case(result)
    for layer in reversed(layers):
        _call(layer, 'testTearDown')
    problems = server.end_test()
    os.chdir(here)
    if problems:
        result.outcome = 'failed'
        result.details.extend(problems)
    if result.outcome == 'failed':
        result.details.extend(f'server {number} said:\n{one.said()}'
                              for number, one in enumerate(server.servers) if one.said())
        result.details.append(_output_since(output_start))
    for one in server.servers:
        shutil.rmtree(one.dir, ignore_errors=True)
    return {'end': test.key, 'outcome': result.outcome, 'seconds': time.monotonic() - begun,
            'servers': server.start_count, 'detail': '\n'.join(filter(None, result.details))}


def _output_since(start):
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.path.join(os.environ['CONFORMANCE_RUN_DIR'], 'output'), 'rb') as f:
        f.seek(max(start, os.stat(1).st_size - OUTPUT_TAIL_BYTES))
        text = f.read().decode(errors='replace').rstrip()
    return f'output:\n{text}' if text else ''
