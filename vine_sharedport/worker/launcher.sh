#!/bin/sh
# Starts an unmodified worker whose manager is behind a shared port. Needs nothing but a POSIX
# sh (tested with dash and busybox) and a worker program that runs here.
#
#   launcher.sh [WORKER] [WORKER-OPTION...]
#   launcher.sh @FILE
#
# WORKER is a path or a name; without it vine_worker, else work_queue_worker. FILE has all of
# that, one argument a line, where a batch system would not bring them unchanged. What it needs it
# takes from the environment, or finds as a file beside itself or in the present directory:
#
#   VINE_SHAREDPORT_ADDRESS          vine_sharedport.address      the manager's address
#   VINE_SHAREDPORT_SECRET_FILE      vine_sharedport.secret       the manager's secret
#                                    libvine_sharedport.so        the shim
#                                    vine_sharedport.pyz          the relay, for Python 3.9
#   VINE_SHAREDPORT_TRANSPORT        auto (shim if it loads, else relay), shim or relay
#   VINE_SHAREDPORT_CONNECT_TIMEOUT  seconds after which an unreachable manager is given up
#   VINE_SHAREDPORT_PRIVATE_NETWORK  the network that this machine is in
#   VINE_SHAREDPORT_KEEPALIVE        how silent connections are probed, by default 8/8/75
#   VINE_SHAREDPORT_PYTHON           Python of the relay, else the first on PATH of 3.9 or later
#   VINE_SHAREDPORT_PYTHON_ENV       tarball by poncho or conda-pack, to run the worker in
#
# For the worker's option --contact-hostport auto it puts this machine's own address there, at which
# other workers fetch files from this one.
#
# As a wrapper before a worker's command line (vine_factory --wrapper, vine_submit_workers
# --wrapper) it puts the manager's address in the place of the one that stands there.
#
# The exit status is the worker's, or one of ExitStatus in errors.py: 75, 77, 78, 127.
set -u
# Not to be closed: a connection would get the number, and messages go into it.
for fd in 0 1 2; do [ -e "/proc/self/fd/$fd" ] || eval "exec $fd<>/dev/null"; done
by_command=${VINE_SHAREDPORT_COMMAND:-}
unset VINE_SHAREDPORT_CHECK VINE_SHAREDPORT_COMMAND
# All of VINE_SHAREDPORT_*, as in environment.py: ours, and those of other programs.
ours="ADDRESS SECRET_FILE TRANSPORT CONNECT_TIMEOUT PRIVATE_NETWORK KEEPALIVE PYTHON PYTHON_ENV"
others="OWN_POOL POOL RUN METHOD MIRROR NATIVE SUITE SANDBOX REQUIRE"

# Where the shim takes over; without the shim it leads nowhere. As in shim.c.
reserved_host=127.86.83.80 reserved_port=1

# Text that others have chosen goes through printf: echo would change its backslashes.
say() { printf '%s\n' "vine_sharedport: $(uname -n 2>/dev/null): $*" >&2; }
fail() {
    status=$1
    shift
    say "$*"
    exit "$status"
}

missing=
for each in date head sed uname; do # without an error nothing else is needed
    command -v "$each" >/dev/null || missing="$missing $each"
done
[ -z "$missing" ] || fail 78 "this script needs$missing, which PATH=${PATH:-} does not lead to;" \
    "set PATH, to /usr/bin:/bin say"

for each in $(export -p | sed -n 's/^export \(VINE_SHAREDPORT_[A-Za-z0-9_]*\).*/\1/p'); do
    case " $ours $others " in
    *" ${each#VINE_SHAREDPORT_} "*) ;;
    *)
        say "$each has no effect: there is no such variable; after VINE_SHAREDPORT_ may come $ours"
        unset "$each" # so that nobody says it again
        ;;
    esac
done

