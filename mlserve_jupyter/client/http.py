"""Speaks REST with a server: one method a resource, wire types in and out."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar
from urllib.parse import quote, unquote, urlsplit

import msgspec

from mlserve_jupyter.api.accounts import DescribeMe, DescribeTokens, Login, Refresh
from mlserve_jupyter.api.keys import CreateKey, DescribeKey, DescribeNewKey, ListKeys
from mlserve_jupyter.api.manifest import Manifest, encode_json
from mlserve_jupyter.api.resources import (
    DescribeDeploy,
    DescribeModel,
    DescribeVersion,
    ListModels,
    ListScope,
    ListVersions,
    Status,
    UpdateModel,
    UpdateVersion,
    Visibility,
)
from mlserve_jupyter.client.alerts import AlertCalls
from mlserve_jupyter.client.analytics import AnalyticsCalls
from mlserve_jupyter.client.connection import DOWN_HINT, Connection, find_connection
from mlserve_jupyter.client.log import LogCalls
from mlserve_jupyter.client.quality import QualityCalls
from mlserve_jupyter.client.refusals import refusal
from mlserve_jupyter.errors import DeadlineExceeded, RequestFailed, ServerNotFound

if TYPE_CHECKING:
    import httpx

Progress = Callable[[int, int], None]
"""Called with the bytes that have been sent and all that will be."""

_Wire = TypeVar("_Wire")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of a predict call.

    Attributes
    ----------
    predictions
        The JSON value as the server sent it.
    model, version
        What answered.
    request_id
        The id under which the call is in the prediction log.
    cached
        Whether the answer came from the result cache.
    columns
        Column names where the model gave a DataFrame.
    """

    predictions: msgspec.Raw
    model: str
    version: int
    request_id: str
    cached: bool = False
    columns: list[str] | None = None


