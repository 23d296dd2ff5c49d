"""A disk that stops, and on it a process: run as `unshare -rm python3 stops.py FOLDER PID -- COMMAND`.

A file system in user space (the kernel's FUSE protocol, without a library) is mounted at FOLDER, in a
name space of its own, and COMMAND takes the place of this program. What serves the file system is
another process, whose number is written into the file PID: with SIGSTOP it takes nothing more from the
kernel, whose waiting threads can still be killed; with SIGUSR1 it takes everything and answers nothing,
and the kernel holds whoever waits. It ends with COMMAND.
"""

import ctypes, errno, os, signal, stat, struct, sys, time

LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, OPEN, READ, WRITE, STATFS = 1, 2, 3, 4, 10, 14, 15, 16, 17
RELEASE, FSYNC, FLUSH, INIT, OPENDIR, RELEASEDIR, FSYNCDIR, ACCESS = 18, 20, 25, 26, 27, 29, 30, 34
CREATE, INTERRUPT, BATCH_FORGET = 35, 36, 42
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)
NOTHING = (RELEASE, FSYNC, FLUSH, RELEASEDIR, FSYNCDIR, ACCESS)
ROOT, BLOCK, MOST = 1, 4096, 128 * 1024
libc = ctypes.CDLL(None, use_errno=True)


class Disk:
    """Files of one folder, in memory."""

    def __init__(self):
        self.names, self.files = {}, {}

    def attributes(self, node):
        size = len(self.files.get(node, b""))
        kind = stat.S_IFDIR | 0o700 if node == ROOT else stat.S_IFREG | 0o600
        blocks, now = -(-size // 512), int(time.time())
        return struct.pack("=6Q10I", node, size, blocks, now, now, now, 0, 0, 0, kind, 1, 0, 0, 0, BLOCK, 0)

    def entry(self, node):
        # Nothing is remembered by the kernel: it asks each time.
        return struct.pack("=4Q2I", node, 0, 0, 0, 0, 0) + self.attributes(node)

    def node(self, name, make):
        if name not in self.names:
            if not make:
                raise OSError(errno.ENOENT, name)
            self.names[name] = ROOT + 1 + len(self.files)
            self.files[self.names[name]] = bytearray()
        return self.names[name]

    def answer(self, operation, node, rest):
        name = rest.split(b"\0")[0]
        if operation == INIT:
            _, minor, ahead, _ = struct.unpack_from("=4I", rest)
            return struct.pack("=4I2H2I2H8I", 7, min(minor, 31), ahead, 0, 8, 6, MOST, 1, 0, 0, *[0] * 8)
        if operation == LOOKUP:
            return self.entry(self.node(name, False))
        if operation == GETATTR:
            return struct.pack("=Q2I", 0, 0, 0) + self.attributes(node)
        if operation == SETATTR:
            valid, size = struct.unpack_from("=I", rest)[0], struct.unpack_from("=Q", rest, 16)[0]
            if valid & 8:
                del self.files[node][size:]
                self.files[node].extend(bytes(size - len(self.files[node])))
            return struct.pack("=Q2I", 0, 0, 0) + self.attributes(node)
        if operation in (OPEN, OPENDIR):
            return struct.pack("=Q2I", 0, 0, 0)
        if operation == CREATE:
            made = self.node(rest[16:].split(b"\0")[0], True)
            return self.entry(made) + struct.pack("=Q2I", 0, 0, 0)
        if operation == UNLINK:
            self.names.pop(name)
            return b""
        if operation == READ:
            _, offset, size = struct.unpack_from("=2QI", rest)
            return bytes(self.files[node][offset : offset + size])
        if operation == WRITE:
            _, offset, size = struct.unpack_from("=2QI", rest)
            file = self.files[node]
            file.extend(bytes(max(0, offset - len(file))))
            file[offset : offset + size] = rest[40 : 40 + size]
            return struct.pack("=2I", size, 0)
        if operation == STATFS:
            return struct.pack("=5Q4I24x", 1 << 20, 1 << 20, 1 << 20, 99, 99, BLOCK, 255, BLOCK, 0)
        if operation in NOTHING:
            return b""
        raise OSError(errno.ENOSYS, str(operation))

    def serve(self, device, ready):
        held = []
        signal.signal(signal.SIGUSR1, lambda *_: held.append(True))
        os.close(ready)
        while True:
            request = os.read(device, MOST + 4096)
            _, operation, unique, node = struct.unpack_from("=2I2Q", request)
            if held or operation in SILENT:
                continue
            try:
                error, body = 0, self.answer(operation, node, request[40:])
            except OSError as why:
                error, body = -why.errno, b""
            os.write(device, struct.pack("=IiQ", 16 + len(body), error, unique) + body)


def main():
    folder, pid, rest, command = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
    assert rest == "--" and command
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    nosuid_nodev = 6
    if libc.mount(b"stops", os.fsencode(folder), b"fuse", nosuid_nodev, options):
        raise OSError(ctypes.get_errno(), "mount")
    waits, ready = os.pipe()
    server = os.fork()
    if server == 0:
        # PR_SET_PDEATHSIG: it ends with its parent.
        libc.prctl(1, signal.SIGKILL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for output in (0, 1, 2):
            os.dup2(nothing, output)
        Disk().serve(device, ready)
    # A signal that came before the server waits for it would end it.
    os.close(ready)
    os.read(waits, 1)
    os.close(waits)
    os.close(device)
    with open(pid, "w") as file:
        file.write(str(server))
    os.execv(command[0], command)


main()
