"""A web app for Zexio: it listens on $HOST:$PORT, answers /up when it can serve, and ends on SIGTERM once the
requests in flight are answered. The standard library is enough; any framework's server does the same."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class App(BaseHTTPRequestHandler):
    def do_GET(self):
        text = "ok" if self.path == "/up" else f"hello from python, release {os.environ.get('ZEXIO_RELEASE', '0')}"
        body = (text + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        if self.path != "/up":
            print(self.requestline, *args[1:], flush=True)


server = ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "3000"))), App)
server.daemon_threads = False  # server_close waits for the requests in flight
# shutdown waits for serve_forever to return, so it must run in another thread.
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
