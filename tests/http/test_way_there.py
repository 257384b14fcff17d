"""The way to an endpoint: proxies, certificates, encodings, redirects, base URLs; and what a user is told of each."""

import asyncio
import base64
import gzip
import json
import os
import socket
import subprocess
import sys
import threading
import tracemalloc
import zlib
from contextlib import ExitStack

import pytest
import zstandard
from way import GZIP, REPLY, Authority, answers, bomb, head_of, raw_deflate, response, serving, socks, tunnel

from ropd_cli.config import EndpointConfig, LimitsConfig
from ropd_cli.errors import InputError, RopdError
from ropd_cli.llm.cache import cache_key
from ropd_cli.llm.chat import endpoint_request
from ropd_cli.llm.client import ChatClient
from ropd_cli.llm.model_list import list_models
from ropd_cli.llm.proxies import proxy_of
from ropd_cli.llm.response_body import REPLY_BYTES
from ropd_cli.llm.retry import RetryPolicy
from ropd_cli.llm.urls import base_url
from ropd_cli.records.schemas import Message

QUESTION = (Message(role="user", content="What is 17 + 25?"),)
PASSWORD = "s3cret-p@ss"
FAR = "http://judge.example/v1"
"""A host that only a proxy finds."""
BOMB = bomb(512 << 20)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates"))


class World:
    """Servers of one case; ``environ`` is what the case sets in the environment."""

    def __init__(self, stack, authority):
        self.stack, self.authority = stack, authority
        self.environ, self.heads, self.socks_hosts, self.endpoint = {}, [], [], {}

    def port(self, handle, host="127.0.0.1"):
        return self.stack.enter_context(serving(handle, host))

    def server(self, data=None, tls=None):
        def script(head):
            self.heads.append(head.decode("latin-1"))
            return response() if data is None else data

        return self.port(answers(script, tls))

    def url(self, data=None):
        return f"http://127.0.0.1:{self.server(data)}/v1"

    def secure(self, *names, **how):
        tls, file = self.authority.tls(*names, **how)
        return self.server(tls=tls), file

    def dead(self):
        taken = self.stack.enter_context(socket.socket())
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        return taken.getsockname()[1]

    def socks(self, scheme, login="", **how):
        port = self.port(socks(self.server(), self.socks_hosts, **how))
        self.environ["ALL_PROXY"] = f"{scheme}://{login}127.0.0.1:{port}"
        return FAR


async def ask(endpoint):
    async with ChatClient.open(endpoint, cache=None, retry=RetryPolicy(max_retries=0), environ={}) as client:
        return await client.complete(endpoint_request(endpoint, QUESTION))


def via(name, make, url=FAR):
    """A case with the variable ``name`` naming what ``make`` returns of the world."""

    def case(world):
        world.environ[name] = make(world)
        return url

    return case


def trusting(world, names, **how):
    """A server with a certificate, and its issuer in ``ca_file``."""
    port, _ = world.secure(*names, **how)
    world.endpoint["ca_file"] = str(world.authority.file)
    return port


def with_certificates_of_the_environment(world):
    world.environ["SSL_CERT_FILE"] = str(world.authority.file)
    return f"https://localhost:{world.secure('localhost')[0]}/v1"


def self_signed(world, *, trusted):
    port, file = world.secure("localhost", self_signed=True)
    if trusted:
        world.endpoint["ca_file"] = str(file)
    return f"https://localhost:{port}/v1"


def behind_a_tunnel(world):
    world.environ["HTTPS_PROXY"] = f"127.0.0.1:{world.port(tunnel(trusting(world, ['judge.example'])))}"
    return "https://judge.example/v1"


def excepted(world):
    world.environ |= {"HTTP_PROXY": f"http://127.0.0.1:{world.dead()}"}
    return world.url()


def with_a_missing_file(world):
    world.endpoint["ca_file"] = "no-such.pem"
    return "https://localhost:1/v1"


