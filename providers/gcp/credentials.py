"""Who we are to Google Cloud: a file named in fleet.yaml, or Application Default Credentials."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import google.auth
from google.auth.credentials import Credentials

from ..base import AuthFailed, Scope
from .errors import errors_told

SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


class Tokens(Credentials):
    """The tokens of other credentials and nothing else.

    The library's own also start threads that ask Google for allowed regions, whatever endpoint they are used with.
    """

    def __init__(self, source: Any) -> None:
        init: Any = super().__init__
        init()
        self._source = source
        self._quota_project_id = source.quota_project_id

    def refresh(self, request: Any) -> None:
        """Ask the source for a new token. Raises GoogleAuthError."""
        self._source.refresh(request)
        self.token, self.expiry = self._source.token, self._source.expiry


def found_here() -> Tokens:
    """Application Default Credentials: the variable, gcloud's login, or the machine's own. Raises GoogleAuthError."""
    source, _ = google.auth.default(scopes=SCOPES)
    return Tokens(source)


def from_file(path: Path) -> Tokens:
    """Those in a file. Raises AuthFailed when it is missing or holds none."""
    with errors_told("credentials", str(path)):
        try:
            with warnings.catch_warnings():
                # The file is the operator's own, named in fleet.yaml; the warning is about files of strangers.
                warnings.simplefilter("ignore", DeprecationWarning)
                load: Any = google.auth.load_credentials_from_file
                source, _ = load(str(path.expanduser()), scopes=SCOPES)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            hint = "download the key again, or correct auth.credentials_file"
            raise AuthFailed(f"{path}: {error}", scope=Scope.PROVIDER, hint=hint) from error
    return Tokens(source)
