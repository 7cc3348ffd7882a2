"""stock.py DIRECTORY ADDRESS PID: a client stays connected while the server's certificate is exchanged.

In DIRECTORY are the server's server.pem, the client's zope1.pem and zope1.key, the certificate that it knows
in known.pem, and the server's next one in next.pem. PID is the server's.
"""

import os
import shutil
import signal
import sys
import time

import ZODB.config

directory, address, pid = sys.argv[1:]
LIMIT_S = 20
# As in README.
CONF = '''
%import ZEO
<zodb>
  <clientstorage>
    server {address}
    wait-timeout 20
    <ssl>
      certificate {directory}/zope1.pem
      key {directory}/zope1.key
      authenticate {directory}/{known}
      server-hostname localhost
    </ssl>
  </clientstorage>
</zodb>
'''


def database(known):
    return ZODB.config.databaseFromString(CONF.format(address=address, directory=directory, known=known))


def count(db):
    with db.transaction() as connection:
        root = connection.root()
        root['count'] = root.get('count', 0) + 1
        return root['count']


staying = database('known.pem')
assert count(staying) == 1

shutil.copy(os.path.join(directory, 'next.pem'), os.path.join(directory, 'server.pem'))
os.kill(int(pid), signal.SIGHUP)
deadline = time.monotonic() + LIMIT_S
while True:
    with open(os.path.join(directory, 'stderr.log')) as f:
        log = f.read()
    if 'certificates read anew' in log:
        break
    assert time.monotonic() < deadline, log
    time.sleep(0.01)

assert count(staying) == 2, 'the client that stayed'
coming = database('next.pem')
assert count(coming) == 3, 'a client that knows the next certificate'
coming.close()
staying.close()
with open(os.path.join(directory, 'stderr.log')) as f:
    assert f.read().count('connected to storage 1, certificate CN=zope1,O=Example') == 2, 'it did not stay'