class Client(AlertCalls, AnalyticsCalls, LogCalls, QualityCalls):
    """A client of one server; its connections are kept alive between calls.

    Every method raises ``RequestFailed`` with the server's own message where the server refuses,
    ``ServerNotFound`` where none answers, and ``DeadlineExceeded`` where it takes too long.

    Parameters
    ----------
    connection
        The server and the credential.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._http = _open(connection)
        self._versions: dict[tuple[str, int], DescribeVersion] = {}
        self._sends_arrow = True

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def deploy(
        self, manifest: Manifest, artifact: Path, progress: Progress | None = None
    ) -> DescribeDeploy:
        """Upload an artifact and have the server verify and publish it.

        Memory stays flat: the file is read while it is sent.

        Parameters
        ----------
        manifest
            What the model is.
        artifact
            The file that was packed.
        progress
            Called while the file is sent.
        """
        with artifact.open("rb") as file:
            parts = [
                ("manifest", (None, encode_json(manifest), "application/json")),
                (
                    "artifact",
                    (
                        artifact.name,
                        _Counted(file, manifest.size_bytes, progress),
                        "application/octet-stream",
                    ),
                ),
            ]
            return self._send("POST", "api/v1/models", DescribeDeploy, files=parts, timeout_s=900.0)

    def models(self, scope: ListScope = "own", *, timeout_s: float = 30.0) -> list[DescribeModel]:
        """List the caller's own models or those of others, over all pages."""
        pages = self._pages("api/v1/models", ListModels, {"scope": scope}, timeout_s=timeout_s)
        return [model for page in pages for model in page.items]

    def model(self, name: str) -> DescribeModel:
        """Describe a model."""
        return self._send("GET", _model_path(name), DescribeModel)

    def share(
        self, name: str, visibility: Visibility, users: Sequence[str] | None = None
    ) -> DescribeModel:
        """Say who may call a model: with ``shared``, these users."""
        changes = UpdateModel(
            visibility=visibility, shared_with=msgspec.UNSET if users is None else [*users]
        )
        return self._update_model(name, changes)

    def set_keep_warm(self, name: str, keep_warm: bool) -> DescribeModel:
        """Say whether a model is kept in memory, called or not."""
        return self._update_model(name, UpdateModel(keep_warm=keep_warm))

    def _update_model(self, name: str, changes: UpdateModel) -> DescribeModel:
        return self._send(
            "PATCH",
            _model_path(name),
            DescribeModel,
            content=encode_json(changes),
            headers={"Content-Type": "application/json"},
        )

    def versions(self, name: str, *, timeout_s: float = 30.0) -> list[DescribeVersion]:
        """List all versions of a model, newest first."""
        path = f"{_model_path(name)}/versions"
        return [
            version
            for page in self._pages(path, ListVersions, {}, timeout_s=timeout_s)
            for version in page.items
        ]

    def version(self, name: str, version: int) -> DescribeVersion:
        """Describe one version."""
        return self._send("GET", f"{_model_path(name)}/versions/{version}", DescribeVersion)

    def set_status(self, name: str, version: int, status: Status) -> DescribeVersion:
        """Make a version active, deprecated or archived."""
        return self._send(
            "PATCH",
            f"{_model_path(name)}/versions/{version}",
            DescribeVersion,
            content=encode_json(UpdateVersion(status=status)),
            headers={"Content-Type": "application/json"},
        )

    def call(
        self,
        name: str,
        body: bytes,
        *,
        version: int | None = None,
        method: str | None = None,
        content_type: str = "application/json",
    ) -> Prediction:
        """Send a predict body, as the REST route takes it, and return the raw answer."""
        return self._send(
            "POST",
            f"api/v1/predict/{quote(name, safe='~')}",
            Prediction,
            content=body,
            headers={"Content-Type": content_type},
            params=_given(version=version, method=method),
            timeout_s=180.0,
        )

    def predict(
        self, name: str, data: Any, version: int | None = None, method: str | None = None
    ) -> Any:
        """Call a model with data as the model itself takes it, and return what it returns.

        Large frames and arrays of plain dtypes travel as an Arrow stream where pyarrow is here and
        beside the server, everything else as JSON.

        Parameters
        ----------
        name
            The model's name.
        data
            A DataFrame, an array, a sparse matrix or a list (whatever the model takes, hence
            ``Any``), ``(n_rows, …)``.
        version
            None lets the server choose.
        method
            None calls the version's default method.

        Returns
        -------
        Any
            An array, a DataFrame, a Series… as the method gives it in the notebook.
        """
        from mlserve_jupyter.artifacts.outputs import decode_predictions

        answer = self._call_with(name, data, version, method)
        described = self._known_version(name, answer.version)
        spec = described.signature.outputs.get(method or described.method)
        value = msgspec.json.decode(answer.predictions)
        if spec is None:
            return value
        result = decode_predictions(value, spec)
        if spec.keeps_index and hasattr(data, "iloc") and len(data) == len(result):
            result.index = data.index
        return result

    def _call_with(
        self, name: str, data: Any, version: int | None, method: str | None
    ) -> Prediction:
        """Send data (of any type that the model takes) in the form that costs least."""
        from mlserve_jupyter.artifacts.arrow_body import ARROW_STREAM, encode_arrow
        from mlserve_jupyter.artifacts.infer import encode_body

        body = encode_arrow(data) if self._sends_arrow else None
        if body is not None:
            try:
                return self.call(
                    name, body, version=version, method=method, content_type=ARROW_STREAM
                )
            except RequestFailed as error:
                if error.status != 415:
                    raise
                self._sends_arrow = False
        return self.call(name, encode_body(data), version=version, method=method)

    def create_key(self, wanted: CreateKey) -> DescribeNewKey:
        """Make an API key; the answer is the only one that has the key itself."""
        return self._send(
            "POST",
            "api/v1/api-keys",
            DescribeNewKey,
            content=encode_json(wanted),
            headers={"Content-Type": "application/json"},
        )

    def keys(self, *, timeout_s: float = 30.0) -> list[DescribeKey]:
        """List the caller's API keys, newest first."""
        pages = self._pages("api/v1/api-keys", ListKeys, {}, timeout_s=timeout_s)
        return [key for page in pages for key in page.items]

    def revoke_key(self, id: str) -> None:
        """Revoke an API key by its id."""
        self._request("DELETE", f"api/v1/api-keys/{quote(id, safe='')}")

    def login(self, email: str, password: str) -> DescribeTokens:
        """Return tokens for an email and its password."""
        return self._post_json("api/v1/auth/login", Login(email=email, password=password))

    def refresh(self, refresh_token: str) -> DescribeTokens:
        """Exchange a refresh token for the next pair; it is good for this once."""
        return self._post_json("api/v1/auth/refresh", Refresh(refresh_token=refresh_token))

    def logout(self) -> None:
        """End the access token that this client shows, and all of the same login."""
        self._request("POST", "api/v1/auth/logout")

    def me(self) -> DescribeMe:
        """Describe the caller, and what the credential is good for."""
        return self._send("GET", "api/v1/auth/me", DescribeMe)

    def _post_json(self, path: str, body: Login | Refresh) -> DescribeTokens:
        headers = {"Content-Type": "application/json"}
        content = encode_json(body)
        return self._send("POST", path, DescribeTokens, content=content, headers=headers)

    def warm(self, interpreter: str, modules: list[str]) -> None:
        """Ask the server to start a worker of an environment, so that a first deploy is fast."""
        body = msgspec.json.encode({"interpreter": interpreter, "modules": modules})
        self._request(
            "POST",
            "api/v1/environments",
            content=body,
            headers={"Content-Type": "application/json"},
        )

    def _known_version(self, name: str, version: int) -> DescribeVersion:
        """Describe a version, which never changes in what it takes and gives."""
        known = self._versions.get((name, version))
        if known is None:
            known = self._versions[name, version] = self.version(name, version)
        return known

    def _pages(
        self,
        path: str,
        type_: type[_Wire],
        params: dict[str, str | int],
        *,
        timeout_s: float = 30.0,
    ) -> Iterator[_Wire]:
        cursor: str | None = None
        while True:
            page = self._send(
                "GET", path, type_, params={**params, **_given(cursor=cursor)}, timeout_s=timeout_s
            )
            yield page
            cursor = getattr(page, "next_cursor", None)
            if cursor is None:
                return

    def _send(self, verb: str, path: str, type_: type[_Wire], **options: Any) -> _Wire:
        response = self._request(verb, path, **options)
        try:
            return msgspec.json.decode(response.content, type=type_)
        except msgspec.MsgspecError as error:
            raise RequestFailed(
                f"{self.connection.url} gave an answer that this client does not understand: its "
                "mlserve_jupyter may be another release than this kernel's "
                "(`mlserve_jupyter.__version__`).",
                status=response.status_code,
                server_code="unknown",
                reason=str(error),
            ) from error

    def _request(
        self, verb: str, path: str, *, timeout_s: float = 30.0, **options: Any
    ) -> httpx.Response:
        url = self.connection.url
        with _named_errors(url, timeout_s):
            response = self._http.request(verb, path, timeout=_timeout(timeout_s), **options)
        if not response.is_success:
            raise refusal(response, self.connection)
        return response

    def _download(self, path: str, target: Path, params: dict[str, Any]) -> None:
        """Write what a GET answers to a file, as it comes; ``target`` has it once it is whole."""
        url = self.connection.url
        partial = target.with_name(f".{target.name}.part")
        try:
            with (
                _named_errors(url, 60.0),
                self._http.stream("GET", path, params=params, timeout=_timeout(60.0)) as response,
            ):
                if not response.is_success:
                    response.read()
                    raise refusal(response, self.connection)
                with partial.open("wb") as file:
                    for piece in response.iter_bytes():
                        file.write(piece)
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)