case $0 in
*/*) here=${0%/*} ;;
*) here=. ;;
esac
# shellcheck disable=SC3013 # dash, busybox and bash have it, and without it all works too
if [ "$here" -ef . ]; then here=.; fi # shorter, and LD_PRELOAD takes no path with a blank

# Print where a file is: as given, or by its name beside us or, in a job, in the present directory.
find_file() {
    if [ -n "$1" ]; then
        printf '%s\n' "$1"
    elif [ -f "$here/$2" ]; then
        printf '%s\n' "$here/$2"
    elif [ -z "$by_command" ] && [ -f "./$2" ]; then
        # Not for the command: anybody may have written what lies there. A batch job may run
        # us where we are installed, and has its files in its directory all the same.
        printf '%s\n' "./$2"
    fi
}

case ${1:-} in
@*)
    file=$(find_file '' "${1#@}")
    [ -r "$file" ] || fail 78 "the file ${1#@} with the worker's options is neither beside this" \
        "script nor in the present directory, or cannot be read; send it along"
    set --
    while IFS= read -r argument || [ -n "$argument" ]; do set -- "$@" "$argument"; done <"$file"
    ;;
esac

is_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac }
# Print a number without the zeros in front, which sh takes for octal.
plain() { printf '%s\n' "$1" | sed 's/^0*\(.\)/\1/'; }

# --- the job's directory, and a Python environment that came along ------------------------

scratch=${_CONDOR_SCRATCH_DIR:-${TMPDIR:-/tmp}}
# Make a directory of our own there and print its path.
make_directory() {
    command -v mktemp >/dev/null || fail 78 "this script needs mktemp, which PATH=$PATH does not" \
        "lead to; set PATH, to /usr/bin:/bin say, or give the worker its directory by -s"
    mktemp -d "$scratch/$1-XXXXXX" || fail 78 "cannot make a directory in $scratch; set" \
        "TMPDIR to a directory that exists, has room and can be written to"
}

unpacked=
unpack_environment() {
    [ -r "$1" ] || fail 78 "the Python environment $1 is not there, or cannot be read"
    unpacked=$(make_directory environment) || exit
    trap 'rm -rf "$unpacked"; exit 143' HUP INT QUIT TERM
    # GNU's tar and many a busybox see how it is compressed; others are told.
    said=$(tar -xf "$1" -C "$unpacked" 2>&1) || tar -xzf "$1" -C "$unpacked" 2>/dev/null || {
        rm -rf "$unpacked"
        # The first line has the reason; gzip's is empty.
        fail 78 "cannot unpack the Python environment $1 into $scratch:" \
            "$(printf '%s\n' "$said" | sed -n '/./{p;q;}'); send it again, or make it anew"
    }
    [ -d "$unpacked/bin" ] || {
        rm -rf "$unpacked"
        fail 78 "$1 has no bin/; wanted a tarball of poncho_package_create or conda-pack"
    }
    PATH=$unpacked/bin:$PATH
    CONDA_PREFIX=$unpacked
    export PATH CONDA_PREFIX
    # In a shell of its own first: a script for another shell must not end this one.
    set +u
    if [ -f "$unpacked/bin/activate" ] && (. "$unpacked/bin/activate") >/dev/null 2>&1; then
        . "$unpacked/bin/activate"
    fi
    set -u
    # The paths inside are those of where it was made. Needs the environment's own Python.
    if [ -f "$unpacked/bin/conda-unpack" ]; then
        "$unpacked/bin/conda-unpack" >&2 || say "conda-unpack failed; going on as it is"
    fi
}
[ -z "${VINE_SHAREDPORT_PYTHON_ENV:-}" ] || unpack_environment "$VINE_SHAREDPORT_PYTHON_ENV"

# --- the worker program ------------------------------------------------------------------------

# Run the program, which has it tell its version; explain why it does not run.
problems=
runs() {
    # File transfer may drop the executable bit.
    [ ! -f "$1" ] || [ -x "$1" ] || chmod u+x "$1" 2>/dev/null
    said=$("$1" --version 2>&1 </dev/null) && return
    status=$?
    missing=$(printf '%s\n' "$said" | sed -n \
        -e 's/.*loading shared libraries: \([^:]*\):.*/the library \1 is missing/p' \
        -e 's/.*version .\(GLIBC[A-Z]*_[0-9.]*\). not found.*/this machine'"'"'s libc has no \1/p' \
        -e 's/^Error loading shared library \([^:]*\):.*/the library \1 is missing/p' |
        sort -u | tr '\n' ';' | sed -e 's/;$//' -e 's/;/; /g')
    last=$(printf '%s\n' "$said" | tail -n 1)
    case $status in
    126) missing=${missing:-"it cannot be executed here ($last)"} ;;
    127) missing=${missing:-"its loader is not on this machine: it is made for another libc"} ;;
    esac
    problems="$problems $1: ${missing:-"its --version ended with status $status: $last"}."
    return 1
}

