"""Runs ZEO's own test suite against the server in $ZEOD_BINARY. See README.md."""

import argparse
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

import process

FILE_TESTS = 'FileStorage|Blob|blob'     # what --through-follower is for
RETRIES_AT_MOST = 20    # more failures than that are no accident


def main():
    args = _arguments()
    if args.die_with_parent:
        process.die_with_parent(signal.SIGTERM)
    process.drop_file_capabilities()
    if args.wire == 'msgpack':
        os.environ['ZEO_MSGPACK'] = '1'     # some of ZEO's test modules look at it when imported
    else:
        os.environ.pop('ZEO_MSGPACK', None)

    # Only now: what they import from ZEO depends on the environment.
    import pool
    import report
    import server
    import suite

    tests = suite.discover()
    server.patch(args.reference, args.through_follower)
    chosen = _choose(tests, args)
    if args.list:
        for test in chosen:
            print(f'{test.group or "-":6}  {test.key}')
        return 0
    if args.include_waiting or args.reference:
        to_run = chosen
    else:
        to_run = [test for test in chosen if test.group in (None, suite.PYTHON)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('conformance: terminated'))
    directory = tempfile.mkdtemp(prefix='zeo-conformance-')
    try:
        if not args.reference:
            _try_server(server, directory)
        begun = time.monotonic()
        runner = pool.Pool(directory, args)
        outcomes = runner.run(to_run, args.jobs)
        failed = [test for test in to_run if outcomes[test.key]['outcome'] == 'failed'
                  and (args.reference or test.group in (None, suite.PYTHON))]
        flaky = {}
        if 0 < len(failed) <= RETRIES_AT_MOST:
            print(f'running {len(failed)} failed tests again, each alone')
            again = runner.run(failed, jobs=1, batch_size=1)
            flaky = {key: outcomes[key]['detail'] for key in again if again[key]['outcome'] == 'passed'}
            outcomes.update((key, again[key]) for key in flaky)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if args.results:
        with open(args.results, 'w') as f:
            json.dump(outcomes, f, indent=1)
    return report.show(chosen, outcomes, flaky, time.monotonic() - begun, args)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--filter', metavar='REGEX', help='only tests whose name contains a match')
    parser.add_argument('--failed-in', metavar='FILE', help='only tests that failed in these --results')
    parser.add_argument('--jobs', type=int, metavar='N', default=max(2, os.cpu_count() or 1))
    parser.add_argument('--list', action='store_true', help='list the tests with the issue they wait for')
    parser.add_argument('--wire', choices=['pickle', 'msgpack'], default='pickle')
    parser.add_argument('--reference', action='store_true',
                        help="run everything against ZEO's own server, as a baseline")
    parser.add_argument('--through-follower', action='store_true',
                        help='the tests of databases in files talk to a follower in a cluster of three')
    parser.add_argument('--include-waiting', action='store_true',
                        help='run the tests that wait for an issue too, and name those that pass')
    parser.add_argument('--results', metavar='FILE', help='write the outcome of each test here, as JSON')
    parser.add_argument('--test-limit', type=float, metavar='SECONDS', default=300,
                        help='end a test that takes longer')
    parser.add_argument('--verbose', action='store_true', help='one line per test')
    parser.add_argument('--die-with-parent', action='store_true', help='for callers that may be killed')
    args = parser.parse_args()
    if not args.reference and not args.list:
        binary = os.environ.get('ZEOD_BINARY')
        if not binary or not os.access(binary, os.X_OK):
            parser.error(f'ZEOD_BINARY has to name the server to test, not {binary!r}')
        os.environ['ZEOD_BINARY'] = os.path.abspath(binary)
    return args


def _choose(tests, args):
    if args.through_follower:
        tests = [test for test in tests if re.search(FILE_TESTS, test.key)]
    if args.filter:
        tests = [test for test in tests if re.search(args.filter, test.key)]
    if args.failed_in:
        with open(args.failed_in) as f:
            outcomes = json.load(f)
        tests = [test for test in tests if outcomes.get(test.key, {}).get('outcome') == 'failed']
    if not tests:
        raise SystemExit('conformance: no test chosen')
    return tests


def _try_server(server, directory):
    """Start it once: better one clear message than as many failures as there are tests."""
    os.environ['CONFORMANCE_RUN_DIR'] = directory
    os.environ['CONFORMANCE_TEST'] = 'start'
    try:
        server.Server('<zeo>\n  address 127.0.0.1:0\n</zeo>\n<mappingstorage>\n</mappingstorage>\n',
                      [], server.START_LIMIT_S).stop()
    except Exception as error:
        raise SystemExit(f'conformance: {error}') from None
    if server.problems:
        raise SystemExit(f'conformance: {server.problems[0]}')


if __name__ == '__main__':
    sys.exit(main())
