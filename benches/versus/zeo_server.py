"""Run Python's ZEO server (with uvloop) on a free port and write the address
to a file, which runzeo itself cannot do: zeo_server.py DATA.FS ADDRESS_FILE
"""
import os
import sys
import threading

import uvloop  # noqa: F401  (ZEO uses it if it is there; here it must be)
from ZEO.runzeo import ZEOOptions
from ZEO.runzeo import ZEOServer


class Server(ZEOServer):

    def create_server(self):
        super().create_server()
        with open(sys.argv[2], "w") as address_file:
            address_file.write("zeo %s:%s\n" % self.server.acceptor.addr[:2])


def stop_with_parent():
    os.read(0, 1)
    os._exit(0)


threading.Thread(target=stop_with_parent, daemon=True).start()
options = ZEOOptions()
options.realize(["-a", "127.0.0.1", "-f", sys.argv[1]])
# runzeo takes an address without port for "any free one"
options.address = ("127.0.0.1", None)
Server(options).main()