worker=
find_worker() {
    for candidate in "$@"; do
        case $candidate in
        */*) [ -f "$candidate" ] || continue ;;
        *) candidate=$(command -v "$candidate") || continue ;;
        esac
        case $problems in *" $candidate: "*) continue ;; esac # tried already
        if runs "$candidate"; then
            worker=$candidate
            return
        fi
    done
    return 1
}

case ${1:--} in
-*)
    find_worker "$here/vine_worker" ./vine_worker vine_worker \
        "$here/work_queue_worker" ./work_queue_worker work_queue_worker
    wanted="vine_worker or work_queue_worker"
    ;;
*)
    wanted=$1
    name=${1##*/}
    shift
    # One that came along comes first; where it does not run, a container may have its own.
    case $wanted in
    */*) find_worker "$wanted" "$name" ;;
    *) find_worker "$here/$name" "./$name" "$name" ;;
    esac
    ;;
esac
if [ -z "$worker" ]; then
    [ -z "$unpacked" ] || rm -rf "$unpacked"
    if [ -n "$problems" ]; then
        fail 127 "no worker program that runs here:$problems Choose other machines (requirements)," \
            "or a container image or Python environment that has the worker and what it needs"
    fi
    fail 127 "there is no $wanted here, nor on PATH; send the worker program along, or use a" \
        "container image that has it"
fi
version=$(printf '%s\n' "$said" | sed -n 's/.*version \([0-9][^ ]*\).*/\1/p' | head -n 1)

# --- its options -----------------------------------------------------------------------------------

# Print seconds, 1 to 99999999, of a time as cctools reads it: 90, 90s, 15m, 2h, 1d.
seconds() {
    case $1 in
    *[mM]) factor=60 ;;
    *[hH]) factor=3600 ;;
    *[dD]) factor=86400 ;;
    *) factor=1 ;;
    esac
    count=$(plain "${1%[smhdSMHD]}")
    is_number "$count" || return
    if [ ${#count} -gt 8 ]; then count=99999999; fi
    count=$((count * factor))
    if [ "$count" -gt 99999999 ]; then count=99999999; fi
    if [ "$count" -lt 1 ]; then count=1; fi
    echo "$count"
}

# Whether an option's value is the next word.
takes_value() {
    case $1 in
    --*=* | --ssl | --single* | --parent* | --keep-workspace | --debug-release | \
        --disk-allocation | --disable-symlinks | --measure-capacity | --foreman | \
        --advertise | --help | --version | -a | -c | -h | -v | --) return 1 ;;
    --?* | -?) ;;
    *) return 1 ;;
    esac
}

own_workspace='' own_wall_time='' timeout='' tell_address='' before=''
left=$#
while [ "$left" -gt 0 ]; do # each goes from the front to the end, or out
    argument=$1
    shift
    left=$((left - 1))
    if takes_value "$before"; then
        option=$before before=''
        case $option in
        -M | -N | --man* | --mas*) continue ;; # a name in the catalog
        -t | --timeout | --connect-timeout) timeout=$(seconds "$argument") ;;
        esac
    else
        before=$argument
        case $argument in
        -M* | -N* | --man* | --mas* | --) continue ;;
        -s* | --workspace* | --workdir*) own_workspace=yes ;;
        --wall-time*) own_wall_time=yes ;;
        --contact-hostport=auto)
            tell_address=yes
            continue
            ;;
        --contact-hostport)
            if [ "$left" -gt 0 ] && [ "$1" = auto ]; then
                tell_address=yes before=''
                shift
                left=$((left - 1))
                continue
            fi
            ;;
        -t?*) timeout=$(seconds "${argument#-t}") ;;
        --timeout=* | --connect-timeout=*) timeout=$(seconds "${argument#*=}") ;;
        -*) ;;
        *)
            # HOST PORT or HOST:PORT, wherever vine_factory and vine_submit_workers put it;
            # in this order, as an IPv6 address has colons too.
            if [ "$left" -gt 0 ] && is_number "$1"; then
                shift
                left=$((left - 1))
                continue
            fi
            case $argument in *:*) if is_number "${argument##*:}"; then continue; fi ;; esac
            ;;
        esac
    fi
    set -- "$@" "$argument"
done

# --- what the job allows ---------------------------------------------------------------------------

# Print a number from one of the files about job and machine that HTCondor leaves for it.
number_in() { sed -n "s/^$2 = 0*\([1-9][0-9]*\)\$/\1/p" "$1" 2>/dev/null | head -n 1; }
text_in() { sed -n "s/^$2 = \"\(.*\)\"\$/\1/p" "$1" 2>/dev/null | head -n 1; }

