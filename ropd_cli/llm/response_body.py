"""Bodies of responses: decoded in pieces, up to a limit, so that no reply fills the memory."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterator

import httpx2

ACCEPTED = "gzip, deflate"
"""What is asked for, and so what is decoded."""
REPLY_BYTES = 64 << 20
_ERROR_BYTES = 1 << 20
"""So much of an error page is read; more of it says no more."""
_PIECE_BYTES = 1 << 20


class UnusableBody(httpx2.DecodingError):
    """A body that can't be read; ``lasting`` where the next one will be no better."""

    def __init__(self, text: str, hint: str, *, lasting: bool) -> None:
        super().__init__(text)
        self.hint, self.lasting = hint, lasting


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Sends requests through another transport; the bodies of its responses come decoded and are never larger than
    ``largest``."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, largest: int) -> None:
        self._inner, self._largest = inner, largest

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        encoding, size = "", None
        for name, value in response.headers.raw:  # the mapping's own look-up takes far longer
            match name.lower():
                case b"content-encoding":
                    encoding = value.decode("latin-1").strip().lower()
                case b"content-length":
                    size = int(value) if value.isdigit() else None
        if encoding in ("", "identity"):
            if size is not None and size <= (self._largest if response.status_code < 300 else _ERROR_BYTES):
                return response  # the most frequent case: nothing to decode, and no more than its length can come
        else:
            del response.headers["content-encoding"]  # else httpx2 decodes too, without a limit
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Body(response.stream, encoding, self._largest, is_error=response.status_code >= 300)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: httpx2.AsyncByteStream, encoding: str, largest: int, *, is_error: bool) -> None:
        self._stream, self._encoding = stream, encoding
        self._largest = _ERROR_BYTES if is_error else largest
        self._is_error = is_error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self._largest
        try:
            decoder = _decoder(self._encoding)
            async for data in self._stream:
                for piece in [data] if decoder is None else decoder.pieces(data):
                    left -= len(piece)
                    if left < 0:
                        raise UnusableBody(
                            f"the response is larger than {self._largest >> 20} MB",
                            "that is no reply of a model; is --base-url right, and what does the server send?",
                            lasting=True,
                        )
                    yield piece
            if decoder is not None:
                decoder.finish()
        except UnusableBody as fault:
            if not self._is_error:
                raise
            yield f" ({fault})".encode()  # the status says more than this body

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Inflate:
    """A decoder of gzip or deflate."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._zlib = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, by what stands there
        self._begun = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        while True:
            piece = self._decompressed(data)
            if not piece:
                return
            yield piece
            data = self._zlib.unconsumed_tail

    def _decompressed(self, data: bytes) -> bytes:
        is_first, self._begun = not self._begun, True
        try:
            return self._zlib.decompress(data, _PIECE_BYTES)
        except zlib.error as fault:
            if is_first and self._encoding == "deflate":  # many servers leave zlib's header out
                self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
                return self._decompressed(data)
            raise UnusableBody(
                f"the response calls itself {self._encoding} and can't be decoded as that ({fault})",
                "switch the compression off in the server, or in the proxy or gateway before it",
                lasting=False,
            ) from fault

    def finish(self) -> None:
        if self._begun and not self._zlib.eof:
            raise UnusableBody(
                f"the response broke off: its {self._encoding} data end too early",
                "the server, or a proxy or gateway before it, cut the response short: see its log",
                lasting=False,
            )


def _decoder(encoding: str) -> _Inflate | None:
    """Return what decodes an encoding; None for none. Raises UnusableBody for one that was not asked for."""
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip", "deflate"):
        return _Inflate(encoding)
    raise UnusableBody(
        f"the response has the encoding {encoding[:40]!r}, which was not asked for ({ACCEPTED} was)",
        "switch that compression off in the server, or in the proxy or gateway before it",
        lasting=True,
    )
