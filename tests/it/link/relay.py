"""A long link, in a network of its own (`unshare -rnm`).

A tun device leads to addresses 10.9.0.X, each of which is this machine at the other end of a link of
the given round trip: packets are kept for half of it and come back with their addresses changed, from
10.9.9.X. As a program it goes by lines of its standard input, and answers each with `done`:

    round-trip SECONDS    from now on
    loss PART             so many of the packets are lost from now on
    forget X              connections to 10.9.0.X that there are get nothing through any more; new ones do
"""

import argparse, fcntl, heapq, os, random, struct, subprocess, sys, threading, time


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def turned(packet):
    """The packet as it arrives at the other end."""
    side, host = packet[18], packet[19]
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


class Link:
    def __init__(self, round_trip, dead=()):
        self.round_trip, self.dead, self.loss = round_trip, set(dead), 0.0
        self.connections, self.forgotten = set(), set()
        self.tun = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self.tun, 0x400454CA, struct.pack("16sH", b"link0", 0x1001))
        for words in ("link set lo up", "addr add 10.9.0.1/16 dev link0", "link set link0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        self.waiting, self.changed = [], threading.Condition()
        for work in (self.read, self.write):
            threading.Thread(target=work, daemon=True).start()

    def passes(self, packet):
        """Whether it is TCP to an address of the link that is not dead, on a connection that is not."""
        if packet[0] >> 4 != 4 or packet[9] != 6 or packet[16:18] != bytes([10, 9]):
            return False
        host, ports = packet[19], (packet[0] & 15) * 4
        # By the address and the two ports, whichever way it goes.
        connection = (host, frozenset((packet[ports : ports + 2], packet[ports + 2 : ports + 4])))
        if packet[ports + 13] & 0x12 == 0x02:
            # A new one (SYN) may have the ports of an old one.
            self.forgotten.discard(connection)
        self.connections.add(connection)
        there = host not in self.dead and connection not in self.forgotten
        return there and random.random() >= self.loss

    def forget(self, host):
        self.forgotten.update(one for one in list(self.connections) if one[0] == host)
        self.connections.clear()

    def read(self):
        while True:
            packet = os.read(self.tun, 65535)
            if self.passes(packet):
                with self.changed:
                    heapq.heappush(self.waiting, (time.monotonic() + self.round_trip / 2, turned(packet)))
                    self.changed.notify()

    def write(self):
        while True:
            with self.changed:
                while not self.waiting or self.waiting[0][0] > time.monotonic():
                    self.changed.wait(self.waiting[0][0] - time.monotonic() if self.waiting else None)
                packet = heapq.heappop(self.waiting)[1]
            os.write(self.tun, packet)


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--round-trip", type=float, required=True)
    link = Link(options.parse_args().round_trip)
    print("ready", flush=True)
    for line in sys.stdin:
        word, value = line.split()
        if word == "round-trip":
            link.round_trip = float(value)
        elif word == "loss":
            link.loss = float(value)
        elif word == "forget":
            link.forget(int(value))
        print("done", flush=True)


if __name__ == "__main__":
    main()
