"""Ed25519 signatures over a bundle's manifest: who made this bundle, where digests only say that it is whole.

    manifest.json  (lists the SHA-256 of every other file)  ->  manifest.sig  (base64, one line)

Keys are PEM files (PKCS #8, SubjectPublicKeyInfo), as OpenSSL writes them. Needs the package
`cryptography`, which is imported only when a signature is made or asked for.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import os
from pathlib import Path
from typing import Any

from turnout.serving.errors import EXIT_USAGE, TurnoutError, how_to_install

MAX_KEY_BYTES = 16 << 10


class KeyRefused(TurnoutError):
    """A key that can't be used: unreadable, of another kind, or the package for it is missing."""

    exit_code = EXIT_USAGE


def new_key(name: Path) -> tuple[Path, Path]:
    """Write a new pair of keys, `<name>.key` for this user alone and `<name>.pub`; return both paths.

    Raises:
        KeyRefused: one of the files exists; a key is never overwritten.
    """
    serialization = _cryptography("hazmat.primitives.serialization")
    key = _cryptography("hazmat.primitives.asymmetric.ed25519").Ed25519PrivateKey.generate()
    pem, public = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths = Path(f"{name}.key"), Path(f"{name}.pub")
    contents = (private, 0o600), (key.public_key().public_bytes(pem, public), 0o644)
    for path, (content, mode) in zip(paths, contents, strict=True):
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            raise KeyRefused(f"{path}: exists already; keys are not overwritten, choose another name") from None
        with os.fdopen(handle, "wb") as file:
            file.write(content)
    return paths


def signature_of(raw: bytes, key: Path) -> bytes:
    """Return the signature of `raw` by the private key in the file `key`, as a line of base64.

    Raises:
        KeyRefused: the file holds no Ed25519 private key without passphrase.
    """
    load = _cryptography("hazmat.primitives.serialization").load_pem_private_key
    private = _load_key(key, lambda pem: load(pem, password=None), "Ed25519PrivateKey")
    return base64.b64encode(private.sign(raw)) + b"\n"


def is_signed_by(raw: bytes, signature: bytes, key: Path) -> bool:
    """Return whether `signature`, a line of base64, is that of `raw` by the owner of the public key in `key`.

    Raises:
        KeyRefused: the file holds no Ed25519 public key.
    """
    load = _cryptography("hazmat.primitives.serialization").load_pem_public_key
    public = _load_key(key, load, "Ed25519PublicKey")
    try:
        public.verify(base64.b64decode(signature.strip(), validate=True), raw)
    except (_cryptography("exceptions").InvalidSignature, binascii.Error):
        return False
    return True


def _load_key(path: Path, load: Any, kind: str) -> Any:
    try:
        with path.open("rb") as file:
            key = load(file.read(MAX_KEY_BYTES))
    except OSError as error:
        raise KeyRefused(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, _cryptography("exceptions").UnsupportedAlgorithm):  # their text may quote the file
        raise KeyRefused(f"{path}: expected an {kind} as PEM without passphrase; make one: turnout key new") from None
    if not isinstance(key, getattr(_cryptography("hazmat.primitives.asymmetric.ed25519"), kind)):
        raise KeyRefused(f"{path}: expected an {kind}, got {type(key).__name__}; make one: turnout key new")
    return key


def _cryptography(module: str) -> Any:
    try:
        return importlib.import_module(f"cryptography.{module}")
    except ModuleNotFoundError:
        how = how_to_install("signing")
        raise KeyRefused(f"signatures need cryptography; {how}") from None
