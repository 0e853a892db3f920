"""``python -m deploy.pushgateway FOLDER``: create a login and a certificate for a Pushgateway and its clients.

``FOLDER/server`` is for the gateway (``--web.config.file=FOLDER/server/web.yml``), ``FOLDER/client`` for Prometheus
and the pipelines. The authority's key is not stored: when the certificate expires, create both again.
"""

from __future__ import annotations

import argparse
import ipaddress
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from visionops.errors import StackError, VisionOpsError

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["HOSTS", "USERNAME", "main", "write_access"]

USERNAME = "visionops"
HOSTS = ("pushgateway", "localhost", "127.0.0.1")
_DAYS = 825
_WEB = """\
# Pushgateway: --web.config.file. Paths are relative to this file.
tls_server_config:
  cert_file: tls.crt
  key_file: tls.key
basic_auth_users:
  {username}: {password}
"""


def write_access(folder: Path, hosts: Sequence[str] = HOSTS, days: int = _DAYS) -> None:
    """Write the files of both sides into ``folder``, which only its owner can open.

    The files themselves are readable by all, because containers that mount them run as another user.

    Args:
        hosts: Host names and addresses of the gateway.
        days: Days until its certificate expires.

    Raises:
        StackError: The folder is not empty, or cannot be written.
    """
    import bcrypt

    password = secrets.token_urlsafe(24)
    hashed = bcrypt.hashpw(password.encode(), bcrypt.gensalt(10)).decode()
    authority, certificate, key = _certificates(hosts, days)
    files = {
        "server/web.yml": _WEB.format(username=USERNAME, password=hashed).encode(),
        "server/tls.crt": certificate,
        "server/tls.key": key,
        "client/ca.crt": authority,
        "client/username": USERNAME.encode(),
        "client/password": password.encode(),
    }
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StackError(f"{folder}: is not empty; remove it to create new files, then restart the gateway")
        folder.chmod(0o700)
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.parent.chmod(0o755)
            path.write_bytes(content)
            path.chmod(0o644)
    except OSError as error:
        raise StackError(f"{folder}: cannot be written ({error.strerror}); name another folder") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files and print the environment variables to set."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.pushgateway", description="Create a login and a certificate for a Pushgateway."
    )
    parser.add_argument("folder", type=Path, help="new folder, which only its owner can open")
    parser.add_argument("--host", action="append", help=f"host name or address; {', '.join(HOSTS)} when absent")
    parser.add_argument("--days", type=int, default=_DAYS, help="days until the certificate expires")
    given = parser.parse_args(arguments)
    try:
        write_access(given.folder, given.host or HOSTS, given.days)
    except VisionOpsError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    client = given.folder.resolve() / "client"
    sys.stdout.write(
        f"export VISIONOPS_PUSHGATEWAY=https://{(given.host or ['127.0.0.1'])[0]}:9091\n"
        f"export VISIONOPS_PUSHGATEWAY_USERNAME={USERNAME}\n"
        f'export VISIONOPS_PUSHGATEWAY_PASSWORD="$(cat {client}/password)"\n'
        f"export VISIONOPS_PUSHGATEWAY_CA={client}/ca.crt\n"
    )
    return 0


def _certificates(hosts: Sequence[str], days: int) -> tuple[bytes, bytes, bytes]:
    """Return the authority's certificate, the server's certificate and the server's key, all PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(name: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    begin = datetime.now(UTC) - timedelta(hours=1)  # clocks differ
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def draft(subject: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named("VisionOps Pushgateway authority"))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days, hours=1))
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )

    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    authority = (
        draft("VisionOps Pushgateway authority", authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), critical=True
        )
        .sign(authority_key, hashes.SHA256())
    )
    certificate = (
        draft(hosts[0], key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return authority.public_bytes(Encoding.PEM), certificate.public_bytes(Encoding.PEM), private


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


if __name__ == "__main__":
    sys.exit(main())
