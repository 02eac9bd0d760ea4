# shellcheck shell=bash
# The way into the sandbox: what is mounted, which variables are kept, and how signals get to
# the command. Sourced by sandbox/run, which sets cache, checkout (its true path) and
# checkout_link (its path as the caller knows it), and sources bubblewrap.sh or proot.sh for
# mount_writable and its like.
# shellcheck disable=SC2154

# Places inside. The virtual environment has one place for all checkouts; the checkout keeps
# its own path, so that messages, editors and the command agree about file names.
readonly VENV_INSIDE=/venv
readonly HOME_INSIDE=/home/vine
readonly PATH_INSIDE=$VENV_INSIDE/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# --- variables -------------------------------------------------------------------------

# Variables that go in as they are. The others stay outside: settings of the host's HTCondor,
# Python or linker name things that the sandbox does not have.
kept_variable() {
    case $1 in
        VINE_SHAREDPORT_*) ;;
        CI | TERM | COLORTERM | NO_COLOR | FORCE_COLOR | COLUMNS | LINES | TZ | SOURCE_DATE_EPOCH) ;;
        http_proxy | https_proxy | ftp_proxy | all_proxy | no_proxy) ;;
        HTTP_PROXY | HTTPS_PROXY | FTP_PROXY | ALL_PROXY | NO_PROXY) ;;
        # These would send pip elsewhere than into a virtual environment and our cache.
        PIP_TARGET | PIP_PREFIX | PIP_ROOT | PIP_PYTHON | PIP_CACHE_DIR | PIP_USER) return 1 ;;
        PIP_*) ;;
        SSL_CERT_FILE | SSL_CERT_DIR | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | GIT_SSL_CAINFO) ;;
        PYTEST_* | HYPOTHESIS_* | COVERAGE_* | RUFF_* | MYPY_* | GIT_AUTHOR_* | GIT_COMMITTER_*) ;;
        PYTHONDEVMODE | PYTHONWARNINGS | PYTHONASYNCIODEBUG | PYTHONFAULTHANDLER) ;;
        PYTHONUNBUFFERED | PYTHONHASHSEED | PYTHONTRACEMALLOC) ;;
        *) return 1 ;;
    esac
}

environment_arguments() {
    local name
    while read -r name; do
        if kept_variable "$name"; then
            set_variable "$name" "${!name}"
        fi
    done <<<"$(compgen -e)"
    set_variable HOME "$HOME_INSIDE"
    set_variable USER vine
    set_variable LOGNAME vine
    set_variable SHELL /bin/bash
    set_variable LANG C.UTF-8
    set_variable PATH "$PATH_INSIDE"
    set_variable VIRTUAL_ENV "$VENV_INSIDE"
    set_variable PIP_CACHE_DIR "$HOME_INSIDE/.cache/pip"
    set_variable VINE_SHAREDPORT_SANDBOX "$method"
}

# --- files of the host -----------------------------------------------------------------

# local_path PATH: mount a file or directory of the host read-only at its own path, unless it
# is missing or lies where the sandbox has its own.
local_path() {
    local path=${1%/}
    case $path in
        '' | */../* | */.. | /proc/* | /sys/* | /dev/* | /etc/ssl/certs | /etc/ssl/certs/*) return ;;
        /*/*) ;;
        # Of the directories at the top only those that no Debian has.
        /bin | /boot | /dev | /etc | /home | /lib* | /opt | /proc | /root | /run | /sbin | /srv | /sys | /tmp | /usr | /var) return ;;
    esac
    if [[ -e $path && -r $path ]]; then
        mount_read_only "$path" "$path"
    fi
}

# pip_paths TEXT: the paths in a setting of pip: wheels, indexes made of files, certificates.
pip_paths() {
    local word words
    read -r -d '' -a words <<<"$1" || true
    for word in "${words[@]}"; do
        case $word in
            file:///*)
                word=${word#file://}
                word=${word%/}
                # The pages of such an index link to the files beside it (../../files/...).
                local_path "${word%/*}"
                local_path "$word"
                ;;
            /*) local_path "$word" ;;
        esac
    done
}

pip_arguments() {
    local name file text
    while read -r name; do
        [[ $name != PIP_* ]] || pip_paths "${!name}"
    done <<<"$(compgen -e)"
    local -A places=(
        [/etc/pip.conf]=/etc/pip.conf
        [/etc/xdg/pip/pip.conf]=/etc/xdg/pip/pip.conf
        ["$HOME/.pip/pip.conf"]=$HOME_INSIDE/.pip/pip.conf
        ["${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf"]=$HOME_INSIDE/.config/pip/pip.conf
    )
    if [[ ${PIP_CONFIG_FILE:-} == /*/* ]]; then
        places[$PIP_CONFIG_FILE]=$PIP_CONFIG_FILE
    fi
    for file in "${!places[@]}"; do
        if [[ -f $file && -r $file ]]; then
            read -r -d '' text <"$file" || true # the whole file; see sandbox_lives
            pip_paths "${text//=/ }"
            mount_read_only "$file" "${places[$file]}"
        fi
    done
}

