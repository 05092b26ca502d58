import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import pytest

from grokjax.report import serving
from grokjax.store.results import METRICS, Results
from tests import synthetic


def make_folder(root):
    """A work directory halfway through, with a secret beside it."""
    (root / "secret.parquet").write_text("secret")
    synthetic.make(root / "w", reached=200)
    (root / "w" / "figures").mkdir()
    (root / "w" / "figures" / "accuracy.svg").write_text("<svg/>")
    return root / "w"


@contextlib.contextmanager
def serve(folder):
    """A server in the background."""
    content = serving.Content(folder, pause=0.05)
    content.renew()
    with serving.Server(content) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield found
        found.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One for tests that leave its work directory as it is."""
    with serve(make_folder(tmp_path_factory.mktemp("served"))) as found:
        yield found


@pytest.fixture
def folder(tmp_path):
    """A work directory of the test's own."""
    return make_folder(tmp_path)


@pytest.fixture
def own_server(folder):
    """A server of the test's own."""
    with serve(folder) as found:
        yield found


def ask(server, path, method="GET", headers=()):
    """Status, headers and body of one request with exactly these headers beside Host."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.putrequest(method, path, skip_accept_encoding=True, skip_host=bool(headers))
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def raw(server, request):
    """The first line of the answer to a request given as bytes."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return answer.split(b"\r\n")[0].decode()


# --------------------------------------------------------------------------- what is there


def test_the_page_its_data_and_its_files_can_be_fetched(server):
    folder = server.content.workdir
    status, headers, body = ask(server, "/")
    assert (status, headers["Location"]) == (302, "/report/")
    for path in ("/report/", "/report/index.html", "/report/?anything"):
        status, headers, body = ask(server, path)
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        assert b'"live":true' in body and int(headers["Content-Length"]) == len(body)
    assert json.loads(ask(server, "/report/state.json")[2]) == {"version": 1, "message": ""}
    assert json.loads(ask(server, "/report/data.json")[2])["version"] == 1
    status, headers, body = ask(server, "/results/metrics.parquet")
    assert (status, body) == (200, (folder / "results" / "metrics.parquet").read_bytes())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert ask(server, "/figures/accuracy.svg")[2] == b"<svg/>"


def test_head_has_everything_but_the_body(server):
    status, headers, body = ask(server, "/report/", method="HEAD")
    assert status == 200 and not body
    assert headers["Content-Length"] == ask(server, "/report/")[1]["Content-Length"]
    assert ask(server, "/nothing", method="HEAD")[::2] == (404, b"")


def test_details_of_any_run_can_be_asked_for(own_server, folder):
    config = synthetic.make(folder.parent / "other")  # the same grid
    run_id = config.runs[1].run_id
    assert ask(own_server, f"/report/runs/{run_id}.json")[0] == 404  # no checkpoints
    synthetic.add_checkpoints(folder, config)
    status, _, body = ask(own_server, f"/report/runs/{run_id}.json")
    assert status == 200 and json.loads(body)["steps"] == [0, 100, 200, 300, 400]


# --------------------------------------------------------------------------- what is not


@pytest.mark.parametrize(
    "path",
    [
        "/sweep.json",
        "/results",
        "/results/",
        "/results/../sweep.json",
        "/results/%2e%2e/sweep.json",
        "/results/..%2fsweep.json",
        "/results/../../secret.parquet",
        "/results/%2e%2e%2f%2e%2e%2fsecret.parquet",
        "/results/....//secret.parquet",
        "/results/..\\..\\secret.parquet",
        "/results/.parts/metrics.parquet",
        "/results/metrics.parquet/",
        "/results/metrics.parquet%00.svg",
        "/results//metrics.parquet",
        "/RESULTS/metrics.parquet",
        "/figures/../results/metrics.parquet",
        "/figures/accuracy.parquet",
        "/checkpoints/x",
        "/report/../sweep.json",
        "/report/runs/..%2f..%2fsweep.json",
        "/report/runs/%2e%2e/%2e%2e/sweep.json",
        "/report/runs/nonsense.json",
        "/report/runs/.json",
        "/etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/~root",
        "/.lock",
    ],
)
def test_nothing_else_can_be_fetched(server, path):
    status, _, body = ask(server, path)
    assert status == 404 and b"secret" not in body


def test_links_and_pipes_are_not_followed(own_server, folder):
    results = folder / "results"
    (results / "leak.parquet").symlink_to(folder.parent / "secret.parquet")
    (results / "inside.parquet").symlink_to(results / "runs.parquet")
    os.mkfifo(results / "pipe.parquet")
    (results / "folder.parquet").mkdir()
    for name in ("leak", "inside", "pipe", "folder"):
        assert ask(own_server, f"/results/{name}.parquet")[0] == 404
    assert ask(own_server, "/results/runs.parquet")[0] == 200
    results.rename(folder.parent / "elsewhere")
    results.symlink_to(folder.parent / "elsewhere")
    assert ask(own_server, "/results/runs.parquet")[0] == 404


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "", "{port}", "[::1",
     "a:b:c", "127.0.0.1:{port}@evil.example", "127.0.0.1.evil.example:{port}", "10.0.0.1:{port}"],
)  # fmt: skip
def test_requests_for_other_hosts_are_refused(server, host):
    status, _, body = ask(
        server, "/report/", headers=[("Host", host.format(port=server.server_port))]
    )
    assert status == 421 and b"live" not in body


