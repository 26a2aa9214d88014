# shellcheck shell=bash
# Sourced by the tools, in the checkout: the packages that a step needs, installed only if they are
# missing.

cache=${PF_AGENT_CACHE:-$PWD/.cache}

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

# venv NAME PYTHON OPTION REQUIREMENT...: made once, and again when the requirements change.
venv() {
    local folder=$cache/$1 python=$2 option=$3
    shift 3
    if [ "$(cat "$folder/made-of" 2> /dev/null)" != "$python $*" ]; then
        say "making $folder"
        rm -rf "$folder"
        "$python" -m venv ${option:+"$option"} "$folder"
        "$folder/bin/pip" install -qq --disable-pip-version-check "$@"
        echo "$python $*" > "$folder/made-of"
    fi
}

# The fuzzer, and what the parsers import; the rest of the agent is not loaded.
fuzz_venv() {
    need python3 python3-venv
    # Not tomli's compiled wheel: it never frees the text of a file that it refuses, and after two
    # million of them the fuzzer is out of memory.
    venv fuzz /usr/bin/python3 '' --no-binary=tomli 'atheris>=3.0,<4' tomli==2.2.1 tomlkit==0.13.2
}
