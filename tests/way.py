"""What stands between a client and its endpoint, on loopback: certificates, TLS servers, proxies, scripted sockets.

A script is a function from the request's head to the bytes that are sent back before the connection is closed.
"""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import json
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPLY = json.dumps(
    {
        "object": "list",
        "data": [{"id": "m"}],
        "model": "m",
        "choices": [{"message": {"content": "an answer"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
).encode()
Script = Callable[[bytes], bytes]


def response(body: bytes = REPLY, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """Return the bytes of a response; underscores in the names of headers are dashes."""
    given = {"Content-Type": "application/json", "Content-Length": str(len(body) if length is None else length)}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"HTTP/1.1 {status}\r\n{lines}Connection: close\r\n\r\n".encode() + body


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def bomb(size: int) -> bytes:
    """Return gzip of so many zeros, made without ever holding them."""
    packer = zlib.compressobj(9, wbits=31)
    piece = bytes(1 << 20)
    return b"".join(packer.compress(piece) for _ in range(size >> 20)) + packer.flush()


@contextmanager
def serving(handle: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[int]:
    """Serve connections, each in a thread; yields the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)

    def one(connection: socket.socket) -> None:
        try:
            with connection:
                connection.settimeout(20)
                handle(connection)
        except OSError:
            pass  # the other side went away, or does not trust our certificate

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def head_of(connection: socket.socket) -> bytes:
    """Return a request's head, at its end or where it is TLS; its body is read too."""
    data = b""
    while b"\r\n\r\n" not in data and not data.startswith(b"\x16") and (piece := connection.recv(65536)):
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    wanted = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < wanted and (piece := connection.recv(65536)):
        body += piece
    return head


def answers(script: Script, tls: ssl.SSLContext | None = None) -> Callable[[socket.socket], None]:
    """Return a server of one request per connection."""

    def handle(connection: socket.socket) -> None:
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True)
        connection.sendall(script(head_of(connection)))
        connection.close()

    return handle


def relayed(connection: socket.socket, port: int) -> None:
    """Carry bytes both ways between a client and a port here."""
    with socket.create_connection(("127.0.0.1", port)) as server:

        def back() -> None:
            try:
                while piece := server.recv(65536):
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        thread = threading.Thread(target=back, daemon=True)
        thread.start()
        while piece := connection.recv(65536):
            server.sendall(piece)
        thread.join(20)


def tunnel(port: int) -> Callable[[socket.socket], None]:
    """Return an HTTP proxy that connects (CONNECT) to a port here, whatever name it is given."""

    def handle(connection: socket.socket) -> None:
        assert head_of(connection).startswith(b"CONNECT")
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relayed(connection, port)

    return handle


def socks(port: int, seen: list[str], password: str = "", refuse: bool = False) -> Callable[[socket.socket], None]:
    """Return a SOCKS proxy (4, 4a and 5) that connects to a port here; ``seen`` gets the hosts that it was given."""

    def until_zero(connection: socket.socket) -> bytes:
        text = b""
        while (byte := connection.recv(1)) not in (b"\0", b""):
            text += byte
        return text

    def handle(connection: socket.socket) -> None:
        if connection.recv(1) == b"\x04":
            request = connection.recv(7, socket.MSG_WAITALL)
            until_zero(connection)
            address = request[3:7]
            is_name = address[:3] == b"\0\0\0"
            seen.append(until_zero(connection).decode() if is_name else socket.inet_ntoa(address))
            connection.sendall(bytes([0, 91 if refuse else 90]) + bytes(6))
        else:
            methods = connection.recv(connection.recv(1)[0], socket.MSG_WAITALL)
            if password and 2 not in methods:
                connection.sendall(b"\x05\xff")
                return
            connection.sendall(b"\x05\x02" if password else b"\x05\x00")
            if password:
                user = connection.recv(connection.recv(2, socket.MSG_WAITALL)[1], socket.MSG_WAITALL)
                given = connection.recv(connection.recv(1)[0], socket.MSG_WAITALL)
                is_right = (user + b":" + given).decode() == password
                connection.sendall(b"\x01\x00" if is_right else b"\x01\x01")
                if not is_right:
                    return
            kind = connection.recv(4, socket.MSG_WAITALL)[3]
            if kind == 3:
                seen.append(connection.recv(connection.recv(1)[0], socket.MSG_WAITALL).decode())
            else:
                size = 4 if kind == 1 else 16
                seen.append(str(ipaddress.ip_address(connection.recv(size, socket.MSG_WAITALL))))
            connection.recv(2, socket.MSG_WAITALL)
            connection.sendall(bytes([5, 2 if refuse else 0, 0, 1]) + bytes(6))
        if not refuse:
            relayed(connection, port)

    return handle


class Authority:
    """A company's CA, and the certificates that it gives out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Corp CA")])
        self.file = folder / "ca.pem"
        made = self._made(self._name, self._key, 365).add_extension(x509.BasicConstraints(True, None), True)
        self.file.write_bytes(self._pem(made))

    def tls(self, *names: str, days: int = 30, self_signed: bool = False) -> tuple[ssl.SSLContext, Path]:
        """Return (a server's TLS with a certificate for names, that certificate's file)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        kinds = [
            x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name) for name in names
        ]
        made = self._made(subject, key, days, issuer=subject if self_signed else self._name)
        made = made.add_extension(x509.SubjectAlternativeName(kinds), False)
        stem = self._folder / f"{names[0]}-{days}-{self_signed}"
        certificate, private = stem.with_suffix(".pem"), stem.with_suffix(".key")
        certificate.write_bytes(self._pem(made, key if self_signed else None))
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, private)
        return context, certificate

    def _made(self, subject, key, days, issuer=None) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=400))
            .not_valid_after(now + datetime.timedelta(days=days))
        )

    def _pem(self, made: x509.CertificateBuilder, key=None) -> bytes:
        return made.sign(key or self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


GZIP = gzip.compress(REPLY)
