"""A network of its own with a long link: run as `unshare -rnm python3 world.py OPTIONS`.

A tun device leads to addresses 10.9.0.X, each of which is this machine at the other end of a link of
the given round trip: packets are kept for half of it and come back with their addresses changed.
Addresses that are dead get nothing back, name servers included. In it runs a gateway, which is asked,
or stopped while the resolver hangs; what came of it is printed as JSON.
"""

import argparse, fcntl, heapq, http.client, http.server, json, os, signal, socketserver, struct
import subprocess, tempfile, threading, time

GATEWAY, SERVICE = ("127.0.0.1", 18080), 8099


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def turned(packet, dead):
    """The packet as it arrives at the other end; None where it is lost."""
    if packet[0] >> 4 != 4 or packet[9] != 6 or packet[16:18] != bytes([10, 9]):
        return None
    side, host = packet[18], packet[19]
    if host in dead:
        return None
    length = (packet[0] & 15) * 4
    head, body = bytearray(packet[:length]), bytearray(packet[length:])
    head[12:16] = bytes([10, 9, 9 - side, host])
    head[16:20] = bytes([10, 9, 0, 1])
    head[10:12] = b"\0\0"
    head[10:12] = struct.pack("!H", checksum(bytes(head)))
    body[16:18] = b"\0\0"
    pseudo = bytes(head[12:20]) + struct.pack("!BBH", 0, 6, len(body))
    body[16:18] = struct.pack("!H", checksum(pseudo + bytes(body)))
    return bytes(head + body)


def link(round_trip, dead):
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH", b"link0", 0x1001))
    for words in ("link set lo up", "addr add 10.9.0.1/16 dev link0", "link set link0 up"):
        subprocess.run(["ip", *words.split()], check=True)
    waiting, changed = [], threading.Condition()

    def read():
        while True:
            packet = turned(os.read(tun, 65535), dead)
            if packet:
                with changed:
                    heapq.heappush(waiting, (time.monotonic() + round_trip / 2, packet))
                    changed.notify()

    def write():
        while True:
            with changed:
                while not waiting or waiting[0][0] > time.monotonic():
                    changed.wait(waiting[0][0] - time.monotonic() if waiting else None)
                packet = heapq.heappop(waiting)[1]
            os.write(tun, packet)

    for work in (read, write):
        threading.Thread(target=work, daemon=True).start()


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
    link(options.round_trip, set(addresses[: options.dead]) | {250})
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
