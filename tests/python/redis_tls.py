"""Certificates of the tests' own, and Redis servers that show them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ports import free_port
from redis_servers import RedisServer


def make_certificates(directory: Path) -> Path:
    """An authority, what it has signed for "gate.test", and what it has signed for a client."""
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(
        directory, "req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA"
    )
    (directory / "server.ext").write_text("subjectAltName=DNS:gate.test\n")
    (directory / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for name in ("server", "client"):
        _openssl(directory, "req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        _openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return directory


def serve(certificates: Path, directory: Path, auth_clients: str, *more: str) -> tuple[RedisServer, int]:
    """A server that shows "server.pem", and the port where it does."""
    port = free_port()
    files = ("--tls-cert-file", "server.pem", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.pem")
    options = [str(certificates / each) if not each.startswith("--") else each for each in files]
    server = RedisServer(directory, "--tls-port", str(port), "--tls-auth-clients", auth_clients, *options, *more)
    return server, port


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)
