"""Capture the vectors of this directory from HTCondor's own programs.

    python tests/vectors/capture.py [DIRECTORY]

Captures whatever can be captured here: with the daemons and tools on PATH, all
kinds; with the ``htcondor2`` bindings alone, CONNECT messages. Each kind goes to
``<kind>-<HTCondor version>.json``; ``-bindings`` is added in the second case.
Nothing of ``vine_sharedport`` is imported: the vectors are there to judge it.

Everything listens on loopback, on the ports below. To keep the machine's name
out of the files, run it where the host name is ``ap.example.org`` and the ports
are free, for example under ``bwrap --unshare-net --unshare-uts --hostname
ap.example.org`` with that name in ``/etc/hosts``.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

SHARED_PORT = 9618
RECORDER = 9619
SOCK_ID = "vine_42"
ADDRESS = f"<127.0.0.1:{RECORDER}?sock={SOCK_ID}>"

BINDINGS = """
import sys, classad2, htcondor2
kind, address = sys.argv[1:]
ad = classad2.ClassAd({"MyAddress": address, "Name": "ap.example.org", "MyType": "Scheduler",
                       "CondorVersion": htcondor2.version()})
if kind == "Schedd.query": htcondor2.Schedd(ad).query()
elif kind == "Collector.query": htcondor2.Collector(address).query()
elif kind == "ping": htcondor2.ping(ad, "READ")
"""

# One message of several frames: the ad is longer than the 4 KiB that HTCondor buffers.
LONG_AD = 'MyType = "Generic"\nName = "ap.example.org"\n' + "".join(
    f'Text{n:02} = "{chr(97 + n) * 500}"\n' for n in range(9)
)

COMMON = """
LIBEXEC = {libexec}
LOCAL_DIR = {dir}
LOG = {dir}
LOCK = {dir}
RUN = {dir}
SPOOL = {dir}/spool
EXECUTE = {dir}/spool
DAEMON_SOCKET_DIR = {dir}/sock
NETWORK_INTERFACE = lo
BIND_ALL_INTERFACES = False
ALLOW_READ = *
ALLOW_WRITE = *
ALLOW_DAEMON = *
SHARED_PORT_PORT = {port}
COLLECTOR_HOST = 127.0.0.1:1
USE_SHARED_PORT = True
SEC_FS_ENFORCE_CHANNEL_BINDING = False
"""

# Name of the case and the configuration on top of COMMON. Loopback stands for every
# network; 192.0.2.7 is a documentation address and is only printed.
FORWARDED = "TCP_FORWARDING_HOST = 192.0.2.7\n"
PRIVATE = FORWARDED + (
    "HOST_ALIAS = ap.example.org\n"
    "PRIVATE_NETWORK_NAME = cluster.example.org\n"
    "PRIVATE_NETWORK_INTERFACE = 127.0.0.1\n"
)
IPV4 = "ENABLE_IPV6 = False\n"
BROKER = f"127.0.0.1:{SHARED_PORT}?sock=collector"
SECOND_BROKER = "127.0.0.1:9620"
CCB = "CCB_ADDRESS = "
ADDRESS_CASES = [
    ("plain", IPV4),
    ("dual stack", ""),
    ("IPv6 only", "ENABLE_IPV4 = False\nNETWORK_INTERFACE = ::1\n"),
    ("TCP_FORWARDING_HOST", IPV4 + FORWARDED),
    ("TCP_FORWARDING_HOST, dual stack", FORWARDED),
    ("private network", IPV4 + PRIVATE),
    ("private network, dual stack", PRIVATE),
    ("CCB", IPV4 + CCB + BROKER),
    ("CCB, two brokers", IPV4 + CCB + f"{BROKER}, {SECOND_BROKER}"),
    ("CCB, private network", IPV4 + PRIVATE + CCB + BROKER),
]


def config_val(name: str) -> str:
    """Return a configuration value."""
    return subprocess.run(
        ["condor_config_val", name], check=True, capture_output=True, text=True
    ).stdout.strip()


# Asked before CONDOR_CONFIG points to a configuration of ours.
LIBEXEC = config_val("LIBEXEC") if shutil.which("condor_config_val") else ""

# --- the pieces -----------------------------------------------------------------------


@contextlib.contextmanager
def configured(extra: str = "", port: int = SHARED_PORT):
    """Let what starts in the block run with a fresh configuration; gives its directory."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="v", dir="/tmp"))
    for name in ("sock", "spool"):
        (directory / name).mkdir()
    text = (COMMON + extra).replace("{dir}", str(directory)).replace("{port}", str(port))
    text = text.replace("{libexec}", LIBEXEC)
    (directory / "config").write_text(text + "\n")
    before = os.environ.get("CONDOR_CONFIG", "")
    os.environ["CONDOR_CONFIG"] = str(directory / "config")
    try:
        yield directory
    finally:
        os.environ["CONDOR_CONFIG"] = before
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def daemon(*command: str):
    """Run a daemon until the block ends."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGQUIT)  # HTCondor's "fast shutdown"
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition, seconds: float = 30.0):
    """Return once the condition holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.05)
    raise SystemExit(f"gave up waiting for {condition}")


