"""Signed bundles: only those of the trusted key's owner load, whatever the digests say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.builders import write_manifest
from tests.running import environment, run_to_exit, server_process
from turnout.serving.bundles.bundle import load_bundle, read_manifest, sign_bundle
from turnout.serving.bundles.manifest import MANIFEST_SIGNATURE
from turnout.serving.bundles.signing import KeyRefused, new_key
from turnout.serving.errors import BundleRefused, how_to_install


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return new_key(tmp_path / "release")


@pytest.fixture
def signed(bundle_folder: Path, tmp_path: Path, keys: tuple[Path, Path]) -> Path:
    folder = shutil.copytree(bundle_folder, tmp_path / "signed")
    assert sign_bundle(folder, keys[0]) == folder / MANIFEST_SIGNATURE
    return folder


def test_signed_bundle_loads_with_and_without_the_key(signed: Path, keys: tuple[Path, Path]):
    assert load_bundle(signed, keys[1]).manifest == load_bundle(signed).manifest


def test_unsigned_bundle_is_refused_by_name(bundle_folder: Path, keys: tuple[Path, Path]):
    with pytest.raises(BundleRefused, match=MANIFEST_SIGNATURE):
        load_bundle(bundle_folder, keys[1])


def test_changed_manifest_with_a_right_digest_is_refused(signed: Path, keys: tuple[Path, Path]):
    manifest = read_manifest(signed)
    write_manifest(signed, msgspec.structs.replace(manifest, golden_tolerance=0.5))
    assert load_bundle(signed).manifest.golden_tolerance == 0.5
    with pytest.raises(BundleRefused, match="not the signature of manifest"):
        load_bundle(signed, keys[1])


def test_signature_by_another_key_is_refused_and_replaced_by_the_right_one(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
):
    sign_bundle(signed, new_key(tmp_path / "other")[0])
    with pytest.raises(BundleRefused, match=MANIFEST_SIGNATURE):
        load_bundle(signed, keys[1])
    sign_bundle(signed, keys[0])
    assert load_bundle(signed, keys[1])


@pytest.mark.parametrize("signature", [b"", b"\n", b"!!", b"AAAA", b"\xff" * 64, b"x" * 10_000])
def test_damaged_signature_is_refused(signed: Path, keys: tuple[Path, Path], signature: bytes):
    (signed / MANIFEST_SIGNATURE).write_bytes(signature)
    with pytest.raises(BundleRefused, match=MANIFEST_SIGNATURE):
        load_bundle(signed, keys[1])


def test_signature_through_a_link_is_refused(signed: Path, keys: tuple[Path, Path], tmp_path: Path):
    (signed / MANIFEST_SIGNATURE).rename(tmp_path / "elsewhere")
    (signed / MANIFEST_SIGNATURE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleRefused, match="symbolic link"):
        load_bundle(signed, keys[1])


def test_private_key_is_for_its_user_alone_and_never_overwritten(keys: tuple[Path, Path], tmp_path: Path):
    assert keys[0].stat().st_mode & 0o777 == 0o600
    before = keys[0].read_bytes()
    with pytest.raises(KeyRefused, match="exists already"):
        new_key(tmp_path / "release")
    assert keys[0].read_bytes() == before


def test_wrong_key_files_are_refused_by_name(signed: Path, keys: tuple[Path, Path], tmp_path: Path):
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"secret nonsense")
    for path in (nonsense, tmp_path / "absent", keys[1]):
        with pytest.raises(KeyRefused, match=str(path)) as refused:
            sign_bundle(signed, path)
        assert "secret" not in str(refused.value)
    for path in (nonsense, tmp_path / "absent", keys[0]):
        with pytest.raises(KeyRefused, match=str(path)):
            load_bundle(signed, path)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_service_asks_for_the_signature(
    signed: Path, bundle_folder: Path, keys: tuple[Path, Path], tmp_path: Path, workers: int
):
    with server_process(signed, tmp_path / "log", "--trusted-key", keys[1], workers=workers) as server:
        assert server.ready_line
    refused = run_to_exit(bundle_folder, "127.0.0.1:0", "--trusted-key", keys[1], workers=workers)
    assert refused.returncode == 3
    assert str(bundle_folder / MANIFEST_SIGNATURE) in refused.stderr


def test_key_sign_and_verify_on_the_command_line(bundle_folder: Path, tmp_path: Path):
    folder = shutil.copytree(bundle_folder, tmp_path / "bundle")

    def turnout(*arguments: object) -> int:
        command = [sys.executable, "-m", "turnout.serving.cli.app", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, check=False, env=environment()).returncode

    assert turnout("key", "new", tmp_path / "k") == 0
    assert turnout("bundle", "verify", folder, "--trusted-key", tmp_path / "k.pub") == 3
    assert turnout("bundle", "sign", folder, "--key", tmp_path / "k.key") == 0
    assert turnout("bundle", "verify", folder, "--trusted-key", tmp_path / "k.pub") == 0


def test_without_cryptography_only_signatures_are_refused(signed: Path, keys: tuple[Path, Path], tmp_path: Path):
    absent = tmp_path / "absent" / "cryptography"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ModuleNotFoundError(name='cryptography')\n")
    code = "import sys; from pathlib import Path; from turnout.serving.bundles.bundle import load_bundle\n"
    code += "load_bundle(Path(sys.argv[1]))\nload_bundle(Path(sys.argv[1]), Path(sys.argv[2]))"
    paths = environment() | {"PYTHONPATH": os.pathsep.join([str(absent.parent), environment()["PYTHONPATH"]])}
    done = subprocess.run(
        [sys.executable, "-c", code, str(signed), str(keys[1])], capture_output=True, text=True, check=False, env=paths
    )
    assert done.stderr.strip().endswith(f"{how_to_install('signing')}")
