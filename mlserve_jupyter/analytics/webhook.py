"""The webhook that is told of alerts: one POST a message, bounded in every way.

The address is the operator's alone (a setting, which no request can change), so that callers
cannot have this server send requests to where they cannot reach themselves. Redirects are not
followed, the answer's body is not read, and no credential of anybody's goes along. The standard
library's client is used because it logs no URL and heeds no environment.
"""

from __future__ import annotations

import hashlib
import hmac
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from mlserve_jupyter.version import __version__

TIMEOUT_S = 5.0

SIGNATURE = "X-MLServe-Signature"
"""The header with ``sha256=`` and the HMAC of the body, where a secret is set."""


class Webhook:
    """Where messages go.

    Parameters
    ----------
    url
        ``http`` or ``https``. It may hold a secret, and is not repeated anywhere.
    secret
        Signs messages; empty for no signature.
    timeout_s
        Of connecting, and of each part of a request.
    """

    def __init__(self, url: str, secret: str = "", timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        self._secret = secret.encode()
        self._timeout_s = timeout_s

    @property
    def host(self) -> str:
        """The address as far as it may be shown."""
        return urlsplit(self._url).hostname or ""

    def send(self, body: bytes) -> str | None:
        """Send a message.

        Returns
        -------
        str or None
            Why it was not taken; None where it was.
        """
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"mlserve-jupyter/{__version__}",
        }
        if self._secret:
            digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers[SIGNATURE] = f"sha256={digest}"
        parts = urlsplit(self._url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection = kind(self.host, parts.port, timeout=self._timeout_s)
            try:
                connection.request("POST", target, body, headers)
                status = connection.getresponse().status
            finally:
                connection.close()
        except TimeoutError:
            return f"{self.host} has not answered within {self._timeout_s:g} s"
        except (OSError, HTTPException, UnicodeError) as error:
            return f"{self.host} cannot be reached ({type(error).__name__})"
        return None if 200 <= status < 300 else f"{self.host} has answered {status}"