def record(command: list[str], *, seconds: float = 20.0) -> bytes:
    """Return what the command sends to RECORDER until it waits for us."""
    with socket.create_server(("127.0.0.1", RECORDER)) as listener:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            listener.settimeout(0.2)
            end = time.monotonic() + seconds
            while True:
                try:
                    connection, _ = listener.accept()
                    break
                except TimeoutError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise
            with connection:
                connection.settimeout(1.0)
                data = b""
                with contextlib.suppress(TimeoutError):
                    while more := connection.recv(1 << 16):
                        data += more
            return data
        finally:
            process.terminate()
            process.wait()


def message(payload: bytes, flag: int = 1) -> bytes:
    """Return one frame."""
    return struct.pack(">BI", flag, len(payload)) + payload


def connect(sock_id, name=b"TOOL", timeout=-1, more=0, extra=b"", command=75) -> bytes:
    """Return the payload of a CONNECT message, well-formed or not."""
    return (
        struct.pack(">q", command)
        + sock_id
        + b"\0"
        + name
        + b"\0"
        + struct.pack(">qq", timeout, more)
        + extra
    )


# --- the captures ---------------------------------------------------------------------


def capture_connect() -> list[dict]:
    """CONNECT messages (and what follows them) of clients and of a daemon."""
    vectors = []

    def add(program: str, how: str, command: list[str], keep_all: bool = False) -> None:
        data = record(command)
        (length,) = struct.unpack(">I", data[1:5])
        sock_id, name, numbers = data[13 : 5 + length].split(b"\0", 2)
        vectors.append(
            {
                "program": program,
                "how": how,
                # What follows in other captures is a security negotiation, full of
                # the machine's particulars.
                "hex": (data if keep_all else data[: 5 + length]).hex(),
                "sock_id": sock_id.decode(),
                "client_name": name.decode(),
                "timeout": struct.unpack(">q", numbers[:8])[0],
            }
        )

    with configured(f"COLLECTOR_HOST = {ADDRESS}\nENABLE_IPV6 = False") as directory:
        bindings = directory / "bindings.py"
        bindings.write_text(BINDINGS)
        for kind in ("Schedd.query", "Collector.query", "ping"):
            with contextlib.suppress(TimeoutError):  # 23.9's htcondor2 has no ping
                add(
                    f"htcondor2.{kind}",
                    f"address {ADDRESS}",
                    [sys.executable, str(bindings), kind, ADDRESS],
                )
        if not shutil.which("condor_ping"):
            return vectors
        add("condor_ping", f"-addr {ADDRESS} READ", ["condor_ping", "-addr", ADDRESS, "READ"])
        add("condor_status", f"-pool {ADDRESS}", ["condor_status", "-pool", ADDRESS])
        os.environ["_CONDOR_SEC_CLIENT_NEGOTIATION"] = "NEVER"
        add(
            "condor_status",
            f"-pool {ADDRESS}, SEC_CLIENT_NEGOTIATION = NEVER; with the query that follows",
            ["condor_status", "-pool", ADDRESS, "-long"],
            keep_all=True,
        )
        (directory / "ad").write_text(LONG_AD)
        add(
            "condor_advertise",
            f"-tcp UPDATE_AD_GENERIC, COLLECTOR_HOST = {ADDRESS}, SEC_CLIENT_NEGOTIATION = "
            "NEVER; an ad of 4.6 kB follows, so one message has several frames",
            ["condor_advertise", "-tcp", "UPDATE_AD_GENERIC", str(directory / "ad")],
            keep_all=True,
        )
        del os.environ["_CONDOR_SEC_CLIENT_NEGOTIATION"]
        add(
            "condor_schedd",
            f"-f -p {SHARED_PORT}, COLLECTOR_HOST = {ADDRESS}, USE_SHARED_PORT = False",
            f"env _CONDOR_USE_SHARED_PORT=False condor_schedd -f -p {SHARED_PORT}".split(),
        )
    return vectors


@contextlib.contextmanager
def shared_port(extra: str = IPV4, port: int = SHARED_PORT):
    """Run condor_shared_port without a master; gives its directory."""
    program = f"{LIBEXEC}/condor_shared_port"
    with configured(extra, port) as directory, daemon(program, "-f", "-p", str(port)):
        wait_for((directory / "shared_port_ad").exists)
        yield directory


