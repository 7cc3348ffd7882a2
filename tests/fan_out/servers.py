"""A server with a file, zeod or Python's, and zeod in front of it."""

import os
import subprocess
import sys
import time

import zeod
from zeod import check
from ZEO.ClientStorage import ClientStorage

PYTHON_SERVER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'client', 'python_server.py')
STORAGE = ('<filestorage>\n  path {directory}/Data.fs\n  blob-dir {directory}/blobs\n  pack-gc false\n  {more}\n'
           '</filestorage>\n')


class PythonServer:
    """As zeod.Zeod, with the reference."""

    def __init__(self, directory, conf, name):
        address_file = os.path.join(directory, f'{name}.address')
        if os.path.exists(address_file):
            os.remove(address_file)
        with open(os.path.join(directory, f'{name}.log'), 'ab') as log:
            self.process = subprocess.Popen([sys.executable, PYTHON_SERVER, conf, address_file],
                                            stdin=subprocess.PIPE, stdout=log, stderr=log,
                                            preexec_fn=zeod.die_with_parent)
        deadline = time.monotonic() + zeod.START_LIMIT_S
        while not os.path.exists(address_file) or not open(address_file).read().endswith('\n'):
            check(self.process.poll() is None and time.monotonic() < deadline, "Python's server does not listen")
            time.sleep(0.005)
        address = open(address_file).read().split()[1]
        if not address.startswith('/'):
            host, port = address.rsplit(':', 1)
            address = host, int(port)
        self.address = address

    def stop(self):
        self.process.terminate()
        self.process.wait(zeod.STOP_LIMIT_S)


def behind(kind, directory, socket, more=''):
    """The server with the file, which listens at a unix socket of that name."""
    conf = os.path.join(directory, f'{socket}.conf')
    with open(conf, 'w') as f:
        f.write(f'<zeo>\n  address {directory}/{socket}\n  client-conflict-resolution true\n</zeo>\n'
                + STORAGE.format(directory=directory, more=more))
    if kind == 'python':
        return PythonServer(directory, conf, socket)
    return zeod.Zeod(directory, '-C', conf, name=socket)


def in_front(directory, *sockets, more='', name='front'):
    """A zeod whose storage is that of the servers at these sockets."""
    conf = os.path.join(directory, f'{name}.conf')
    servers = ''.join(f'  server {directory}/{socket}\n' for socket in sockets)
    with open(conf, 'w') as f:
        f.write(f'<zeo>\n  address 127.0.0.1:0\n</zeo>\n'
                f'<zeoclient>\n{servers}  blob-dir {directory}/{name}-blobs\n  {more}\n</zeoclient>\n')
    return zeod.Zeod(directory, '-C', conf, name=name)


def client(server, directory, name, **options):
    return ClientStorage(server.address, blob_dir=os.path.join(directory, f'{name}-cache'), wait_timeout=20, **options)


def wait_until(what, true, limit_s=40):
    deadline = time.monotonic() + limit_s
    while not true():
        check(time.monotonic() < deadline, f'{what}: not within {limit_s} s')
        time.sleep(0.02)
