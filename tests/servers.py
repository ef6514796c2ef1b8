#!/usr/bin/env python3
"""Runs a command beside real servers of files: nginx, and moto's S3.

    python3 tests/servers.py COMMAND...

`nginx` must be on the PATH, and MOTO_PYTHON name a Python that has moto[server] (else this one must). The command finds
the servers by CKPT_NGINX and CKPT_S3; both serve files of testdata/. Exits as the command does.

nginx: /plain/ with ranges, /whole/ without, /gzip/ compressed, /signed/ by way of a redirect to another port, with a
signature in the query that ends after two seconds (ngx_http_secure_link_module).
"""

import base64
import gzip
import hashlib
import http.server
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent / "testdata"
# more than is read of a file to see what it is
LARGE = "large.safetensors"
FILES = ["torch-2.15-py311/checkpoint.tar", "torch-2.15-py311/cnn_state.pt"]
SECRET = "only for this test"
SIGNED_SECONDS = 2

CONFIG = """
worker_processes 1;
daemon off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log {dir}/access.log;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    types {{ }}
    default_type application/octet-stream;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        location /plain/ {{ alias {root}/; }}
        location /whole/ {{ alias {root}/; max_ranges 0; }}
        location /gzip/ {{ alias {packed}/; add_header Content-Encoding gzip; }}
        location /signed/ {{ proxy_pass http://127.0.0.1:{redirect}; }}
    }}
    server {{
        listen 127.0.0.1:{signed};
        location /signed/ {{
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 "$secure_link_expires$uri {secret}";
            if ($secure_link = "") {{ return 403; }}
            if ($secure_link = "0") {{ return 410; }}
            alias {root}/;
        }}
    }}
}}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def answers(port):
    """Waits until somebody listens."""
    for _ in range(150):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"servers: nobody listens on port {port}")


def redirector(port, to):
    """Sends each request on to `to`, signed for a while."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            expires = int(time.time()) + SIGNED_SECONDS
            digest = hashlib.md5(f"{expires}{self.path} {SECRET}".encode()).digest()
            signature = base64.urlsafe_b64encode(digest).decode().rstrip("=")
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{to}{self.path}?md5={signature}&expires={expires}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def put(url, data=b""):
    """Unsigned: the server of this test asks for no signature."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {"Content-Type": "application/octet-stream"}
    request = urllib.request.Request(url, data=data, headers=headers, method="PUT")
    # moto imports much before its first answer
    opener.open(request, timeout=120).close()


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as directory:
        nginx_port, signed, redirect, s3 = (free_port() for _ in range(4))
        served, packed = pathlib.Path(directory, "served"), pathlib.Path(directory, "packed")
        for name in FILES:
            for place in (served / name, packed / name):
                place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, served / name)
            (packed / name).write_bytes(gzip.compress((ROOT / name).read_bytes()))
        header = b'{"w":{"dtype":"U8","shape":[4000000],"data_offsets":[0,4000000]}}'
        (served / LARGE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(range(250)) * 16_000)
        config = pathlib.Path(directory, "nginx.conf")
        config.write_text(CONFIG.format(dir=directory, port=nginx_port, root=served, packed=packed, redirect=redirect,
                                        signed=signed, secret=SECRET))
        # nginx drops its rights: it must get into the directory
        os.chmod(directory, 0o755)
        redirector(redirect, signed)
        python = os.environ.get("MOTO_PYTHON", sys.executable)
        log = open(pathlib.Path(directory, "log"), "wb")
        servers = [
            subprocess.Popen(["nginx", "-p", directory, "-c", config], stdout=log, stderr=log),
            subprocess.Popen([python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(s3)], stdout=log, stderr=log),
        ]
        try:
            for port in (nginx_port, s3):
                answers(port)
            put(f"http://127.0.0.1:{s3}/bucket")
            for name in FILES:
                put(f"http://127.0.0.1:{s3}/bucket/{name}", (ROOT / name).read_bytes())
            where = {"CKPT_NGINX": f"http://127.0.0.1:{nginx_port}", "CKPT_S3": f"http://127.0.0.1:{s3}"}
            return subprocess.run(sys.argv[1:], env=os.environ | where).returncode
        finally:
            for server in servers:
                server.send_signal(signal.SIGTERM)
                server.wait()


if __name__ == "__main__":
    sys.exit(main())