def _timeout(timeout_s: float) -> httpx.Timeout:
    import httpx

    return httpx.Timeout(timeout_s, connect=min(5.0, timeout_s))


@contextmanager
def _named_errors(url: str, timeout_s: float) -> Iterator[None]:
    """Turn what goes wrong on the way to a server into this package's errors."""
    import httpx

    try:
        yield
    except httpx.TimeoutException as error:
        raise DeadlineExceeded(
            f"{url} did not answer within {timeout_s:g} s: it may still be at work; look with "
            "`%mlserve list`."
        ) from error
    except httpx.ConnectError as error:
        raise ServerNotFound(f"No server answers at {url}: {DOWN_HINT}.") from error
    except httpx.HTTPError as error:
        raise ServerNotFound(
            f"The connection to {url} broke ({error}): the server may have ended. Try again; "
            f"if nothing answers, {DOWN_HINT}."
        ) from error


def connect(target: str | None = None) -> Client:
    """Return the client of a server: the kernel's own, or the one at the URL ``target``.

    Raises
    ------
    ServerNotFound
        No server is running, or ``target`` is not a URL.
    """
    return _client(find_connection(target))


@lru_cache(maxsize=8)
def _client(connection: Connection) -> Client:
    client = Client(connection)
    atexit.register(client.close)
    return client


class _Counted:
    """A file that tells how much of it has been read."""

    def __init__(self, file: BinaryIO, total_bytes: int, progress: Progress | None) -> None:
        self._file = file
        self._total_bytes = total_bytes
        self._progress = progress
        # The length of the body is that of the file.
        self.fileno = file.fileno
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        if self._progress is not None:
            self._progress(self._file.tell(), self._total_bytes)
        return piece


def _open(connection: Connection) -> httpx.Client:
    import httpx

    parts = urlsplit(connection.url)
    headers = {**connection.headers, "Accept": "application/json"}
    if parts.scheme == "http+unix":
        return httpx.Client(
            base_url=f"http://localhost{parts.path}",
            headers=headers,
            transport=httpx.HTTPTransport(uds=unquote(parts.netloc)),
            trust_env=False,
        )
    auth: httpx.Auth | None = None
    if connection.target:
        from mlserve_jupyter.client.signing_in import SignedIn

        auth = SignedIn(connection.target)
    return httpx.Client(
        base_url=connection.url,
        auth=auth,
        headers=headers,
        # A proxy of the environment cannot reach this machine's own loopback addresses.
        trust_env=parts.hostname not in _LOOPBACK,
        # Certificates take a while to read, and plain HTTP has none to check.
        verify=parts.scheme == "https",
    )


def _model_path(name: str) -> str:
    return f"api/v1/models/{quote(name, safe='~')}"


def _given(**params: str | int | None) -> dict[str, str | int]:
    """Leave out the parameters that are None."""
    return {name: value for name, value in params.items() if value is not None}
