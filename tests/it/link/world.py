"""A network of its own with a long link: run as `unshare -rnm python3 world.py OPTIONS`.

Its link is that of `relay.py`. Addresses that are dead get nothing back, name servers included. In it runs a gateway, which is asked,
or stopped while the resolver hangs; what came of it is printed as JSON.
"""

import argparse, http.client, http.server, json, os, signal, socketserver
import subprocess, tempfile, threading, time

from relay import Link

GATEWAY, SERVICE = ("127.0.0.1", 18080), 8099


class Service(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        # So that each request needs a connection.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def name_servers(addresses, hosts):
    """What the resolver goes by, in this name space alone."""
    folder = tempfile.mkdtemp()
    files = {
        "hosts": "127.0.0.1 localhost\n" + "".join(f"{one} service.test\n" for one in addresses),
        "resolv.conf": "".join(f"nameserver {one}\n" for one in hosts),
        "nsswitch.conf": "hosts: files dns\n",
    }
    for name, text in files.items():
        path = os.path.join(folder, name)
        with open(path, "w") as file:
            file.write(text)
        subprocess.run(["mount", "--bind", path, os.path.join("/etc", name)], check=True)


def ask(key):
    begun = time.monotonic()
    connection = http.client.HTTPConnection(*GATEWAY, timeout=60)
    connection.request("GET", "/v5/rooms/a", headers={"token": key, "region": "us-sv"})
    answer = connection.getresponse()
    body = answer.read().decode()
    return {"status": answer.status, "body": body, "seconds": time.monotonic() - begun}


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--round-trip", type=float, required=True)
    options.add_argument("--addresses", type=int, required=True)
    options.add_argument("--dead", type=int, default=0, help="the first of the addresses")
    options.add_argument("--requests", type=int, default=1)
    options.add_argument("--then-stop", action="store_true", help="while a name is resolved")
    options.add_argument("key")
    options.add_argument("command", nargs="+")
    options = options.parse_args()
    addresses = list(range(11, 11 + options.addresses))
    # The name server is the last of those that are never there.
    Link(options.round_trip, set(addresses[: options.dead]) | {250})
    name_servers([f"10.9.0.{one}" for one in addresses], ["10.9.0.250"])
    server = socketserver.ThreadingTCPServer(("0.0.0.0", SERVICE), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = dict(os.environ, WBG__LISTEN__ADDRESS="%s:%d" % GATEWAY, WBG__ADMIN__ADDRESS="off")
    with tempfile.TemporaryFile() as log:
        gateway = subprocess.Popen(options.command, env=variables, stdout=log, stderr=log)
        try:
            while True:
                try:
                    http.client.HTTPConnection(*GATEWAY, timeout=5).connect()
                    break
                except OSError:
                    assert gateway.poll() is None
                    time.sleep(0.02)
            answers = [ask(options.key) for _ in range(options.requests)]
            result = {"answers": answers}
            if options.then_stop:
                begun = time.monotonic()
                gateway.send_signal(signal.SIGTERM)
                result["exit"] = gateway.wait(60)
                result["seconds"] = time.monotonic() - begun
        finally:
            gateway.kill()
            log.seek(0)
            os.write(2, log.read())
    print(json.dumps(result))


main()
