# shellcheck shell=bash
# How bubblewrap is told what enter.sh wants. Sourced by sandbox/run, for the methods
# "bubblewrap" and "bubblewrap-proc".
# shellcheck disable=SC2154  # sandbox/run sets method and here

# Start anew, with the Debian root $1, writable.
begin_sandbox() {
    arguments=(--die-with-parent --unshare-user --uid 1000 --gid 1000 --unshare-ipc --bind "$1" /)
    if [[ $method == bubblewrap ]]; then
        arguments+=(--unshare-pid --proc /proc)
    else
        arguments+=(--bind /proc /proc)
    fi
    arguments+=(--dev /dev --clearenv)
    data_fds=()
}

mount_writable() { arguments+=(--bind "$1" "$2"); }
mount_read_only() { arguments+=(--ro-bind "$1" "$2"); }
mount_empty() { arguments+=(--perms "${2:-755}" --tmpfs "$1"); }
make_directory() { arguments+=(--dir "$1"); }
set_variable() { arguments+=(--setenv "$1" "$2"); }
working_directory() { arguments+=(--chdir "$1"); }

# mount_text TEXT PLACE: a file with this text.
mount_text() {
    local fd
    exec {fd}<<<"$1"
    data_fds+=("$fd")
    arguments+=(--ro-bind-data "$fd" "$2")
}

# The last one: what was not mounted otherwise cannot be written.
close_root() { arguments+=(--remount-ro /); }

# enter_sandbox [REPORT_FD] -- COMMAND...: become COMMAND in the sandbox. The arguments go
# through a pipe: proxy variables may hold passwords, and everybody can read a command line.
enter_sandbox() {
    local fd report=() contain=()
    exec {fd}< <(printf '%s\0' "${arguments[@]}")
    [[ $1 == -- ]] || { report=(--json-status-fd "$1") && shift; }
    [[ $method == bubblewrap ]] || contain=(python3 "$here/contain.py" --parent $$ --)
    exec "${new_session[@]}" "${contain[@]}" bwrap "${report[@]}" --args "$fd" "$@"
}

# Give up what the arguments hold, when the sandbox has ended.
end_sandbox() {
    local fd
    for fd in "${data_fds[@]}"; do
        exec {fd}<&-
    done
}
