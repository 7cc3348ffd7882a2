"""The DemoStorage tests that ZEO's suite has and does not run, against zeod."""

import os
import sys
import unittest

import zeod
from zeod import check

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, 'conformance'))

import server   # noqa: E402

# The names of ZEO's and of ZODB's tests.
PREFIXES = 'check', 'test'
LIMIT_S = 170


def run():
    from ZEO.tests import testZEO

    server.patch(reference=False, follower=False)
    names = [name for name in dir(testZEO.DemoStorageTests) if name.startswith(PREFIXES)]
    result = unittest.TestResult()
    problems = []
    for name in names:
        server.begin_test(python=False)
        testZEO.DemoStorageTests(name)(result)
        problems += [f'{name}: {problem}' for problem in server.end_test()]
    for test, text in [*result.errors, *result.failures]:
        problems.append(f'{test}: {text}')
    return result.testsRun, problems


def main(directory):
    # The tests leave files where they run.
    os.environ['ZEOD_BINARY'] = os.path.abspath(os.environ['ZEOD_BINARY'])
    os.environ['CONFORMANCE_RUN_DIR'] = os.path.join(directory, 'run')
    os.environ['TMPDIR'] = os.path.join(directory, 'tmp')
    os.mkdir(os.environ['CONFORMANCE_RUN_DIR'])
    os.mkdir(os.environ['TMPDIR'])
    os.chdir(directory)
    count, problems = zeod.run_all(directory, LIMIT_S, {'tests': (run,)})['tests']
    check(not problems, '\n'.join(problems))
    check(count > 30, f'only {count} tests were found')
    return f'{count} tests pass'


if __name__ == '__main__':
    zeod.main(main)