def with_a_file_of_something_else(world):
    world.endpoint["ca_file"] = __file__
    return "https://localhost:1/v1"


def with_missing_certificates(world):
    world.environ["SSL_CERT_FILE"] = "/no-such.pem"
    return "https://localhost:1/v1"


def encoded(body, encoding, **more):
    return lambda world: world.url(response(body, Content_Encoding=encoding, **more))


def at_ipv6(world):
    try:
        port = world.port(answers(lambda _head: response()), "::1")
    except OSError:
        pytest.skip("no IPv6 here")
    return f"http://[::1]:{port}/v1"


HTML = b"<html><title>Sign in</title></html>"
LOGIN = f"user:{PASSWORD.replace('@', '%40')}@"
WORKS = {
    "a proxy without a scheme": via("http_proxy", lambda w: f"127.0.0.1:{w.server()}"),
    "a proxy with a password": via("HTTP_PROXY", lambda w: f"http://{LOGIN}127.0.0.1:{w.server()}"),
    "ALL_PROXY": via("all_proxy", lambda w: f"http://127.0.0.1:{w.server()}"),
    "a tunnel": behind_a_tunnel,
    "a dead proxy before a local server": excepted,
    "socks5": lambda w: w.socks("socks5"),
    "socks5h": lambda w: w.socks("socks5h"),
    "socks": lambda w: w.socks("socks"),
    "socks4a": lambda w: w.socks("socks4a"),
    "socks5 with a password": lambda w: w.socks("socks5", LOGIN, password=f"user:{PASSWORD}"),
    "a company's CA": lambda w: f"https://localhost:{trusting(w, ['localhost'])}/v1",
    "SSL_CERT_FILE": with_certificates_of_the_environment,
    "a self-signed certificate that is named": lambda w: self_signed(w, trusted=True),
    "a header of 60 KB": lambda w: w.url(response(X_Policy="p" * 60_000)),
    "gzip": encoded(GZIP, "gzip"),
    "deflate": encoded(zlib.compress(REPLY), "deflate"),
    "deflate without zlib's header": encoded(raw_deflate(REPLY), "deflate"),
    "identity": encoded(REPLY, "identity"),
    "a server on ::1": at_ipv6,
    "the URL of the call": lambda w: w.url() + "/chat/completions",
    "quotes, spaces and slashes": lambda w: f' "{w.url()}//" ',
}


@pytest.fixture
def world(authority, monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)
    with ExitStack() as stack:
        yield World(stack, authority)


def prepared(world, make, monkeypatch):
    url = make(world)
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    limits = LimitsConfig(timeout_s=20, max_pause_s=0)
    return EndpointConfig(model="m", base_url=url, limits=limits, **world.endpoint)


@pytest.mark.parametrize("make", WORKS.values(), ids=WORKS)
async def test_ways_that_work(world, make, monkeypatch):
    endpoint = prepared(world, make, monkeypatch)
    assert (await ask(endpoint)).text == "an answer"
    assert (await list_models(endpoint, {})).names == ("m",)
    if world.socks_hosts:
        assert set(world.socks_hosts) == {"judge.example"}  # the proxy looks the name up
    if world.heads:
        assert all("accept-encoding: gzip, deflate\r" in head.lower() for head in world.heads)
        login = base64.b64encode(f"user:{PASSWORD}".encode()).decode()
        has_login = "@" in world.environ.get("HTTP_PROXY", "")
        assert all((f"Basic {login}" in head) == has_login for head in world.heads)


