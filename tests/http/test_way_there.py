"""What stands between here and an endpoint: proxies, certificates, encodings, redirects, base URLs."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import threading
import zlib

import pytest
import trustme
import zstandard
from servers import Raw, Reply, Status

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.errors import InputError, ProviderRefused, ProviderUnreachable, ReplyInvalid, RopdError
from ropd_cli.llm import http_client
from ropd_cli.llm.cache import cache_key
from ropd_cli.llm.chat import ChatRequest
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.proxy import proxy_of
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.urls import base_url
from ropd_cli.records.schemas import Message

DOCUMENT = b'{"choices": [{"message": {"content": "42"}, "finish_reason": "stop"}]}'
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE")
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(DOCUMENT), DOCUMENT)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    http_client.trusted.cache_clear()


def ask(text="What is 17 + 25?"):
    return ChatRequest(messages=(Message(role="user", content=text),), model="m")


async def reply_of(url, **more):
    endpoint = EndpointConfig(model="m", base_url=url, limits=LimitsConfig(timeout_s=10, connect_timeout_s=2), **more)
    retry = RetryPolicy(max_retries=0)
    async with ChatClient.open(endpoint, cache=None, retry=retry, environ={"OPENAI_API_KEY": "k" * 20}) as client:
        return (await client.complete(ask())).text


@contextlib.contextmanager
def speaking(answer, context=None):
    """A port where each connection gets ``answer(what came)`` after its first bytes; the port and what came."""
    came = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                while data := connection.recv(1 << 16):
                    came.append(data)
                    said = answer(data)
                    if said is None:
                        break
                    connection.sendall(said)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1], came
    finally:
        listener.close()


# ---- proxies


@pytest.mark.parametrize(
    ("url", "environ", "proxy"),
    [
        ("https://api.test/v1", {"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ("https://api.test/v1", {"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ("https://api.test/v1", {"ALL_PROXY": "proxy:3128"}, "http://proxy:3128"),
        ("https://api.test/v1", {"ALL_PROXY": "socks5h://proxy:1080"}, "socks5://proxy:1080"),
        ("https://api.test/v1", {"HTTP_PROXY": "http://proxy:3128"}, None),
        ("https://api.test/v1", {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".test"}, None),
        ("http://localhost:8000/v1", {"HTTP_PROXY": "http://proxy:3128"}, None),
        ("http://127.0.0.1:8000/v1", {"HTTP_PROXY": "http://proxy:3128"}, None),
        ("http://[::1]:8000/v1", {"ALL_PROXY": "http://proxy:3128"}, None),
        ("http://10.0.0.1:8000/v1", {"HTTP_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
    ],
)
def test_which_proxy(monkeypatch, url, environ, proxy):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_of(url) == proxy


@pytest.mark.parametrize("proxy", ["quic://proxy:1", "http://"])
async def test_a_proxy_that_is_none_is_named(monkeypatch, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(InputError, match="of the environment can't be used") as fault:
        await reply_of("http://api.test/v1")
    assert "socks5" in fault.value.hint


@pytest.mark.parametrize("scheme", ["http://", "http://user:s3cret@", ""])
async def test_a_request_goes_through_the_proxy(monkeypatch, scheme):
    with speaking(lambda _: OK) as (port, came):
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}127.0.0.1:{port}")
        assert await reply_of("http://api.test/v1") == "42"
    assert came[0].startswith(b"POST http://api.test/v1/chat/completions ")
    assert (b"Proxy-Authorization: Basic dXNlcjpzM2NyZXQ=" in b"".join(came)) == ("user" in scheme)


async def test_a_request_goes_through_a_socks_proxy(monkeypatch):
    def answer(data):
        if data[:1] == b"\x05":
            return b"\x05\x00" if len(data) == 3 else b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        return OK

    with speaking(answer) as (port, came):
        monkeypatch.setenv("ALL_PROXY", f"socks5://127.0.0.1:{port}")
        assert await reply_of("http://api.test/v1") == "42"
    assert b"api.test" in came[1]  # the proxy looks the name up


REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("url", ["http://api.test/v1", "https://api.test/v1"])
async def test_a_proxy_that_asks_for_a_password_is_named(monkeypatch, url):
    with speaking(lambda _: REFUSED) as (port, _):
        monkeypatch.setenv("ALL_PROXY", f"http://user:s3cret@127.0.0.1:{port}")
        with pytest.raises(RopdError) as fault:
            await reply_of(url)
    assert f"the proxy http://127.0.0.1:{port} asks for a password" in fault.value.message
    assert "HTTPS_PROXY" in fault.value.hint and "s3cret" not in f"{fault.value}{fault.value.hint}"


@pytest.mark.parametrize("scheme", ["http", "socks5"])
@pytest.mark.parametrize("url", ["http://api.test/v1", "https://api.test/v1"])
async def test_a_proxy_that_is_away_is_named(monkeypatch, url, scheme):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://user:s3cret@127.0.0.1:{port}")
    with pytest.raises(ProviderUnreachable) as fault:
        await reply_of(url)
    assert f"through the proxy {scheme}://127.0.0.1:{port}" in fault.value.message
    assert "NO_PROXY" in fault.value.hint and "s3cret" not in f"{fault.value}{fault.value.hint}"


# ---- certificates


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def served_by(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


async def test_a_certificate_of_a_company_is_trusted_by_ca_file(authority, tmp_path, monkeypatch):
    file = tmp_path / "company.pem"
    authority.cert_pem.write_to_path(str(file))
    with speaking(lambda _: OK, served_by(authority, "127.0.0.1")) as (port, _):
        assert await reply_of(f"https://127.0.0.1:{port}/v1", ca_file=str(file)) == "42"
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        http_client.trusted.cache_clear()
        assert await reply_of(f"https://127.0.0.1:{port}/v1") == "42"


@pytest.mark.parametrize(
    ("names", "said"),
    [(["127.0.0.1"], "unable to get local issuer|self.signed"), (["other.test"], "mismatch|doesn't match|not valid")],
)
async def test_a_certificate_that_is_not_trusted_is_named(authority, tmp_path, names, said):
    file = tmp_path / "company.pem"
    authority.cert_pem.write_to_path(str(file))
    more = {} if names == ["127.0.0.1"] else {"ca_file": str(file)}
    refused = pytest.raises(ProviderUnreachable, match=f"certificate: .*({said})")
    with speaking(lambda _: OK, served_by(authority, *names)) as (port, _), refused as fault:
        await reply_of(f"https://127.0.0.1:{port}/v1", **more)
    assert "ca_file" in fault.value.hint and "SSL_CERT_FILE" in fault.value.hint


@pytest.mark.parametrize("name", ["ca_file", "SSL_CERT_FILE"])
async def test_certificates_that_are_none_are_named(tmp_path, monkeypatch, name):
    for file in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        if file.name == "empty.pem":
            file.write_text("no certificate")
        more = {"ca_file": str(file)} if name == "ca_file" else {}
        if not more:
            monkeypatch.setenv("SSL_CERT_FILE", str(file))
        with pytest.raises(InputError, match=f"{name} .*{file.name}: no certificates in PEM"):
            await reply_of("https://127.0.0.1:9/v1", **more)


async def test_https_to_a_port_that_speaks_http(server):
    with pytest.raises(ProviderUnreachable, match="TLS: ") as fault:
        await reply_of(server.url.replace("http", "https"))
    assert "write http://" in fault.value.hint


async def test_http_to_a_port_that_speaks_something_else():
    refused = pytest.raises(ProviderUnreachable, match="no HTTP")
    with speaking(lambda _: b"SSH-2.0-OpenSSH_9.6\r\n") as (port, _), refused as fault:
        await reply_of(f"http://127.0.0.1:{port}/v1")
    assert "http or https" in fault.value.hint


async def test_a_host_that_is_not_known():
    with pytest.raises(ProviderUnreachable) as fault:
        await reply_of("http://no-such-host.invalid/v1")
    assert "no-such-host.invalid" in fault.value.message and "no such host" in fault.value.hint


# ---- bodies and headers


def encoded(data, encoding):
    return Raw(data, headers={"Content-Encoding": encoding})


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes), ("GZIP", gzip.compress)],
)
async def test_encoded_bodies_are_read(server, encoding, encode):
    server.default = encoded(encode(DOCUMENT), encoding)
    assert await reply_of(server.url) == "42"
    assert server.requests[0].headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (encoded(zstandard.compress(DOCUMENT), "zstd"), "encoded with 'zstd', which was not asked for"),
        (encoded(b"\x1b\x00", "br"), "encoded with 'br'"),
        (encoded(DOCUMENT, "gzip"), "can't be decoded as gzip"),
        (Status(500, body=zstandard.compress(b"{}"), headers={"Content-Encoding": "zstd"}), "encoded with 'zstd'"),
    ],
)
async def test_an_encoding_that_can_not_be_read_is_named(server, step, said):
    server.default = step
    with pytest.raises(ReplyInvalid, match=said):
        await reply_of(server.url)
    assert len(server.requests) == 1


async def test_a_gzip_body_that_breaks_off_is_lost(server):
    server.default = encoded(gzip.compress(DOCUMENT)[:-12], "gzip")
    with pytest.raises(ProviderUnreachable, match="broke off"):
        await reply_of(server.url)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("kind", ["plain", "bomb"])
async def test_a_response_that_is_too_large_is_named(server, monkeypatch, status, kind):
    monkeypatch.setattr(http_client, "LARGEST_RESPONSE", 1 << 20)
    data = b" " * (3 << 20)
    headers = {"Content-Encoding": "gzip"} if kind == "bomb" else {}
    body = gzip.compress(data) if kind == "bomb" else data
    server.default = Raw(body, headers=headers) if status == 200 else Status(status, body=body, headers=headers)
    with pytest.raises(ReplyInvalid, match="larger than 1 MB"):
        await reply_of(server.url)


async def test_long_headers_are_read(server):
    server.default = Reply("42", headers={"X-Long": "x" * 40_000})
    assert await reply_of(server.url) == "42"


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_a_redirect_names_the_base_url_to_take(server, code):
    server.default = Status(code, headers={"Location": "https://other.test/v1/chat/completions"})
    with pytest.raises(ProviderRefused, match="to https://other.test/v1/chat/completions") as fault:
        await reply_of(server.url)
    assert fault.value.hint.endswith("--base-url: https://other.test/v1")


async def test_a_page_in_the_place_of_a_reply_is_quoted(server):
    server.default = Raw(b"<html><title>Sign in to the network</title></html>")
    with pytest.raises(ReplyInvalid, match="not JSON: .*Sign in to the network"):
        await reply_of(server.url)


# ---- base URLs


@pytest.mark.parametrize(
    "end", ["", "/", "/chat/completions", "/chat/completions/", "/completions", "/responses", "/models"]
)
async def test_a_path_at_the_end_of_a_base_url_is_left_out(server, end):
    assert await reply_of(server.url + end) == "hello"
    assert server.requests[0].path == "/v1/chat/completions"
    given, plain = (EndpointConfig(model="m", base_url=url) for url in (server.url + end, server.url))
    assert cache_key(base_url(given), ask()) == cache_key(base_url(plain), ask())


@pytest.mark.parametrize("url", ["localhost:8000/v1", '"http://localhost:8000/v1"', "htp://localhost/v1"])
async def test_a_base_url_that_is_none_says_how_one_looks(url):
    with pytest.raises(InputError, match="not a URL") as fault:
        await reply_of(url)
    assert "http://localhost:8000/v1" in fault.value.hint


async def test_cancelling_leaves_no_task(server):
    before = asyncio.all_tasks()
    await reply_of(server.url)
    assert asyncio.all_tasks() == before