wall_time=
at_most() { # seconds from now
    if [ -z "$wall_time" ] || [ "$1" -lt "$wall_time" ]; then wall_time=$1; fi
}
find_wall_time() {
    job=${_CONDOR_JOB_AD:-/dev/null}
    now=$(date +%s)
    is_number "$now" || return 0
    started=$(number_in "$job" JobCurrentStartDate)
    elapsed=$((now - ${started:-$now}))
    limit=$(number_in "$job" AllowedExecuteDuration)
    [ -z "$limit" ] || at_most "$limit"
    limit=$(number_in "$job" AllowedJobDuration)
    [ -z "$limit" ] || at_most $((limit - elapsed))
    case $(text_in "$job" JobDurationCategory) in # of the OSPool
    Medium) at_most $((20 * 3600 - elapsed)) ;;
    Long) at_most $((40 * 3600 - elapsed)) ;;
    esac
    if is_number "${SLURM_JOB_END_TIME:-}"; then at_most $(($(plain "$SLURM_JOB_END_TIME") - now)); fi
    if is_number "${PBS_WALLTIME:-}"; then at_most "$(plain "$PBS_WALLTIME")"; fi
    [ -n "$wall_time" ] || return 0
    # Time to say goodbye: a tenth, at most five minutes.
    margin=$((wall_time / 10))
    [ "$margin" -le 300 ] || margin=300
    wall_time=$((wall_time - margin))
    [ "$wall_time" -ge 1 ] || wall_time=1
}
if [ -z "$own_wall_time" ]; then
    find_wall_time
    [ -z "$wall_time" ] || set -- "$@" --wall-time "$wall_time"
fi
# --- the way to the manager -----------------------------------------------------------------------

if [ -z "${VINE_SHAREDPORT_ADDRESS:-}" ]; then
    file=$(find_file '' vine_sharedport.address)
    [ -n "$file" ] || fail 78 "no address of a manager: set VINE_SHAREDPORT_ADDRESS, or put the" \
        "file vine_sharedport.address beside this script"
    IFS= read -r VINE_SHAREDPORT_ADDRESS <"$file" || :
    [ -n "${VINE_SHAREDPORT_ADDRESS:-}" ] || fail 78 "there is no address in the file $file: write" \
        "manager.shared_port.address into its first line"
fi
VINE_SHAREDPORT_SECRET_FILE=$(find_file "${VINE_SHAREDPORT_SECRET_FILE:-}" vine_sharedport.secret)
if [ -z "${VINE_SHAREDPORT_PRIVATE_NETWORK:-}" ]; then
    machine=${_CONDOR_MACHINE_AD:-/dev/null}
    VINE_SHAREDPORT_PRIVATE_NETWORK=$(text_in "$machine" PrivateNetworkName)
    [ -n "$VINE_SHAREDPORT_PRIVATE_NETWORK" ] || VINE_SHAREDPORT_PRIVATE_NETWORK=$(
        text_in "$machine" MyAddress | sed -n 's/.*[?&]PrivNet=\([^&>]*\).*/\1/p'
    )
fi

# Print where the other workers of this network reach this machine: an IPv4 address, as vine_worker
# cuts one of IPv6 at its first colon; the machine's name where there is none.
own_address() {
    there=$(printf '%s\n' "$VINE_SHAREDPORT_ADDRESS" | sed -n -e 's/^<\([0-9.]*\):.*/\1/p;t' \
        -e 's/.*[?&]addrs=\([^&>]*+\)\{0,1\}\([0-9][0-9.]*\)-[0-9].*/\2/p')
    found=
    # As the kernel chooses it for the way to the manager; ip is not on every user's PATH.
    [ -z "$there" ] || found=$(PATH=$PATH:/usr/sbin:/sbin ip -4 route get "$there" 2>/dev/null |
        sed -n 's/.* src \([0-9][0-9.]*\).*/\1/p' | head -n 1)
    # As HTCondor's daemon here has it.
    [ -n "$found" ] || found=$(text_in "${_CONDOR_MACHINE_AD:-/dev/null}" MyAddress |
        sed -n 's/^<\([0-9.]*\):.*/\1/p')
    [ -n "$found" ] || found=$(hostname -I 2>/dev/null | tr ' ' '\n' |
        sed -n '/^[0-9][0-9.]*$/{p;q;}')
    printf '%s\n' "${found:-$(uname -n)}"
}
if [ -n "$tell_address" ]; then
    tell_address=$(own_address)
    set -- "$@" --contact-hostport "$tell_address"
fi
if [ -n "${VINE_SHAREDPORT_CONNECT_TIMEOUT:-}" ]; then
    timeout=$(seconds "$VINE_SHAREDPORT_CONNECT_TIMEOUT") || fail 78 \
        "VINE_SHAREDPORT_CONNECT_TIMEOUT=$VINE_SHAREDPORT_CONNECT_TIMEOUT: wanted seconds, or such as 15m"
