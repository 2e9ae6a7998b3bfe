"""Set everything up, start JupyterLab, run the quickstart notebook on it, and call its endpoint.

``python3 scripts/quickstart.py`` leaves JupyterLab running; ``--stop`` ends it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from typing import Any

from environment import ROOT, Environment, SetupFailed, Steps, tail

FIRST_PORT = 8888
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0

HOME = ROOT / ".quickstart"
NOTEBOOKS = HOME / "notebooks"
NOTEBOOK = "quickstart.ipynb"
LOG = HOME / "jupyterlab.log"
STATE = HOME / "server.json"


@dataclass(frozen=True)
class Server:
    """A running JupyterLab.

    Attributes
    ----------
    pid
        Its process.
    url
        Its address, ending with ``/``.
    token
        What opens it.
    """

    pid: int
    url: str
    token: str

    @property
    def is_running(self) -> bool:
        """Whether it answers, and to its own token."""
        try:
            self.get("api/status")
        except OSError:
            return False
        return True

    def get(self, path: str) -> Any:
        """Return the JSON that a route of it gives, of whatever shape."""
        return self._request("GET", path)

    def stop(self) -> None:
        """Ask it to end, and wait until it has."""
        self._request("POST", "api/shutdown")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.is_running:
            if time.monotonic() > deadline:
                raise SetupFailed(
                    f"JupyterLab (process {self.pid}) does not end; {LOG} may say why. End it "
                    f"with: kill {self.pid}"
                )
            time.sleep(0.1)

    def _request(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            self.url + path, method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            body = response.read()
        return json.loads(body) if body else None


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, help="port of JupyterLab; without it, a free one")
    parser.add_argument("--stop", action="store_true", help="end the JupyterLab that was started")
    options = parser.parse_args()
    try:
        if options.stop:
            stop()
        else:
            start(options.port)
    except SetupFailed as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 1
    return 0


def start(port: int | None) -> None:
    """Set up, start, run the notebook, call the endpoint and say where everything is."""
    steps = Steps(4)
    environment = Environment(".venv", ("lab", "sklearn"), editable=False)
    steps.say(f"Installing into {environment.path} (the first time takes a minute or two)")
    environment.ensure()

    before = running_server()
    if before is not None:
        before.stop()
    steps.say(f"Starting JupyterLab, with its log in {LOG}")
    server = start_server(environment, port)

    steps.say(f"Running {NOTEBOOK} on it, as a person would")
    run_notebook(environment, server)

    model = latest_model(server)
    url = server.url.rstrip("/") + model["predict_path"][len(base_path(server)) :]
    body = json.dumps(example_body(server, model["name"]))
    steps.say(f"Calling {model['name']} from outside Jupyter")
    answer = call(url, body, server.token)
    print(
        f"\n{answer}\n\n"
        f"Endpoint     {url}\n"
        f"JupyterLab   {server.url}lab/tree/{NOTEBOOK}?token={server.token}\n"
        f"Stop it      python3 scripts/quickstart.py --stop"
    )


def stop() -> None:
    """End the JupyterLab that an earlier run started."""
    server = running_server()
    if server is None:
        print("JupyterLab is not running.")
        return
    server.stop()
    STATE.unlink()
    print("JupyterLab has stopped.")


def running_server() -> Server | None:
    """Return the server that an earlier run started, if it still answers."""
    if not STATE.exists():
        return None
    server = Server(**json.loads(STATE.read_text()))
    return server if server.is_running else None


def start_server(environment: Environment, port: int | None) -> Server:
    """Start JupyterLab in the background, and return when it answers."""
    NOTEBOOKS.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "notebooks" / NOTEBOOK, NOTEBOOKS / NOTEBOOK)
    port = port if port is not None else free_port()
    token = secrets.token_hex(24)
    with LOG.open("wb") as log:
        process = subprocess.Popen(
            [
                *(str(environment.python), "-m", "jupyterlab", "--no-browser"),
                # So that it begins with nothing, and leaves nothing among what is really deployed.
                f"--MLServeApp.data_dir={HOME / 'mlserve'}",
                *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"),
                *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={NOTEBOOKS}"),
                *(["--allow-root"] if is_root() else []),
            ],
            env={**environment.variables, "JUPYTER_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process.pid, f"http://127.0.0.1:{port}/", token)
    STATE.touch(mode=0o600)
    STATE.write_text(json.dumps(asdict(server)))
    deadline = time.monotonic() + START_TIMEOUT_S
    while not server.is_running:
        if process.poll() is not None or time.monotonic() > deadline:
            print(*tail(LOG), sep="\n", file=sys.stderr)
            raise SetupFailed(f"JupyterLab did not start on port {port}; {LOG} says why.")
        time.sleep(0.2)
    return server


def run_notebook(environment: Environment, server: Server) -> None:
    """Run all cells in a kernel of the server, and save the notebook with its outputs."""
    command = [str(environment.python), str(ROOT / "scripts" / "run_notebook.py")]
    ended = subprocess.run(
        [*command, server.url, NOTEBOOK],
        env={**environment.variables, "JUPYTER_TOKEN": server.token},
        check=False,
    )
    if ended.returncode:
        raise SetupFailed(
            f"{NOTEBOOK} did not run to its end; see it at {server.url}lab?token={server.token}"
        )


def latest_model(server: Server) -> dict[str, Any]:
    """Return the model that was deployed last, as the server describes it."""
    models = server.get("mlserve/api/v1/models")["items"]
    if not models:
        raise SetupFailed(f"{NOTEBOOK} ran, and no model is deployed; {LOG} may say why.")
    return max(models, key=lambda model: str(model["updated_at"]))


def example_body(server: Server, name: str) -> dict[str, Any]:
    """Return a predict body with a row of the sample that the newest version was deployed with."""
    versions = server.get(f"mlserve/api/v1/models/{name}/versions")["items"]
    example: dict[str, Any] | None = versions[0]["signature"]["inputs"]["example"]
    if example is None:
        raise SetupFailed(f"{name} was deployed without a sample, so there is nothing to ask it.")
    return example


def call(url: str, body: str, token: str) -> str:
    """Call the endpoint with curl, or with Python where there is none; return what was said."""
    headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}
    shown = (
        f"$ curl {url} \\\n"
        f"    -H 'Authorization: token {token}' \\\n"
        f"    -H 'Content-Type: application/json' \\\n"
        f"    -d '{body}'"
    )
    curl = shutil.which("curl")
    if curl is None:
        status, answer = _call_with_python(url, body, headers)
        shown += "\n(There is no curl here: Python made this very call.)"
    else:
        status, answer = _call_with_curl(curl, url, body, headers)
    if status != 200:
        raise SetupFailed(f"{url} answered {status}: {answer}")
    return f"{shown}\n{answer}"


def _call_with_curl(curl: str, url: str, body: str, headers: dict[str, str]) -> tuple[int, str]:
    """Return status and body; headers go through stdin, since others see a process's arguments."""
    lines = [f"header = {json.dumps(f'{name}: {value}')}\n" for name, value in headers.items()]
    ended = subprocess.run(
        [curl, "-sS", "--config", "-", "--write-out", "\n%{http_code}", "--data", body, url],
        input="".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise SetupFailed(f"curl could not reach {url}: {ended.stderr.strip()}")
    answer, _, status = ended.stdout.rpartition("\n")
    return int(status), answer


def _call_with_python(url: str, body: str, headers: dict[str, str]) -> tuple[int, str]:
    """Return status and body."""
    request = urllib.request.Request(url, data=body.encode(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def base_path(server: Server) -> str:
    """Return the path of the server's address, without the slash at its end."""
    return "/" + server.url.split("/", 3)[3].rstrip("/") if server.url.count("/") > 3 else ""


def free_port() -> int:
    """Return Jupyter's usual port if it is free, else any that is."""
    for port in (FIRST_PORT, 0):
        with socket.socket() as probe:
            if os.name != "nt":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise SetupFailed("No port is free on 127.0.0.1: name one with --port.")


def is_root() -> bool:
    """Return whether this process runs as root, for whom Jupyter wants to be told so."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


if __name__ == "__main__":
    sys.exit(main())
