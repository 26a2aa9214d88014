# shellcheck shell=bash
# Sourced by the tools: Debian packages that a step needs, installed only where they are missing.

say() {
    printf '[%4d s] %s\n' "$SECONDS" "$*" >&2
}

apt_quietly() {
    if [ "$(id -u)" != 0 ]; then
        echo "$0: packages are missing and only root may install them; run it with sudo" >&2
        return 1
    fi
    local log
    log=$(mktemp)
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@"; } \
        > "$log" 2>&1 < /dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

need() {
    local package missing=()
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing+=("$package")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    apt_quietly install --no-install-recommends "${missing[@]}"
}