fi
VINE_SHAREDPORT_CONNECT_TIMEOUT=$timeout
export VINE_SHAREDPORT_ADDRESS VINE_SHAREDPORT_SECRET_FILE VINE_SHAREDPORT_PRIVATE_NETWORK \
    VINE_SHAREDPORT_CONNECT_TIMEOUT

# Set shim to the library if it loads into the worker, else why to the reason.
find_shim() {
    shim=$(find_file '' libvine_sharedport.so)
    case $shim in
    '') why="there is no libvine_sharedport.so" ;;
    *[\ :]*) why="LD_PRELOAD cannot name $shim" shim='' ;;
    *)
        IFS= read -r first <"$worker" || :
        case ${first:-} in
        ?ELF*)
            said=$(LD_PRELOAD=$shim VINE_SHAREDPORT_CHECK=1 "$worker" --version 2>&1 </dev/null)
            case $?:$said in
            "0:vine_sharedport shim") why="it loads into $worker" ;;
            78:*) fail 78 "${said#vine_sharedport: }" ;;
            *)
                # What the worker itself says has nothing to do with it.
                said=$(printf '%s\n' "$said" | sed -n '/ld\.so/{p;q;}')
                said=${said:-"it is static, or the library is damaged"}
                why="the shim does not load into $worker ($said)"
                shim=''
                ;;
            esac
            ;;
        # A script would use up the preload itself.
        *) why="$worker is no ELF program" shim='' ;;
        esac
        ;;
    esac
}

transport=${VINE_SHAREDPORT_TRANSPORT:-auto} why="as VINE_SHAREDPORT_TRANSPORT says"
case $transport in
auto)
    find_shim
    if [ -n "$shim" ]; then transport=shim; else transport=relay; fi
    why="because $why"
    ;;
shim)
    find_shim
    [ -n "$shim" ] || fail 78 "VINE_SHAREDPORT_TRANSPORT=shim, but $why"
    why="as VINE_SHAREDPORT_TRANSPORT says"
    ;;
relay) ;;
*) fail 78 "VINE_SHAREDPORT_TRANSPORT=$transport: wanted auto, shim or relay" ;;
esac

if [ "$transport" = relay ]; then
    package=$(find_file '' vine_sharedport.pyz)
    [ -n "$package" ] || [ ! -f "$here/__main__.py" ] || package=$here # as it is installed
    python=
    for each in "${VINE_SHAREDPORT_PYTHON:-python3}" python3 /usr/bin/python3 /usr/libexec/platform-python \
        python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
        if "$each" -I -S -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
            python=$each
            break
        fi
    done
    [ -n "$python" ] || fail 127 "the relay is taken, $why, and needs Python 3.9 or later," \
        "which is not here"
    [ -n "$package" ] || fail 78 "the relay is taken, $why, but its file vine_sharedport.pyz is not" \
        "beside this script"
fi

if [ -z "$own_workspace$by_command" ]; then
    # Workers on one machine must not share one, as in containers of the same process ids.
    workspace=$(make_directory worker) || exit
    set -- "$@" -s "$workspace"
fi

manager=${VINE_SHAREDPORT_ADDRESS##*sock=}
say "$transport, $why; worker $worker ${version:-}, manager ${manager%%[&;>]*}, workspace" \
    "${workspace:-its own}${wall_time:+, wall time $wall_time s}${tell_address:+, for other workers at $tell_address}"

if [ "$transport" = relay ]; then
    set -- "$python" -I -S "$package" "$worker" "$@"
else
    [ "${CCTOOLS_IP_MODE:-}" != IPV6 ] || reserved_host=::ffff:$reserved_host
    set -- "$worker" "$@" "$reserved_host" "$reserved_port"
    # The shim takes itself out again, and every variable of ours.
    preload=$shim${LD_PRELOAD:+:$LD_PRELOAD}
fi
if [ -z "$unpacked" ] || [ -n "${_CONDOR_SCRATCH_DIR:-}" ]; then
    # No process stays between: signals reach the worker, and its status is ours.
    if [ "$transport" = shim ]; then export LD_PRELOAD="$preload"; fi
    exec "$@"
fi

# Nobody else will remove the environment that we have unpacked.
if [ "$transport" = shim ]; then
    LD_PRELOAD=$preload "$@" &
else
    "$@" &
fi
child=$! signalled=yes
# All as SIGTERM, after which a worker says goodbye: sh starts it with INT and QUIT ignored.
trap 'signalled=yes; kill -TERM "$child" 2>/dev/null' HUP INT QUIT TERM USR1 USR2
while [ -n "$signalled" ]; do # a signal ends wait before the worker ends
    signalled=
    wait "$child"
    status=$?
done
rm -rf "$unpacked"
exit "$status"