FAULTS = {
    "a proxy that is away": (
        via("HTTP_PROXY", lambda w: f"http://{LOGIN}127.0.0.1:{w.dead()}"),
        "no connection to the proxy http://127.0.0.1:",
        "variable HTTP_PROXY; NO_PROXY=judge.example",
    ),
    "a proxy that is away, before https": (
        via("https_proxy", lambda w: f"http://127.0.0.1:{w.dead()}", "https://judge.example/v1"),
        "no connection to the proxy http://127.0.0.1:",
        "variable https_proxy",
    ),
    "a proxy that asks for a password": (
        via("HTTP_PROXY", lambda w: f"http://{LOGIN}127.0.0.1:{w.server(response(b'', '407 Denied'))}"),
        "through the proxy http://127.0.0.1:",
        "asks for a user and a password: HTTP_PROXY=",
    ),
    "a tunnel that asks for a password": (
        via(
            "HTTPS_PROXY",
            lambda w: f"http://{LOGIN}127.0.0.1:{w.server(response(b'', '407 Denied'))}",
            "https://judge.example/v1",
        ),
        "asks for a user and a password (status 407)",
        "into HTTPS_PROXY: http://USER:PASSWORD@",
    ),
    "a tunnel that is refused": (
        via(
            "HTTPS_PROXY", lambda w: f"http://127.0.0.1:{w.server(response(b'', '403 No'))}", "https://judge.example/v1"
        ),
        "does not connect to judge.example (status 403)",
        "variable HTTPS_PROXY; NO_PROXY=judge.example",
    ),
    "a proxy's own 503": (
        via("HTTP_PROXY", lambda w: f"http://127.0.0.1:{w.server(response(HTML, '503 Away'))}"),
        "through the proxy http://127.0.0.1:",
        "may be the proxy's (NO_PROXY=judge.example",
    ),
    "no URL of a proxy": (
        via("HTTP_PROXY", lambda _w: f"ftp://{LOGIN}proxy:21"),
        "HTTP_PROXY is 'ftp://proxy:21': not the URL of a proxy",
        "http://proxy.example:3128",
    ),
    "a SOCKS proxy that is away": (
        via("ALL_PROXY", lambda w: f"socks5://{LOGIN}127.0.0.1:{w.dead()}"),
        "no connection to the proxy socks5://127.0.0.1:",
        "variable ALL_PROXY",
    ),
    "a SOCKS proxy that refuses": (
        lambda w: w.socks("socks5", refuse=True),
        "the proxy socks5://127.0.0.1:",
        "variable ALL_PROXY; NO_PROXY=judge.example",
    ),
    "a SOCKS proxy that asks for a password": (
        lambda w: w.socks("socks5", password=f"user:{PASSWORD}"),
        "the proxy socks5://127.0.0.1:",
        "user and password into ALL_PROXY",
    ),
    "a SOCKS proxy and a wrong password": (
        lambda w: w.socks("socks5", LOGIN, password="user:another"),
        "the proxy socks5://127.0.0.1:",
        "user and password into ALL_PROXY",
    ),
    "a company's CA": (
        lambda w: f"https://localhost:{w.secure('localhost')[0]}/v1",
        "of localhost was refused: unable to get local issuer",
        "`ca_file`",
    ),
    "a self-signed certificate": (lambda w: self_signed(w, trusted=False), "self-signed certificate", "SSL_CERT_FILE"),
    "an old certificate": (
        lambda w: f"https://localhost:{trusting(w, ['localhost'], days=-1)}/v1",
        "certificate has expired",
        "renew",
    ),
    "another's certificate": (
        lambda w: f"https://localhost:{trusting(w, ['other.example'])}/v1",
        "not valid for 'localhost'",
        "the name that the certificate is for",
    ),
    "no file of certificates": (with_a_missing_file, "ca_file no-such.pem: No such file", "PEM"),
    "another file": (with_a_file_of_something_else, "holds no certificates in PEM form", "ca_file names a PEM file"),
    "SSL_CERT_FILE names no file": (
        with_missing_certificates,
        "SSL_CERT_FILE /no-such.pem: No such file",
        "SSL_CERT_FILE names",
    ),
    "https to a port of http": (
        lambda w: w.url().replace("http:", "https:"),
        "it seems to speak plain HTTP",
        "try http://127.0.0.1:",
    ),
    "http to a port of https": (
        lambda w: w.url(b"\x15\x03\x01\x00\x02\x02\x46"),
        "that port speaks TLS",
        "try https://127.0.0.1:",
    ),
    "http to nginx's https": (
        lambda w: w.url(response(b"<h1>The plain HTTP request was sent to HTTPS port</h1>", "400 Bad Request")),
        "status 400",
        "try --base-url https://127.0.0.1:",
    ),
    "http to a real TLS server": (lambda w: f"http://localhost:{w.secure('localhost')[0]}/v1", "", "https://"),
    "a header of 100 KB": (lambda w: w.url(response(X_Policy="p" * 100_000)), "headers longer than 64 KB", "gateway"),
    "zstd": (
        encoded(zstandard.compress(REPLY), "zstd"),
        "the encoding 'zstd', which was not asked for",
        "switch that compression off",
    ),
    "br": (encoded(b"\x0b\x02\x80hello\x03", "br"), "the encoding 'br'", "switch that compression off"),
    "half of a gzip": (
        encoded(GZIP[: len(GZIP) // 2], "gzip"),
        "its gzip data end too early",
        "cut the response short",
    ),
    "no gzip": (encoded(REPLY, "gzip"), "calls itself gzip", "compression off"),
    "a 401 in br": (encoded(b"\x0b", "br", status="401 No"), "status 401", "OPENAI_API_KEY"),
    "a gzip bomb": (encoded(BOMB, "gzip"), "larger than 64 MB", "no reply of a model"),
    "a bomb of deflate": (encoded(BOMB, "deflate"), "larger than 64 MB", "no reply of a model"),
    "a length of 80 MB": (lambda w: w.url(response(b" " * (80 << 20))), "larger than 64 MB", "no reply of a model"),
    "a bomb in an error": (encoded(BOMB, "gzip", status="400 No"), "status 400", ""),
    "a 308": (
        lambda w: w.url(response(b"", "308 Moved", Location="https://new.example/v1/chat/completions?sig=s3cret")),
        "(to https://new.example/v1/chat/completions)",
        "give --base-url https://new.example/v1",
    ),
    "a 301 to a path": (
        lambda w: w.url(response(b"", "301 Moved", Location="/api/v1/chat/completions")),
        "/api/v1/chat/completions)",
        "give --base-url http://127.0.0.1:",
    ),
    "a login": (lambda w: w.url(response(b"", "302 Found", Location="/login?next=x")), "/login)", "a login?"),
    "a captive portal": (
        lambda w: w.url(response(HTML, Content_Type="text/html")),
        "not JSON: '<html>",
        "a web page answered",
    ),
    "SSH": (lambda w: w.url(b"SSH-2.0-OpenSSH_9.6\r\n"), "is not HTTP", "port"),
    "a name that nobody knows": (
        lambda _w: "http://judge.invalid/v1",
        "host name judge.invalid is not known",
        "HTTPS_PROXY",
    ),
    "no /v1": (
        lambda w: w.url(response(b'{"detail":"Not Found"}', "404 Not Found")).removesuffix("/v1"),
        "status 404",
        "/v1",
    ),
    "no scheme": (lambda _w: "localhost:8000/v1", "begins with no http:// or https://", "http://localhost:8000/v1"),
    "no scheme, a password": (lambda _w: f"user:{PASSWORD}@host/v1", "not a URL", "http://"),
    "nobody listens on ::1": (lambda w: f"http://[::1]:{w.dead()}/v1", "no connection", "try http://127.0.0.1:"),
    "a proxy with an unknown name": (
        via("HTTP_PROXY", lambda _w: "proxy.invalid:3128"),
        "proxy http://proxy.invalid:3128 (its name is not known)",
        "variable HTTP_PROXY",
    ),
    "a SOCKS proxy with an unknown name": (
        via("ALL_PROXY", lambda _w: "socks5://proxy.invalid"),
        "the proxy socks5://proxy.invalid",
        "variable ALL_PROXY",
    ),
    "nobody listens": (lambda w: f"http://127.0.0.1:{w.dead()}/v1", "no connection", "is the server running"),
}


@pytest.mark.parametrize(("make", "said", "hint"), FAULTS.values(), ids=FAULTS)
async def test_ways_that_fail_and_what_a_user_is_told(world, make, said, hint, monkeypatch):
    endpoint = prepared(world, make, monkeypatch)
    with pytest.raises(RopdError) as caught:
        await ask(endpoint)
    told = caught.value
    assert said in told.message and hint in (told.hint or ""), (told.message, told.hint)
    assert "\n" not in told.message and len(told.message) < 600
    for secret in (PASSWORD, PASSWORD.replace("@", "%40"), "s3cret"):
        assert secret not in f"{told.message} {told.hint}"


async def test_a_bomb_takes_no_more_memory_than_a_reply_may_have(world, monkeypatch):
    endpoint = prepared(world, encoded(BOMB, "gzip"), monkeypatch)
    with pytest.raises(RopdError):  # what is loaded at the first request is not counted
        await ask(endpoint)
    tracemalloc.start()
    try:
        for call in (ask(endpoint), list_models(endpoint, {})):
            try:
                await call
            except RopdError as fault:
                assert "larger than 64 MB" in fault.message
        assert tracemalloc.get_traced_memory()[1] < 2 * REPLY_BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("no_proxy", "url", "goes_through"),
    [
        ("", "http://judge.example/v1", True),
        ("judge.example", "http://judge.example/v1", False),
        (".example", "http://judge.example/v1", False),
        ("judge.example:8000", "http://judge.example:8000/v1", False),
        ("judge.example:8000", "http://judge.example:9000/v1", True),
        ("*", "http://judge.example/v1", False),
        ("10.0.0.0/8, fd00::/8", "http://10.1.2.3:8000/v1", False),
        ("10.0.0.0/8, fd00::/8", "http://[fd00::1]:8000/v1", False),
        ("[fd00::1]", "http://[fd00::1]:8000/v1", False),
        ("10.0.0.0/8", "http://11.1.2.3/v1", True),
        ("", "http://localhost:8000/v1", False),
        ("", "http://127.0.0.2:8000/v1", False),
        ("", "http://[::1]:8000/v1", False),
        ("", "https://judge.example/v1", False),
    ],
)
def test_who_is_asked_through_the_proxy(world, monkeypatch, no_proxy, url, goes_through):
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = proxy_of(url)
    assert (proxy is not None) == goes_through
    assert proxy is None or proxy.url == "http://proxy:3128"


@pytest.mark.parametrize(
    "written",
    [
        "http://h:8000/v1/chat/completions",
        "http://h:8000/v1/chat/completions/",
        "http://h:8000/v1/completions",
        "http://h:8000/v1/responses",
        "http://h:8000/v1/models",
        "http://h:8000/v1//",
        "'http://h:8000/v1'",
        "“http://h:8000/v1” ",
    ],
)
def test_a_url_of_a_call_is_the_base_url_to_the_cache(written):
    endpoints = EndpointConfig(model="m", base_url=written), EndpointConfig(model="m", base_url="http://h:8000/v1")
    assert len({cache_key(base_url(each), endpoint_request(each, QUESTION)) for each in endpoints}) == 1
    trusting = endpoints[0].model_copy(update={"ca_file": "ca.pem"})
    assert cache_key(base_url(trusting), endpoint_request(trusting, QUESTION)) == cache_key(
        base_url(endpoints[1]), endpoint_request(endpoints[1], QUESTION)
    )


@pytest.mark.parametrize(
    "url",
    [
        "https://x.services.ai.azure.com/models",
        "http://responses/v1",
        "http://completions",
        "http://h/v1?next=/v1/models",
        "builtin://checkable",
    ],
)
def test_a_url_that_only_looks_like_a_call_stays(url):
    assert base_url(EndpointConfig(base_url=url)) == url


def test_the_target_uri_of_azure_s_portal():
    url = "https://name.openai.azure.com/openai/deployments/judge/chat/completions?api-version=2024-10-21"
    endpoint = EndpointConfig(model="judge", api="azure", api_version="2024-10-21", base_url=url)
    with pytest.raises(InputError, match="resource alone") as caught:
        base_url(endpoint)
    assert "base_url: https://name.openai.azure.com," in caught.value.hint


def command(tmp_path, environ, *words):
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-m", "ropd_cli", *words],
        cwd=tmp_path,
        env=clean | environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Traceback" not in done.stderr and PASSWORD not in done.stdout + done.stderr
    return done


def test_the_commands_say_the_same(world, tmp_path):
    """One run of each command: a proxy with a password that is away, and a certificate."""
    prompt = {"uid": "p1", "prompt": [{"role": "user", "content": "What is 17 + 25?"}]}
    (tmp_path / "prompts.jsonl").write_text(json.dumps(prompt) + "\n")
    port, _ = world.secure("localhost")
    wanted = ["--out", "a.jsonl", "-m", "1", "--model", "m", "--set", "teacher.limits.max_retries=0"]
    ask_teacher = ["teacher-gen", "prompts.jsonl", *wanted, "--base-url", f"https://localhost:{port}/v1"]
    refused = command(tmp_path, {}, *ask_teacher)
    assert refused.returncode == 4 and "unable to get local issuer" in refused.stderr and "ca_file" in refused.stderr
    (tmp_path / "corp.pem").write_bytes(world.authority.file.read_bytes())
    trusted = command(tmp_path, {}, *ask_teacher, "--set", "teacher.ca_file=corp.pem")
    assert trusted.returncode == 0, trusted.stderr
    away = {"HTTP_PROXY": f"http://{LOGIN}127.0.0.1:{world.dead()}"}
    doctor = command(
        tmp_path, away, "doctor", "--json", "--set", "verifier.model=m", "--set", f"verifier.base_url={FAR}"
    )
    check = next(one for one in json.loads(doctor.stdout)["checks"] if one["name"] == "verifier url")
    assert check["status"] == "fail" and "no connection to the proxy" in check["found"]
    assert "HTTP_PROXY; NO_PROXY=judge.example" in check["mend"]


async def test_a_file_of_results_may_be_larger_than_a_reply(world, tmp_path, monkeypatch):
    from ropd_cli.llm.batch import api

    line = json.dumps({"custom_id": "1", "text": "x" * 1000}).encode() + b"\n"
    packed = gzip.compress(line * (70_000_000 // len(line)), 1)
    endpoint = prepared(world, encoded(packed, "gzip", Content_Type="application/octet-stream"), monkeypatch)
    async with api.BatchApi(endpoint, RetryPolicy(max_retries=0), {}) as batches:
        assert sum([1 async for _ in batches.lines("f", tmp_path / "f")]) == 70_000_000 // len(line)
    monkeypatch.setattr(api, "FILE_BYTES", 1 << 20)
    async with api.BatchApi(endpoint, RetryPolicy(max_retries=0), {}) as batches:
        with pytest.raises(RopdError, match="larger than 1 MB"):
            async for _ in batches.lines("f", tmp_path / "f"):
                pass


@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_the_connection_of_a_reply_without_an_end_is_closed(world, monkeypatch, encoding):
    is_closed = threading.Event()

    def pour(connection):
        head_of(connection)
        connection.sendall(response(b"", length=1 << 40, Content_Encoding=encoding))
        packer = zlib.compressobj(wbits=31)
        try:
            while True:
                connection.sendall(packer.compress(bytes(1 << 20)) if encoding else bytes(1 << 20))
        except OSError:
            is_closed.set()
            raise

    port = world.port(pour)
    endpoint = prepared(world, lambda _world: f"http://127.0.0.1:{port}/v1", monkeypatch)
    with pytest.raises(RopdError, match="larger than 64 MB"):
        await ask(endpoint)
    await asyncio.to_thread(is_closed.wait, 20)
    assert is_closed.is_set()
