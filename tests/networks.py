"""Hosts as network namespaces, each with a link of its own to this one that can be cut."""

import contextlib
import ctypes
import os
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

NETWORK = 0x40000000  # CLONE_NEWNET
SUBNET = "198.18.0.0/15"  # kept free for measuring networks


@dataclass(frozen=True)
class Host:
    """Attributes:
    namespace: empty for this host itself.
    server: this host's address as that one sees it.
    link: this host's end of the wire.
    """

    namespace: str = ""
    server: str = "127.0.0.1"
    link: str = ""

    def enter(self) -> None:
        """Move the calling thread, and those that it starts, into that host's network."""
        if not self.namespace:
            return
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.namespace}") as file:
            if libc.setns(file.fileno(), NETWORK):
                raise OSError(ctypes.get_errno(), f"cannot enter {self.namespace}")

    def cut(self) -> None:
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        _ip("link", "set", self.link, "up")


@contextlib.contextmanager
def hosts(count: int) -> Iterator[tuple[tuple[Host, ...], str]]:
    """So many of them and nothing, or this one as often and why namespaces are not to be had."""
    mark, made = secrets.token_hex(3), []
    with contextlib.ExitStack() as stack:
        try:
            for i in range(count):
                made.append(_make(stack, f"eg{mark}{i}", int(mark[:4], 16) * 4 + 0x10000 * i))
        except (OSError, subprocess.CalledProcessError) as error:
            said = str(getattr(error, "stderr", None) or error).strip()
            yield (Host(),) * count, f"no network namespaces here: {said}"
            return
        yield tuple(made), ""


def _make(stack: contextlib.ExitStack, name: str, offset: int) -> Host:
    place = offset % 0x20000
    ours, theirs = (
        f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in (place + 1, place + 2)
    )
    _ip("netns", "add", name)
    stack.callback(_ip, "netns", "del", name)  # its wire goes with it
    _ip("link", "add", f"{name}h", "type", "veth", "peer", "name", "wire", "netns", name)
    _ip("addr", "add", f"{ours}/30", "dev", f"{name}h")
    _ip("-n", name, "addr", "add", f"{theirs}/30", "dev", "wire")
    _ip("-n", name, "link", "set", "lo", "up")
    _ip("-n", name, "link", "set", "wire", "up")
    _ip("link", "set", f"{name}h", "up")
    return Host(name, ours, f"{name}h")


def _ip(*arguments: str) -> None:
    if os.getuid() != 0:
        raise PermissionError("they take root")
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