def test_hosts_that_are_missing_or_given_twice_are_refused(server):
    here = f"Host: 127.0.0.1:{server.server_port}\r\n".encode()
    assert "421" in raw(server, b"GET /report/state.json HTTP/1.1\r\n\r\n")
    assert "421" in raw(server, b"GET /report/state.json HTTP/1.0\r\n\r\n")
    assert "421" in raw(server, b"GET /report/state.json HTTP/1.1\r\n" + 2 * here + b"\r\n")
    assert "200" in raw(server, b"GET /report/state.json HTTP/1.1\r\n" + here + b"\r\n")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
def test_names_of_this_machine_are_accepted(server, host):
    own = [("Host", f"{host}:{server.server_port}")]
    assert ask(server, "/report/state.json", headers=own)[0] == 200


@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"]
)
def test_only_get_and_head_are_allowed(server, method):
    status, headers, _ = ask(server, "/report/", method=method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_odd_requests_are_refused(server):
    here = f"Host: 127.0.0.1:{server.server_port}\r\n".encode()
    for line in (b"GET http://evil.example/report/ HTTP/1.1", b"GET * HTTP/1.1",
                 b"GET report/ HTTP/1.1"):  # fmt: skip
        assert "404" in raw(server, line + b"\r\n" + here + b"\r\n")
    body = b"GET /report/ HTTP/1.1\r\n" + here + b"Content-Length: 5\r\n\r\nhello"
    assert "400" in raw(server, body)
    assert "414" in raw(server, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + here + b"\r\n")
    assert ask(server, "/report/state.json")[0] == 200  # none of it did any harm


def test_the_server_is_bound_to_loopback_unless_told_otherwise(server):
    assert server.server_address[0] == "127.0.0.1"
    with serving.Server(server.content, "0.0.0.0") as wide:
        port = wide.server_port
        assert wide.answers_to([f"10.1.2.3:{port}"]) and wide.answers_to([f"[fe80::1]:{port}"])
        assert not wide.answers_to([f"evil.example:{port}"])
        assert not server.answers_to([f"10.1.2.3:{server.server_port}"])


def test_serving_writes_nothing(server):
    folder = server.content.workdir

    def listing():
        return {
            path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()
        }

    before = listing()
    for path in ("/report/", "/report/data.json", "/results/runs.parquet", "/sweep.json"):
        ask(server, path)
    server.content.renew()
    assert listing() == before


# --------------------------------------------------------------------------- news


def add_step(folder, step=300):
    """Commits metrics of one more checkpoint."""
    results = Results(folder, [])
    config = serving.Sweep(folder).config
    rows = [
        {"run_id": run.run_id, "step": step, **dict.fromkeys(METRICS.columns, 0.99)}
        for run in config.runs
    ]
    results.append("metrics", METRICS, rows)


def test_a_checkpoint_that_arrives_is_shown(own_server, folder):
    add_step(folder)
    with own_server.content.renewing():
        for _ in range(400):
            state = json.loads(ask(own_server, "/report/state.json")[2])
            if state["version"] == 2:
                break
            threading.Event().wait(0.05)
    data = json.loads(ask(own_server, "/report/data.json")[2])
    assert data["version"] == 2 and data["runs"]["last_test_accuracy"] == [0.99, 0.99]


def test_nothing_is_read_again_without_news(server):
    server.content.renew()
    server.content.renew()
    assert json.loads(ask(server, "/report/state.json")[2])["version"] == 1


def test_a_table_that_is_damaged_is_said_and_the_old_page_stays(own_server, folder):
    path = folder / "results" / "metrics.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    own_server.content.renew()
    state = json.loads(ask(own_server, "/report/state.json")[2])
    assert state["version"] == 1 and "metrics.parquet cannot be read" in state["message"]
    assert ask(own_server, "/report/data.json")[0] == 200
    path.write_bytes(whole)
    own_server.content.renew()
    assert json.loads(ask(own_server, "/report/state.json")[2]) == {"version": 2, "message": ""}


def test_the_command_serves_until_it_is_told_to_stop(folder):
    command = [sys.executable, "-m", "grokjax.report", f"--workdir={folder}", "--watch"]
    root = pathlib.Path(serving.__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        assert line.startswith("report: http://127.0.0.1:")
        port = int(line.split("/")[2].split(":")[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/report/state.json")
        assert json.loads(connection.getresponse().read())["version"] == 1
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not (folder / "report").exists()
