"""A key and a certificate of its own, for a server that no client has to trust."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path


def chain() -> str:
    """Return a new key and its certificate in one text, as smtpd_tls_chain_files wants them."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("key.pem", "certificate.pem")]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x"]
        command += ["-keyout", str(files[0]), "-out", str(files[1])]
        subprocess.run(command, check=True, capture_output=True)
        return "".join(file.read_text(encoding="ascii") for file in files)
