# shellcheck shell=bash
# How proot is told what enter.sh wants. Sourced by sandbox/run, for the method "proot": it
# needs no namespace and no mount, since it translates the paths in COMMAND's system calls.
# It cannot make anything read-only, and has no processes of its own: see contain.py.
# shellcheck disable=SC2154  # sandbox/run sets here

begin_sandbox() {
    local site=("$1"/etc/python3.*)
    # Short, as paths of sockets must be.
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/vs.XXXXXX")
    arguments=(-r "$1" -b /proc -b /dev -b /sys)
    variables=()
    if ((EUID == 0)); then
        arguments+=(-i 1000:1000)
    else
        # The kernel tells others the true one, as of a socket's peer.
        mount_text "vine:x:$(id -u):$(id -g)::$HOME_INSIDE:/bin/bash
$(grep -v ^vine: "$1/etc/passwd")" /etc/passwd
        mount_text "vine:x:$(id -g):
$(grep -v ^vine: "$1/etc/group")" /etc/group
    fi
    mount_empty /dev/shm 1777
    # A child that shares its parent's memory until exec, as by vfork, can end the parent
    # under proot 5.1.
    mount_text 'import subprocess
subprocess._USE_VFORK = subprocess._USE_POSIX_SPAWN = False' "${site[0]#"$1"}/sitecustomize.py"
}

mount_writable() {
    [[ $1$2 != *:* ]] || fail "proot cannot use a path with a colon" "$1" "move it to another place"
    arguments+=(-b "$1:$2")
}

mount_read_only() { mount_writable "$@"; }
make_directory() { mkdir -p "$scratch$1"; }
set_variable() { variables+=("$1=$2"); }
working_directory() { arguments+=(-w "$1"); }
close_root() { :; }

mount_empty() {
    mkdir -p "$scratch$1"
    chmod "${2:-755}" "$scratch$1"
    mount_writable "$scratch$1" "$1"
}

mount_text() {
    local file
    file=$(mktemp "$scratch/text.XXXXXX")
    printf '%s\n' "$1" >"$file"
    chmod 644 "$file"
    mount_writable "$file" "$2"
}

# In proot COMMAND has a contain.py of its own, since proot itself ends with its last process,
# with that one's status. The outer one sees that we end.
enter_sandbox() {
    local report=() python proot fd
    python=$(command -v python3)
    proot=$(command -v proot)
    [[ $1 == -- ]] || { report=(--report "$1") && shift; }
    # condor_shadow can crash at its end under proot, and would leave a core file in the
    # checkout, whatever the soft limit is.
    ulimit -c 0
    # Here and not by env: proxy variables may hold passwords, and everybody can read a
    # command line.
    exec {fd}< <(printf '%s\0' "${variables[@]}" "PROOT_TMP_DIR=$scratch")
    exec "${new_session[@]}" "$python" "$here/contain.py" --parent $$ --environment "$fd" \
        --remove "$scratch" -- "$proot" "${arguments[@]}" /usr/bin/env -u PROOT_TMP_DIR \
        /usr/bin/python3 -I "$here/contain.py" --for-proot "${report[@]}" "$@"
}

end_sandbox() { [[ ! -d ${scratch:-} ]] || rm -rf "$scratch" 2>/dev/null || true; }
