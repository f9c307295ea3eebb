"""Runs moto's server on a free loopback port, prints the port, and ends when its standard input does."""

from __future__ import annotations

import os
import sys

os.environ["MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION"] = "1"
os.environ["MOTO_ENABLE_AMI_VALIDATION"] = "1"

from moto.moto_server.threaded_moto_server import ThreadedMotoServer

if __name__ == "__main__":
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
    os._exit(0)
