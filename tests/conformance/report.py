"""The counts, and what there is to be done about them."""

from collections import Counter

from suite import PYTHON


def show(tests, outcomes, flaky, seconds, args):
    """Print the outcome of the run; return the exit code."""
    counts = Counter()
    waiting = Counter()
    failed, passing = [], []
    for test in tests:
        outcome = outcomes.get(test.key)
        waits = test.group not in (None, PYTHON) and not args.reference
        if waits:
            waiting[test.group] += 1
            if outcome and outcome['outcome'] == 'passed':
                passing.append(test)
            elif outcome:
                print(f'\n=== waits for issue {test.group}: {test.key}\n{outcome["detail"]}')
            continue
        if test.group == PYTHON:
            kind = 'python'
        else:
            kind = 'server' if outcome['servers'] else 'client'
        counts[kind, outcome['outcome']] += 1
        if outcome['outcome'] == 'failed':
            failed.append(test)
    for test in failed:
        print(f'\n=== failed: {test.key}\n{outcomes[test.key]["detail"]}')
    for key, detail in flaky.items():
        print(f'\n=== flaky, the failed run: {key}\n{detail}')
    _list('skipped by the suite itself', [test.key for test in tests if
                                          outcomes.get(test.key, {}).get('outcome') == 'skipped'])
    _list('stay on Python', [f'{test.key}: {test.reason}' for test in tests if test.group == PYTHON])
    _list('flaky: failed, then passed when run again alone', flaky)
    _list('unexpectedly passing, remove from waiting.toml',
          [f'{test.group}  {test.key}' for test in passing])
    _list('failed', [test.key for test in failed])
    total = sum(n for (kind, _), n in counts.items() if kind != 'client') + sum(waiting.values())
    against = 'the reference' if args.reference else 'zeod'
    print(f'\nconformance against {against}, wire {args.wire}, {seconds:.0f} s')
    print(f'server tests: {total} = {counts["server", "passed"]} passed, {counts["server", "failed"]} failed, '
          + ''.join(f'{waiting[issue]} waiting for issue {issue}, ' for issue in 'BCDG')
          + f'{counts["server", "skipped"]} skipped, '
          f'{counts["python", "passed"] + counts["python", "failed"]} on Python '
          f'({counts["python", "failed"]} failed)')
    print(f'tests that start no server: {counts["client", "passed"]} passed, '
          f'{counts["client", "failed"]} failed, {counts["client", "skipped"]} skipped')
    return 1 if failed else 0


def _list(title, lines):
    if lines:
        print(f'\n{title} ({len(lines)}):')
        for line in lines:
            print(f'  {line}')