def exchange(directory: pathlib.Path, sock_id: bytes, data: bytes) -> dict:
    """Send bytes to the shared port; return what it did with the connection."""
    path = os.path.join(os.fsencode(directory), sock_id)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        try:
            listener.bind(path)
        except OSError:
            listener.bind(os.path.join(os.fsencode(directory), b"nobody"))
        stack.callback(os.unlink, listener.getsockname())
        listener.listen()
        listener.settimeout(0.05)
        client = stack.enter_context(socket.create_connection(("127.0.0.1", SHARED_PORT)))
        client.sendall(data)
        client.settimeout(0.05)
        for _ in range(40):
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                with connection:
                    connection.settimeout(5.0)
                    header = connection.recv(13)
                    byte, fds, _, _ = socket.recv_fds(connection, 16, 4)
                    passed = socket.socket(fileno=fds[0])
                    # The daemon closes its end only after us: what comes within 0.2 s.
                    connection.settimeout(0.2)
                    rest = b""
                    with contextlib.suppress(TimeoutError):
                        rest = connection.recv(16)
                with passed:
                    passed.setblocking(True)
                    passed.settimeout(0.2)
                    try:
                        unread = passed.recv(1 << 16)
                    except TimeoutError:
                        unread = b""
                return {
                    "result": "passed",
                    "pass_sock": header.hex(),
                    "descriptor_byte": byte.hex(),
                    "descriptors": len(fds),
                    "after": rest.hex(),
                    "left_for_receiver": unread.hex(),
                }
            try:
                if client.recv(1) == b"":
                    return {"result": "refused"}
            except TimeoutError:
                continue
            except ConnectionError:
                return {"result": "refused"}
        return {"result": "waits for more"}


def verdict_cases() -> list[tuple[str, bytes, bytes]]:
    """Return (case, sock id, bytes) of good and hostile CONNECT messages."""
    name = SOCK_ID.encode()
    good = connect(name)
    long41, long42 = b"i" * 41, b"i" * 42
    cases = [
        ("well-formed", good),
        ("client's bytes follow at once", message(good) + b"vine 1\nready\n"),
        ("empty client name", connect(name, b"")),
        ("timeout 0", connect(name, timeout=0)),
        ("timeout -2", connect(name, timeout=-2)),
        ("timeout beyond 32 bits", connect(name, timeout=2**32)),
        ("client name of 1022 characters", connect(name, b"n" * 1022)),
        ("client name of 1023 characters", connect(name, b"n" * 1023)),
        ("client name of 1024 characters", connect(name, b"n" * 1024)),
        ("client name of 9000 characters", connect(name, b"n" * 9000)),
        ("client name not UTF-8", connect(name, b"\xe9\xff")),
        ("client name absent (0xAD)", good.replace(b"TOOL\0", b"\xad")),
        ("client name starts with 0xFF", connect(name, b"\xff")),
        ("more_args 1, with it", connect(name, more=1, extra=b"extra\0")),
        ("more_args 1, without it", connect(name, more=1)),
        ("more_args 1, of 511 characters", connect(name, more=1, extra=b"e" * 511 + b"\0")),
        ("more_args 1, of 512 characters", connect(name, more=1, extra=b"e" * 512 + b"\0")),
        ("more_args 100, with them", connect(name, more=100, extra=b"e\0" * 100)),
        ("more_args 101, with them", connect(name, more=101, extra=b"e\0" * 101)),
        ("more_args -1", connect(name, more=-1)),
        ("more_args 2**32", connect(name, more=2**32)),
        ("a byte after the last field", good + b"\0"),
        ("ends inside more_args", good[:-1]),
        ("ends after the sock id", good[:16]),
        ("ends inside the command", good[:7]),
        ("flag 2", message(good, 2)),
        ("flag 10", message(good, 10)),
        ("flag 11", message(good, 11)),
        ("flag 128", message(good, 128)),
        ("two frames", message(good[:20], 0) + message(good[20:])),
        ("a frame per byte", b"".join(message(good[i : i + 1], 0) for i in range(len(good) - 1))
         + message(good[-1:])),
        ("empty frame first", message(b"", 0) + message(good)),
        ("empty frame last", message(good, 0) + message(b"")),
        ("length of 1 MiB + 1", struct.pack(">BI", 1, 2**20 + 1) + good),
        ("length with the high bit", struct.pack(">BI", 1, 2**31 + 42) + good),
        ("PASS_SOCK", struct.pack(">q", 76)),
        ("not CEDAR", b"GET / HTTP/1.0\r\n\r\n"),
        ("sock id of 1023 characters", connect(b"i" * 1023)),
        ("sock id of 1024 characters", connect(b"i" * 1024)),
        ("sock id with a slash", connect(b"../sock/" + name)),
        ("sock id '.'", connect(b".")),
        ("sock id '..'", connect(b"..")),
        ("sock id empty", connect(b"")),
        ("sock id with a blank", connect(b"vine 42")),
        ("sock id not ASCII", connect("vin\u00e9".encode())),
    ]  # fmt: skip
    framed = ("follow at once", "flag ", "frame", "length ", "not CEDAR")
    result = [
        (case, name, data if any(word in case for word in framed) else message(data))
        for case, data in cases
    ]
    for case, sock_id in [
        ("sock id of 41 characters", long41),
        ("sock id of 42 characters", long42),
        ("sock id starts with '.'", b".vine"),
        ("sock id starts with '-'", b"-vine"),
        ("sock id 'self'", b"self"),
    ]:
        result.append((case, sock_id, message(connect(sock_id))))
    return result


