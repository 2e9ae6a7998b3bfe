"""Callers that do the same again and again through a fault, and remember what was acknowledged."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.live import NO_TLS
from tests.standalone.hosts import StandaloneServer


@dataclass(frozen=True)
class Answer:
    """What a call was answered, and when; times are those of ``time.monotonic()``."""

    begun_s: float
    ended_s: float
    status: int

    @property
    def took_s(self) -> float:
        return self.ended_s - self.begun_s


class Caller:
    """Calls in a thread of its own while it is running.

    Attributes
    ----------
    answers
        To all calls.
    """

    pause_s = 0.02
    n_threads = 1

    def __init__(self, server: StandaloneServer) -> None:
        self.server = server
        self.answers: list[Answer] = []
        self._stop = threading.Event()
        self._failures: list[Exception] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run) for _ in range(self.n_threads)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._failures:
            raise self._failures[0]

    def call(self, client: httpx.Client) -> int:
        """Make one call, note what it acknowledges, and return the status of its answer."""
        raise NotImplementedError

    @property
    def refused(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status >= 400]

    def answered_since(self, moment_s: float) -> Answer | None:
        """Return the first answer to a call of since then that succeeded."""
        return next(
            (each for each in self.answers if each.begun_s >= moment_s and each.status < 400), None
        )

    def _run(self) -> None:
        headers = {"X-MLServe-Key": self.server.key}
        with httpx.Client(
            base_url=self.server.url, headers=headers, verify=NO_TLS, timeout=60
        ) as client:
            try:
                while not self._stop.is_set():
                    begun_s = time.monotonic()
                    status = self.call(client)
                    self.answers.append(Answer(begun_s, time.monotonic(), status))
                    self._stop.wait(self.pause_s)
            except Exception as error:  # told by whoever waits for the thread
                self._failures.append(error)


class Predictions(Caller):
    """Predicts with one row of one feature, of which the model gives back the sum.

    Attributes
    ----------
    request_ids
        Of the calls that were answered.
    """

    n_threads = 3

    def __init__(self, server: StandaloneServer, model: str, key: str) -> None:
        super().__init__(server)
        self._path, self._headers = f"api/v1/predict/{model}", {"X-MLServe-Key": key}
        self.request_ids: list[str] = []

    def call(self, client: httpx.Client) -> int:
        number = float(len(self.answers))
        answer = client.post(self._path, json={"instances": [[number]]}, headers=self._headers)
        if answer.status_code == 200:
            assert answer.json()["predictions"] == [number]
            self.request_ids.append(answer.headers["X-Request-ID"])
        return answer.status_code


class Keys(Caller):
    """Makes API keys."""

    pause_s = 0.1

    def __init__(self, server: StandaloneServer) -> None:
        super().__init__(server)
        self.made: list[str] = []

    def call(self, client: httpx.Client) -> int:
        name = f"key-{len(self.answers)}"
        wanted = {"name": name, "scopes": ["read"], "rate_limit": 0}
        answer = client.post("api/v1/api-keys", json=wanted)
        if answer.status_code == 201:
            self.made.append(answer.json()["key"])
        return answer.status_code

    def check(self) -> None:
        """Assert that each key that was acknowledged lets its holder in."""
        for key in self.made:
            answer = self.server.request("GET", "api/v1/models", headers={"X-MLServe-Key": key})
            assert answer.status_code == 200, answer.text


class Deploys(Caller):
    """Deploys versions of one model."""

    pause_s = 0.5

    def __init__(self, server: StandaloneServer, artifact: Path, model: str) -> None:
        super().__init__(server)
        self._artifact, self._model = artifact, model
        self.versions: list[int] = []

    def call(self, client: httpx.Client) -> int:
        answer = self.server.deploy(self._artifact, self._model)
        if answer.status_code == 201:
            self.versions.append(answer.json()["version"]["version"])
        return answer.status_code

    def check(self) -> None:
        """Assert that each version that was acknowledged is there, once, and can be asked."""
        assert len(set(self.versions)) == len(self.versions)
        for version in self.versions:
            path = f"api/v1/models/{self._model}/versions/{version}"
            assert self.server.request("GET", path).json()["version"] == version
        for version in {self.versions[0], self.versions[-1]}:
            path = f"api/v1/predict/{self._model}?version={version}"
            answer = self.server.request("POST", path, json={"instances": [[2.0]]})
            assert answer.json()["predictions"] == [2.0], answer.text


class Labels(Caller):
    """Labels calls that were answered, one after the other."""

    pause_s = 0.1

    def __init__(self, server: StandaloneServer, predictions: Predictions, model: str) -> None:
        super().__init__(server)
        self._predictions, self._model = predictions, model
        self.kept: dict[str, list[float]] = {}  # by request id

    def call(self, client: httpx.Client) -> int:
        number = len(self.answers)
        request_id = self._predictions.request_ids[number]
        labels = [float(number)]
        wanted = {"model": self._model, "labels": labels}
        answer = client.post(f"api/v1/predictions/{request_id}/label", json=wanted)
        if answer.status_code == 200:
            self.kept[request_id] = labels
        return answer.status_code


@contextmanager
def all_running(*callers: Caller) -> Iterator[None]:
    with ExitStack() as stack:
        for caller in callers:
            stack.enter_context(caller.running())
        yield
