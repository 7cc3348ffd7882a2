"""The tests of the installed ZEO, as zope.testrunner finds them, and what is known about each."""

import os
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field

import ZEO
from zope.testrunner import find
from zope.testrunner import options as testrunner_options
from zope.testrunner.runner import layer_from_name

WAITING_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'waiting.toml')
PYTHON = 'python'
BATCH_SIZE = 12


@dataclass
class Test:
    key: str            # unique in the suite; what --filter and waiting.toml match
    case: object        # the unittest case
    layer: object       # its zope.testrunner layer, or None
    group: str = None   # the issue it waits for, PYTHON, or None
    reason: str = None


@dataclass
class Batch:
    """Tests of one layer that run after one another in a process of their own."""
    layer: object
    tests: list = field(default_factory=list)


def discover(level=1):
    """Every test, in the suite's order, with its group."""
    site = os.path.dirname(os.path.dirname(ZEO.__file__))
    options = testrunner_options.get_options(
        ['run.py', '--test-path', site, '-s', 'ZEO', '--at-level', str(level)], [])
    found = [(case, name) for name, cases in find.find_tests(options).items() for case in cases]
    broken = [case for case, _ in found if isinstance(case, find.StartUpFailure)]
    if broken:
        raise SystemExit(f'conformance: cannot load {[case.module for case in broken]}')
    # The blob tests come twice under the same ids: with separate and with shared directories.
    times = Counter(case.id() for case, _ in found)
    tests = []
    for case, name in found:
        layer = layer_from_name(name)
        key = case.id() if times[case.id()] == 1 else f'{name.rsplit(".", 1)[-1]}/{case.id()}'
        tests.append(Test(key, case, layer))
    _group(tests)
    return tests


def _group(tests):
    """Mark the tests that waiting.toml names; the first entry that names a test has it."""
    with open(WAITING_FILE, 'rb') as f:
        entries = tomllib.load(f)['waiting']
    for entry in entries:
        for pattern in entry['tests']:
            named = [test for test in tests if re.fullmatch(pattern, test.key, re.VERBOSE)]
            if not named:
                raise SystemExit(f'conformance: waiting.toml names no test of the suite: {pattern}')
            for test in named:
                if test.group is None:
                    test.group, test.reason = entry['for'], entry['reason']


def batches(tests, size=BATCH_SIZE):
    result = []
    for test in tests:
        last = result[-1] if result else None
        if last is None or last.layer is not test.layer or len(last.tests) == size:
            last = Batch(test.layer)
            result.append(last)
        last.tests.append(test)
    return result