def capture_verdicts() -> tuple[list[dict], list[dict]]:
    """What condor_shared_port does with CONNECT messages, and what it passes on."""
    verdicts, handoffs = [], []
    # What condor_master gives the daemons it starts: with it, the shared port tries an
    # abstract socket first, and that bounds the length of a sock id.
    os.environ["CONDOR_PRIVATE_SHARED_PORT_COOKIE"] = "c0" * 32
    with shared_port() as directory:
        del os.environ["CONDOR_PRIVATE_SHARED_PORT_COOKIE"]
        for case, sock_id, data in verdict_cases():
            outcome = exchange(directory / "sock", sock_id, data)
            verdicts.append({"case": case, "hex": data.hex(), "result": outcome.pop("result")})
            if outcome and len(handoffs) < 2:
                handoffs.append({"program": "condor_shared_port", "how": case, **outcome})
    return verdicts, handoffs


def published(case: str, program: str, path: pathlib.Path) -> list[dict]:
    """Return the addresses in an ad file."""
    wait_for(path.exists)
    names = "MyAddress|AddressV1|SharedPortCommandSinfuls"
    found = re.findall(rf'^({names}) = "(.*)"$', path.read_text(), re.M)
    return [
        {"case": case, "program": program, "attribute": name, "text": text.replace('\\"', '"')}
        for name, value in found
        # This one is a list.
        for text in (value.split(",") if name == "SharedPortCommandSinfuls" else [value])
    ]


def capture_addresses() -> list[dict]:
    """Addresses of a shared port and of a schedd behind it, as they publish them."""
    vectors = []
    with contextlib.ExitStack() as brokers:
        broker = brokers.enter_context(shared_port(IPV4 + f"COLLECTOR_HOST = {BROKER}"))
        brokers.enter_context(daemon("condor_collector", "-f", "-sock", "collector"))
        wait_for((broker / "sock" / "collector").exists)
        alone = IPV4 + "USE_SHARED_PORT = False\nCOLLECTOR_HOST = " + SECOND_BROKER
        second = brokers.enter_context(configured(alone))
        brokers.enter_context(daemon("condor_collector", "-f", "-p", "9620"))
        wait_for((second / ".collector_address").exists)
        for case, extra in ADDRESS_CASES:
            with shared_port(extra, port=9621) as directory, daemon("condor_schedd", "-f"):
                schedd = directory / "spool" / ".schedd_classad"
                vectors += published(case, "condor_shared_port", directory / "shared_port_ad")
                vectors += published(case, "condor_schedd", schedd)
    return vectors


def main() -> None:
    """Capture what can be captured here."""
    target = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(__file__))
    with configured():
        ask = [sys.executable, "-c", "import htcondor2; print(htcondor2.version())"]
        if shutil.which("condor_version"):
            ask = ["condor_version"]
        text = subprocess.check_output(ask, text=True)
    version = re.search(r"CondorVersion: (\S+)", text)[1]
    label = version if shutil.which("condor_schedd") else f"{version}-bindings"

    def write(kind: str, vectors: list[dict]) -> None:
        month = datetime.date.today().strftime("%Y-%m")
        head = {"kind": kind, "htcondor": text.split("$")[1].strip(), "captured": month}
        head["vectors"] = vectors
        path = target / f"{kind}-{label}.json"
        path.write_text(json.dumps(head, indent=1) + "\n")
        print(f"{path}: {len(vectors)} vectors")

    write("connect", capture_connect())
    if shutil.which("condor_schedd"):
        verdicts, handoffs = capture_verdicts()
        write("verdict", verdicts)
        write("handoff", handoffs)
        write("sinful", capture_addresses())


if __name__ == "__main__":
    main()
