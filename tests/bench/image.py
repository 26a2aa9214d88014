"""The image of the bench: a machine's image with the peers' packages, in a copy of its own."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
from pathlib import Path

from tests.archive import DEBIAN, SECURITY, archive
from tests.machine.image import ImageError, cache_dir, image

# A release has some of these: mgmt is only in Debian 13. Salt is in neither, and comes from where
# its users get it.
PACKAGES = (
    "ansible-core",
    "cfengine3",
    "inotify-tools",
    "mgmt",
    "monit",
    "puppet",
    # One of Salt's libraries is compiled.
    "gcc",
    "libc6-dev",
    "python3-dev",
    "python3-venv",
)
SALT = "/opt/salt"

_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"

# Their services stay off: each peer is started and measured on its own.
_INSTALL = """
set -e
release=$1 salt=$2 archive=$3 security=$4
shift 4
cat > /etc/apt/sources.list << END
deb $archive $release main
deb $security $release-security main
END
echo 'APT::Sandbox::User "root";' > /etc/apt/apt.conf.d/bench
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
for package; do
    if [ -n "$(apt-cache madison "$package" 2> /dev/null)" ]; then
        apt-get -q -y --no-install-recommends install "$package"
    fi
done
rm /etc/apt/sources.list
python3 -m venv "$salt"
"$salt/bin/pip" install -q salt
for unit in cfengine3 cf-execd cf-monitord cf-serverd mgmt monit puppet; do
    systemctl disable "$unit" || true
done
"""


def bench_image(release: str) -> Path:
    """Return the root directory of the release with the peers in it, made (a minute) if needed.

    Raises ImageError. Like the image that it is a copy of, it is never written to.
    """
    base = image(release)
    recipe = "\0".join([base.name, _INSTALL, SALT, *PACKAGES])
    folder = cache_dir() / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / f"{release}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with open(folder / f"{release}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.is_dir():
            _build(base, release, root)
    return root


def _build(base: Path, release: str, root: Path) -> None:
    partial = root.with_name(f"{root.name}.partial")
    subprocess.run(["rm", "-rf", "--one-file-system", str(partial)], check=True)
    subprocess.run(["cp", "-a", str(base), str(partial)], check=True)
    # With the host's network and certificates, in a mount namespace of its own: none of that
    # outlives the build.
    command = [
        *("unshare", "--mount", "systemd-nspawn", "--quiet", "--pipe", "--as-pid2"),
        *("--register=no", "--keep-unit", "--settings=no", "--timezone=off"),
        *("--resolv-conf=replace-host", f"--machine=bench-{release}", "-D", str(partial)),
        *(f"--bind-ro={_CERTIFICATES}:/run/certificates", "--setenv=PIP_CERT=/run/certificates"),
        *("sh", "-c", _INSTALL, "sh", release, SALT, archive(DEBIAN), archive(SECURITY)),
        *PACKAGES,
    ]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        tail = done.stdout.decode(errors="replace").splitlines()[-15:]
        raise ImageError("\n".join(["the peers could not be installed:", *tail]))
    (partial / "etc/resolv.conf").write_text("")
    partial.rename(root)
