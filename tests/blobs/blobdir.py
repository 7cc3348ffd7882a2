"""What the tests of blobs share: servers with blob directories, and content that can be checked."""

import hashlib
import os
import random

import zeod
from ZEO.ClientStorage import ClientStorage
from ZODB.blob import FilesystemHelper
from ZODB.utils import u64

PIECE_BYTES = 1 << 20

FILE_IN_BLOBSTORAGE = '''
<zeo>
  address 127.0.0.1:0
</zeo>
<blobstorage 1>
  blob-dir %(blobs)s
  <filestorage>
    path %(path)s
  </filestorage>
</blobstorage>
'''

FILE = '''
<zeo>
  address 127.0.0.1:0
</zeo>
<filestorage 1>
  path %(path)s
  blob-dir %(blobs)s
</filestorage>
'''

MAPPING = '''
<zeo>
  address 127.0.0.1:0
</zeo>
<blobstorage 1>
  blob-dir %(blobs)s
  <mappingstorage/>
</blobstorage>
'''


def paths(directory):
    return {'path': os.path.join(directory, 'Data.fs'), 'blobs': os.path.join(directory, 'blobs')}


def start(directory, conf=FILE, address='127.0.0.1:0'):
    """A server with its files in this directory."""
    path = os.path.join(directory, 'zeo.conf')
    with open(path, 'w') as f:
        f.write((conf % paths(directory)).replace('127.0.0.1:0', address))
    return zeod.Zeod(directory, '-C', path)


def connect(server_address, blob_dir, **options):
    return ClientStorage(server_address, blob_dir=blob_dir, wait_timeout=20, **options)


def pieces(seed, size):
    """Content that nothing can guess nor compress, in pieces; the same for the same seed."""
    rng = random.Random(seed)
    block = rng.randbytes(min(size, PIECE_BYTES))
    while size > 0:
        # Every piece differs from all others in its first bytes.
        piece = (rng.randbytes(16) + block[16:])[:size]
        yield piece
        size -= len(piece)


def write(file, seed, size):
    """Write content to a file; return its digest."""
    digest = hashlib.sha256()
    for piece in pieces(seed, size):
        digest.update(piece)
        file.write(piece)
    return digest.hexdigest()


def digest_of(file):
    digest = hashlib.sha256()
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def files_below(path):
    """All files but the layout's marker, relative."""
    found = set()
    for root, _, names in os.walk(path):
        found.update(os.path.relpath(os.path.join(root, name), path) for name in names)
    return found - {'.layout'}


def revisions_on_disk(blob_dir):
    """{(oid, tid): path} of all committed blobs, as ZODB finds them."""
    found = {}
    helper = FilesystemHelper(blob_dir)
    for oid, path in helper.listOIDs():
        for name in os.listdir(path):
            if name.endswith('.blob'):
                tid = int(name.removesuffix('.blob'), 16)
                found[u64(oid), tid] = os.path.join(path, name)
    return found
