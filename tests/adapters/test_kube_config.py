"""Kubeconfig files and the pod's own ServiceAccount; every wrong one is one clear error."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from capstan.adapters import errors
from capstan.adapters.kube import config

Entry = dict[str, object]


def kubeconfig(folder: Path, user: Entry, **cluster: object) -> Path:
    document = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://api:6443/", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(document))
    return file


def test_a_token(tmp_path: Path) -> None:
    found = config.load(kubeconfig(tmp_path, {"token": "secret"}))
    assert (found.url, found.bearer()) == ("https://api:6443", "secret")


def test_a_token_file_is_read_again_and_wins_over_a_token(tmp_path: Path) -> None:
    found = config.load(kubeconfig(tmp_path, {"tokenFile": "token", "token": "old"}))
    for word in ("one", "two"):
        (tmp_path / "token").write_text(word + "\n")
        assert found.bearer() == word


def test_a_token_file_that_is_gone_is_denied(tmp_path: Path) -> None:
    found = config.load(kubeconfig(tmp_path, {"tokenFile": "nowhere"}))
    with pytest.raises(errors.Denied, match="token file cannot be read"):
        found.bearer()


def test_inline_keys_lie_in_private_files(tmp_path: Path) -> None:
    data = base64.b64encode(b"-----BEGIN X-----\n").decode()
    user: Entry = {"client-certificate-data": data, "client-key-data": data}
    found = config.load(kubeconfig(tmp_path, user))
    assert found.client_key is not None
    assert found.client_key.read_bytes() == b"-----BEGIN X-----\n"
    assert found.client_key.stat().st_mode & 0o077 == 0
    with pytest.raises(errors.Malformed, match="not usable PEM"):
        found.context()


def test_files_are_found_beside_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("PEM")
    assert config.load(kubeconfig(tmp_path, {}, **{"certificate-authority": "ca.crt"})).ca == "PEM"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[]", "no mapping at the top"),
        ("{", "not a readable kubeconfig"),
        ("current-context: nowhere", "no entry 'nowhere' under contexts"),
    ],
    ids=["a list", "broken YAML", "a context that is not there"],
)
def test_a_file_that_is_no_kubeconfig(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(errors.Malformed, match=says):
        config.load(tmp_path / "kubeconfig")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(errors.Malformed, match="not a readable kubeconfig"):
        config.load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("user", "cluster", "says"),
    [
        ({"exec": {"command": "aws"}}, {}, r"user\.exec is not supported: use .*token"),
        ({"auth-provider": {}}, {}, r"user\.auth-provider is not supported"),
        ({"username": "u", "password": "p"}, {}, r"user\.username is not supported"),
        ({}, {"proxy-url": "http://p"}, r"cluster\.proxy-url is not supported"),
        ({}, {"server": "api:6443"}, r"cluster\.server must be https://HOST:PORT, and is 'api:6443'"),
        ({}, {"certificate-authority": "nowhere.crt"}, "certificate-authority cannot be read"),
        ({"client-key-data": "%%%"}, {}, "client-key cannot be read"),
    ],
    ids=["exec", "auth-provider", "a password", "a proxy", "no scheme", "no such CA", "no base64"],
)
def test_what_this_client_does_not_do_is_said(user: Entry, cluster: Entry, says: str, tmp_path: Path) -> None:
    """A field that was ignored would be found out by an odd 401 or a wrong server."""
    with pytest.raises(errors.Malformed, match=says):
        config.load(kubeconfig(tmp_path, user, **cluster))


def test_outside_a_cluster_a_kubeconfig_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(errors.Malformed, match="--kubeconfig"):
        config.load(None)


def test_inside_a_pod_the_service_account_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(config, "SERVICE_ACCOUNT", tmp_path)
    (tmp_path / "token").write_text("rotated\n")
    (tmp_path / "ca.crt").write_text("PEM")
    found = config.load(None)
    assert (found.url, found.bearer(), found.ca) == ("https://[fd00::1]:443", "rotated", "PEM")
