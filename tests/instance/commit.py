"""commit.py ADDRESS BLOB_CACHE: a stock client commits an object and a blob, and reads them back."""

import sys

import ZEO
import ZODB.blob

address, blob_cache = sys.argv[1:]


def database():
    return ZEO.DB(address, wait_timeout=30, blob_dir=blob_cache)


db = database()     # makes the root
with db.transaction() as connection:
    connection.root.greeting = 'hello'
    connection.root.blob = ZODB.blob.Blob(b'a blob')
db.close()

db = database()
with db.transaction() as connection:
    assert connection.root.greeting == 'hello'
    with connection.root.blob.open() as f:
        assert f.read() == b'a blob'
db.close()
