"""Where the API server is and who we are there: a kubeconfig file, or the pod's own ServiceAccount.

Who calls it: `app/`. A token file is read again when it changes: the kubelet rotates it within the hour.
"""

from __future__ import annotations

import atexit
import base64
import os
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from capstan.adapters import errors

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True)
class Config:
    """A cluster and an identity. Exactly one of `token`, `token_file` and `client_cert` is usual; none is anonymous."""

    url: str
    ca: str | None = None  # PEM text; None: the system's trust store
    token: str | None = None
    token_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    insecure: bool = False

    def context(self) -> ssl.SSLContext:
        """Return the TLS context for this cluster."""
        try:
            made = ssl.create_default_context(cadata=self.ca)
            if self.client_cert is not None and self.client_key is not None:
                made.load_cert_chain(self.client_cert, self.client_key)
        except (ssl.SSLError, OSError) as problem:
            raise errors.Malformed(f"{self.url}: a certificate or key is not usable PEM: {problem}") from problem
        if self.insecure:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        return made

    def bearer(self) -> str | None:
        """Return the token of now."""
        if self.token_file is None:
            return self.token
        try:
            return self.token_file.read_text(encoding="utf-8").strip()
        except OSError as problem:
            raise errors.Denied(f"the token file cannot be read: {problem}") from problem


def load(kubeconfig: Path | None) -> Config:
    """Return the cluster of a kubeconfig's current context; None: `KUBECONFIG`, then the pod's ServiceAccount.

    Raises:
        Malformed: The file is not a kubeconfig, names a file that cannot be read, or asks for something that this
            client does not do.
    """
    named = kubeconfig or (Path(os.environ["KUBECONFIG"]) if os.environ.get("KUBECONFIG") else None)
    return _from_file(named) if named is not None else _in_cluster()


def _in_cluster() -> Config:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    token = SERVICE_ACCOUNT / "token"
    if not host or not token.exists():
        raise errors.Malformed("not in a cluster: name a kubeconfig with --kubeconfig, or run as a pod")
    shown = f"[{host}]" if ":" in host else host
    ca = (SERVICE_ACCOUNT / "ca.crt").read_text(encoding="utf-8")
    return Config(url=f"https://{shown}:{port}", ca=ca, token_file=token)


def _from_file(path: Path) -> Config:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as problem:
        raise errors.Malformed(f"{path}: not a readable kubeconfig: {problem}") from problem
    if not isinstance(document, dict):
        raise errors.Malformed(f"{path}: not a kubeconfig (no mapping at the top)")
    context = _named(path, document, "contexts", "context", document.get("current-context"))
    cluster = _named(path, document, "clusters", "cluster", context.get("cluster"))
    user = _named(path, document, "users", "user", context.get("user"))
    _refuse(path, "users[].user", user, ("exec", "auth-provider", "username"))
    _refuse(path, "clusters[].cluster", cluster, ("proxy-url", "tls-server-name"))
    url = cluster.get("server")
    if not isinstance(url, str) or not url.startswith(("https://", "http://")):
        raise errors.Malformed(f"{path}: clusters[].cluster.server must be https://HOST:PORT, and is {url!r}")
    token_file = user.get("tokenFile")
    return Config(
        url=url.rstrip("/"),
        ca=_pem(path, cluster, "certificate-authority"),
        token=str(user["token"]) if "token" in user else None,
        token_file=path.parent / str(token_file) if token_file else None,
        client_cert=_pem_file(path, user, "client-certificate"),
        client_key=_pem_file(path, user, "client-key"),
        insecure=bool(cluster.get("insecure-skip-tls-verify", False)),
    )


def _named(path: Path, document: Mapping[str, object], plural: str, single: str, name: object) -> dict[str, object]:
    """Return the entry `name` of a kubeconfig's list."""
    entries = document.get(plural)
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(single), dict):
            return dict(entry[single])
    raise errors.Malformed(f"{path}: no entry {name!r} under {plural}; set current-context to one that exists")


def _refuse(path: Path, where: str, entry: Mapping[str, object], fields: tuple[str, ...]) -> None:
    """Raise for a field that would be ignored: somebody relies on it."""
    for field in fields:
        if field in entry:
            raise errors.Malformed(
                f"{path}: {where}.{field} is not supported: use server and certificate-authority, and token, tokenFile "
                "or a client certificate (kubectl create token makes a token)"
            )


def _pem(path: Path, entry: Mapping[str, object], key: str) -> str | None:
    """Return PEM text from `key-data` (base64), which wins as in kubectl, or from `key` (a file)."""
    try:
        if isinstance(entry.get(f"{key}-data"), str):
            return base64.b64decode(str(entry[f"{key}-data"]), validate=True).decode()
        named = entry.get(key)
        return (path.parent / str(named)).read_text(encoding="utf-8") if named else None
    except (ValueError, OSError) as problem:
        raise errors.Malformed(f"{path}: {key} cannot be read: {problem}") from problem


def _pem_file(path: Path, entry: Mapping[str, object], key: str) -> Path | None:
    """Return a file with the PEM.

    Inline data goes into a private file for as long as the process lives: OpenSSL takes files only, and kopf asks for
    them again at every login.
    """
    text = _pem(path, entry, key)
    if text is None:
        return None
    if f"{key}-data" not in entry:
        return path.parent / str(entry[key])
    with tempfile.NamedTemporaryFile("w", prefix="capstan-", suffix=".pem", delete=False) as file:  # created 0600
        file.write(text)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return Path(file.name)
