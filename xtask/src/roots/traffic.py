"""A server that never closes what it accepts, and its client, which closes: a socket more in CLOSE_WAIT every 100 ms,
for 20 s at most. Says how many connections there were."""

import signal
import socket
import sys
import time

made = 0


def end(*_):
    print(made, flush=True)
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
server = socket.create_server(("127.0.0.1", 8089))
kept = []
for _ in range(200):
    client = socket.create_connection(("127.0.0.1", 8089))
    kept.append(server.accept()[0])
    client.close()
    made += 1
    time.sleep(0.1)
end()
