"""Run Python's ZEO server, whose configuration may name port 0, and write its address to a file, which
runzeo itself cannot do: python_server.py ZEO.CONF ADDRESS_FILE

It ends when its stdin is closed, as its parent's death does, too.
"""
import os
import sys
import threading

from ZEO.runzeo import ZEOOptions
from ZEO.runzeo import ZEOServer


class Server(ZEOServer):

    def create_server(self):
        super().create_server()
        with open(sys.argv[2], 'w') as address_file:
            address = self.server.acceptor.addr
            address_file.write(f'zeo {address}\n' if isinstance(address, str) else 'zeo %s:%s\n' % address[:2])


def stop_with_parent():
    os.read(0, 1)
    os._exit(0)


threading.Thread(target=stop_with_parent, daemon=True).start()
options = ZEOOptions()
options.realize(['-C', sys.argv[1]])
Server(options).main()
