"""A stock client whose transaction is larger than the server takes: an exception at the commit, and
it goes on with the connection that it has."""

import os

import transaction
import zeod
from persistent.mapping import PersistentMapping
from zeod import check
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import Blob
from ZODB.DB import DB
from ZODB.POSException import StorageTransactionError

LIMIT = 2 << 20
CONFIGURATION = f"""
<zeo>
  address 127.0.0.1:0
</zeo>
<zeod>
  max-transaction-size {LIMIT}
</zeod>
<filestorage 1>
  path %s/Data.fs
  blob-dir %s/blobs
</filestorage>
"""


def fill(root, count):
    for number in range(count):
        root[number] = PersistentMapping({'data': os.urandom(LIMIT // 10)})


def run(directory):
    conf = os.path.join(directory, 'zeo.conf')
    with open(conf, 'w') as f:
        f.write(CONFIGURATION % (directory, directory))
    server = zeod.Zeod(directory, '-C', conf)
    try:
        storage = ClientStorage(server.address, blob_dir=os.path.join(directory, 'client-blobs'),
                                wait_timeout=20)
        events = []
        notify_disconnected = storage.notify_disconnected
        storage.notify_disconnected = lambda: (events.append('lost'), notify_disconnected())
        db = DB(storage)
        connection = db.open()
        root = connection.root()
        fill(root, 20)
        try:
            transaction.commit()
        except StorageTransactionError as error:
            check('max-transaction-size' in str(error), error)
        else:
            raise AssertionError('it was taken')
        transaction.abort()
        check(not root.keys(), 'nothing of it is there')

        # Blobs do not count, and what fits is taken.
        fill(root, 5)
        root['blob'] = Blob(os.urandom(3 * LIMIT))
        transaction.commit()
        check(not events, 'the connection stayed')
        db.close()
    finally:
        server.kill()
    return 'refused, and went on'


if __name__ == '__main__':
    zeod.main(run)
