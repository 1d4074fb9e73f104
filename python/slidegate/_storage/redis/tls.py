"""How the certificate of a Redis server is checked, and which of ours it is shown."""

from __future__ import annotations

import ssl
from pathlib import Path

from ..._support.errors import ConfigurationError
from .options import Options

_READ_BY_OPENSSL = "ca_file, cert_file, key_file, ssl_ca_path, ssl_ca_data, ssl_password, ssl_ciphers"
_VERSIONS = [each for each in ssl.TLSVersion if each.name.startswith("TLS")]


def tls_of(options: Options) -> ssl.SSLContext:
    """Raises ConfigurationError for files that are not there, and for what OpenSSL does not take."""
    for name in ("ca_file", "cert_file", "key_file"):
        path = options.text(name)
        if path is not None and not Path(path).is_file():
            raise ConfigurationError(f"storage_uri: {name}: there is no file {path!r}")
    authorities = options.text("ssl_ca_path")
    if authorities is not None and not Path(authorities).is_dir():
        raise ConfigurationError(f"storage_uri: ssl_ca_path: there is no directory {authorities!r}")
    certificate, key = options.text("cert_file"), options.text("key_file")
    if key and not certificate:
        raise ConfigurationError("storage_uri: key_file is of no use without cert_file")
    try:
        context = ssl.create_default_context(
            cafile=options.text("ca_file"), capath=authorities, cadata=options.text("ssl_ca_data")
        )
        if certificate:
            context.load_cert_chain(certificate, key, options.text("ssl_password") or _no_passphrase)
        if ciphers := options.text("ssl_ciphers"):
            context.set_ciphers(ciphers)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigurationError(f"storage_uri: {_READ_BY_OPENSSL}: {error}") from error
    if version := options.text("ssl_min_version"):
        context.minimum_version = _version(version)
    context.verify_flags |= _flags(options, "ssl_include_verify_flags")
    context.verify_flags &= ~_flags(options, "ssl_exclude_verify_flags")
    is_verified = options.truth("verify", default=True)
    context.check_hostname = is_verified and options.truth("ssl_check_hostname", default=True)
    if not is_verified:
        context.verify_mode = ssl.CERT_NONE
    return context


def _version(text: str) -> ssl.TLSVersion:
    for version in _VERSIONS:
        if text in (version.name, str(int(version))):
            return version
    known = ", ".join(f"{int(version)} ({version.name})" for version in _VERSIONS)
    raise ConfigurationError(f"storage_uri: ssl_min_version is one of {known}, not {text!r}")


def _flags(options: Options, option: str) -> ssl.VerifyFlags:
    flags = ssl.VerifyFlags.VERIFY_DEFAULT
    for name in (options.text(option) or "").strip("[]").split(","):
        if not name.strip():
            continue
        if name.strip() not in ssl.VerifyFlags.__members__:
            known = ", ".join(ssl.VerifyFlags.__members__)
            raise ConfigurationError(f"storage_uri: {option} is made of {known}, not {name.strip()!r}")
        flags |= ssl.VerifyFlags[name.strip()]
    return flags


def _no_passphrase() -> str:
    # Without this, OpenSSL would ask for one on the terminal.
    raise ConfigurationError(
        "storage_uri: key_file has a passphrase; give it as ssl_password, or use a key without one"
    )