certificate_arguments() {
    local name
    # The host's bundle, since it may hold the certificate of a proxy that opens TLS
    # connections. The links in the first directory point to the other two.
    if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then
        for name in /etc/ssl/certs /usr/share/ca-certificates /usr/local/share/ca-certificates; do
            [[ ! -d $name ]] || mount_read_only "$name" "$name"
        done
    fi
    for name in SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO; do
        [[ ${!name:-} != /* ]] || local_path "${!name}"
    done
}

# The host's own name must resolve: HTCondor waits 15 s and more for one that does not. It
# leads to the loopback address, where a personal pool listens.
hosts_file() {
    local line word others='' names=''
    while IFS= read -r line || [[ -n $line ]]; do
        line=${line%%#*}
        case " ${line//$'\t'/ } " in
            *" $HOSTNAME "*)
                # Its other names stay its names, the domain's first as it is there.
                for word in ${line#*[$' \t']}; do
                    [[ " $names localhost " == *" $word "* ]] || names+="${names:+ }$word"
                done
                ;;
            *" localhost "*) ;;
            *) others+=$line$'\n' ;;
        esac
    done < <(cat /etc/hosts 2>/dev/null)
    printf '127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n'
    [[ $HOSTNAME == localhost ]] || printf '127.0.0.1 %s\n' "${names:-$HOSTNAME}"
    printf '%s' "$others"
}

# --- all of it -------------------------------------------------------------------------

# sandbox_arguments ROOT VENV: say what is mounted and set. ROOT is writable until close_root,
# VENV is not; an empty VENV is none. The caller calls end_sandbox when all is over.
sandbox_arguments() {
    local root=$1 venv=$2 site
    begin_sandbox "$root"
    mount_empty /tmp 1777
    mount_empty /var/tmp 1777
    mount_empty /run
    make_directory /run/lock
    mount_empty "$HOME_INSIDE"
    make_directory "$HOME_INSIDE/.cache"
    mount_writable "$cache/pip" "$HOME_INSIDE/.cache/pip"
    mount_text "$(hosts_file)" /etc/hosts
    [[ ! -e /etc/resolv.conf ]] || mount_read_only /etc/resolv.conf /etc/resolv.conf
    certificate_arguments
    pip_arguments
    if [[ -n $venv ]]; then
        site=("$venv"/lib/python3*/site-packages)
        mount_read_only "$venv" "$VENV_INSIDE"
        # The checkout's code is what runs: one line in a .pth file, made for each call.
        mount_text "$checkout" "$VENV_INSIDE${site[0]#"$venv"}/vine_sharedport_checkout.pth"
    fi
    mount_writable "$checkout" "$checkout"
    # The path by which the caller knows it, when a directory above is a symbolic link.
    [[ $checkout_link == "$checkout" ]] || mount_writable "$checkout" "$checkout_link"
    environment_arguments
}

# --- running the command ---------------------------------------------------------------

# Set command_pid to COMMAND's pid as we see it, the first child of the sandbox's process 1 where
# it has one; fails while COMMAND does not run.
find_command() {
    local pids=$sandbox_pid name=''
    if [[ $method == bubblewrap ]]; then
        { read -r pids <"/proc/$sandbox_pid/task/$sandbox_pid/children"; } 2>/dev/null || true
    fi
    command_pid=${pids%% *}
    [[ -n $command_pid ]] || return 1
    # These have still to become COMMAND, and ignore signals until then.
    { read -r name <"/proc/$command_pid/comm"; } 2>/dev/null || true
    [[ $name != bwrap && $name != contain.py && $name != prooted-* && $name != env ]]
}

# pass_on SIGNAL: let COMMAND have a signal that came to us.
pass_on() {
    local command_pid='' tries
    interrupted=$1
    # run_inside passes it on when it knows whom to.
    [[ -n $sandbox_pid ]] || { early=$1 && return; }
    for ((tries = 0; tries < 500; tries++)); do
        if find_command; then
            break
        fi
        [[ -d /proc/$outer_pid ]] || return 0
        sleep 0.01
    done
    # Without a COMMAND to decide, the signal ends what is there.
    if [[ -n $command_pid ]]; then
        kill -s "$1" "$command_pid" 2>/dev/null || true
    else
        # contain.py ends what it has started on USR1; of bubblewrap USR1 is the death.
        kill -s USR1 "$outer_pid" 2>/dev/null || true
    fi
}

# Whether the sandbox's process 1 lives. When it is a zombie, all the others have ended; who
# reaps it, and how soon, is the host's affair: some do it before we look. Read, and never
# $(<FILE): in bash 5.2 with set -e that ends the shell when the file has vanished, also
# within an || list.
sandbox_lives() {
    local stat=''
    [[ -n $sandbox_pid ]] || return 1
    { read -r stat <"/proc/$sandbox_pid/stat"; } 2>/dev/null || return 1
    [[ ${stat##*) } != [ZX]* ]]
}

# What enter_sandbox starts first, for a session of its own.
new_session=()

# run_inside COMMAND...: run it in the sandbox of sandbox_arguments and exit as it does.
#
# bubblewrap and contain.py pass no signals on: one that ended them would take COMMAND along
# with SIGKILL, before it could tidy up. So they ignore them, COMMAND gets them from the
# terminal or from us, and we stay until COMMAND has ended. The kernel, or contain.py, ends
# what it leaves behind.
run_inside() {
    local in out report line status signal signals='' result=''
    local outer_pid='' sandbox_pid='' interrupted='' early=''
    for signal in HUP INT QUIT TERM; do
        # One that we were started without, as by nohup, stays ignored.
        [[ $(trap -p "$signal") == "trap -- '' "* ]] || signals+=${signals:+,}$signal
    done
    if { : </dev/tty; } 2>/dev/null; then
        # Ctrl-C and Ctrl-\ reach COMMAND from the terminal, as a member of its foreground
        # group. To pass them on as well would interrupt its tidying up.
        [[ $signals != *HUP* ]] || trap 'pass_on HUP' HUP
        trap 'interrupted=INT' INT QUIT
    else
        # A group of its own: a signal to our whole group would come to COMMAND twice.
        new_session=("$(command -v setsid)")
        [[ $signals != *HUP* ]] || trap 'pass_on HUP' HUP
        trap 'pass_on INT' INT
        trap 'pass_on QUIT' QUIT
    fi
    trap 'pass_on TERM' TERM
    exec {in}<&0 {out}>&1
    # The report is what we read here: the sandbox's pid, later the exit status.
    exec {report}< <(
        trap '' HUP INT QUIT TERM
        exec {status}>&1 >&"$out" <&"$in" {in}<&- {out}>&- {in_use}<&-
        enter_sandbox "$status" -- env ${signals:+"--default-signal=$signals"} -- "$@"
    )
    outer_pid=$!
    exec {in}<&- {out}>&-
    if read -r line <&"$report" && [[ $line =~ \"child-pid\":\ ([0-9]+) ]]; then
        sandbox_pid=${BASH_REMATCH[1]}
    fi
    [[ -z $early ]] || pass_on "$early"
    # A signal ends the wait, not the process.
    status=0
    wait "$outer_pid" || status=$?
    while ((status > 128)) && [[ -d /proc/$outer_pid ]]; do
        status=0
        wait "$outer_pid" || status=$?
    done
    while read -r line <&"$report"; do
        [[ ! $line =~ \"exit-code\":\ ([0-9]+) ]] || result=${BASH_REMATCH[1]}
    done
    if [[ -z $result && -n $interrupted ]]; then
        exit $((128 + $(kill -l "$interrupted")))
    elif [[ -z $result ]] && ((status > 128)); then
        exit "$status" # somebody killed bubblewrap or contain.py
    elif [[ -z $result ]]; then
        # Before COMMAND began; the message stands above.
        fail "the sandbox did not start" "the message above, exit status $status" \
            "correct the cause; if a mount point could not be made, make $cache writable;" \
            "if the root is damaged: sandbox/run --rebuild"
    fi
    # The kernel ends what COMMAND left behind, within milliseconds.
    while sandbox_lives; do
        sleep 0.01
    done
    answered=1
    exit "$result"
}
