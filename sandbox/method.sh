# shellcheck shell=bash
# Which way into the sandbox this machine allows. Sourced by sandbox/run.
#
#   bubblewrap       user, PID and mount namespaces, a /proc of its own
#   bubblewrap-proc  the same with the host's /proc and processes: containers hide parts of
#                    /proc, and the kernel then lets nobody mount another one
#   proot            nothing but ptrace: docker's own seccomp profile forbids namespaces
#   native           no sandbox: the machine has HTCondor and ndcctools itself
# shellcheck disable=SC2154  # sandbox/run sets here and checkout

# namespaces_work METHOD: try it, with bubblewrap itself, or before it is installed with unshare.
namespaces_work() {
    local proc=(--unshare-pid --proc /proc)
    if command -v bwrap >/dev/null; then
        [[ $1 == bubblewrap ]] || proc=(--bind /proc /proc)
        refusal=$(bwrap --unshare-user --uid 1000 --gid 1000 --unshare-ipc --ro-bind / / \
            "${proc[@]}" --dev /dev true 2>&1)
    else
        proc=(--pid --fork --mount-proc)
        [[ $1 == bubblewrap ]] || proc=()
        refusal=$(unshare --user --map-root-user --ipc --mount "${proc[@]}" true 2>&1)
    fi
}

# Whether a process may trace another one, as proot does.
tracing_works() {
    command -v python3 >/dev/null && python3 - <<'PROGRAM' 2>/dev/null
import ctypes, os, sys
child = os.fork()
if not child:
    os._exit(1 if ctypes.CDLL(None).ptrace(0, 0, 0, 0) else 0)  # PTRACE_TRACEME
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
PROGRAM
}

# How an administrator, or who starts the container, allows namespaces.
allow_namespaces() {
    local name value bad=''
    for name in kernel.apparmor_restrict_unprivileged_userns=0 kernel.unprivileged_userns_clone=1 \
        user.max_user_namespaces=10000; do
        value=''
        { read -r value <"/proc/sys/$(tr . / <<<"${name%=*}")"; } 2>/dev/null || continue
        case $name:$value in
            *apparmor*:1 | *clone*:0 | *max*:0) bad+=" $name" ;;
        esac
    done
    if [[ -n $bad && $EUID != 0 ]]; then
        echo "ask an administrator for: sysctl -w$bad"
    elif [[ -n $bad ]]; then
        echo "sysctl -w$bad"
    else
        echo "start the container with --security-opt seccomp=unconfined" \
            "--security-opt systempaths=unconfined (docker and podman; not --privileged)"
    fi
}

# The program of each method.
declare -Ar program=([bubblewrap]=bwrap [bubblewrap-proc]=bwrap [proot]=proot [native]=sh)

# Whether PROGRAM is here, or can be installed.
is_available() {
    command -v "$1" >/dev/null || { ((EUID == 0)) && command -v apt-get >/dev/null; }
}

proot_works() {
    if command -v proot >/dev/null; then
        refusal=$(proot -r / -i 1000:1000 /bin/true 2>&1)
    else
        tracing_works
    fi
}

# method_works METHOD: whether it can be used here; nothing is installed to find out.
method_works() {
    case $1 in
        bubblewrap*) namespaces_work "$1" ;;
        proot) proot_works ;;
        native) # HTCondor runs no jobs of root
            ((EUID != 0)) && PATH=$PATH:/usr/sbin:/sbin PYTHONPATH=$checkout \
                python3 "$here/native.py" python >/dev/null 2>&1
            ;;
    esac
}

# Set method, and say what it costs unless that is nothing.
choose_method() {
    local wanted=${VINE_SHAREDPORT_METHOD:-} refusal='' first='' why='' candidate
    method=''
    [[ -z $wanted || -n ${program[$wanted]:-} ]] ||
        fail "there is no such way into the sandbox" "VINE_SHAREDPORT_METHOD=$wanted" \
            "unset it, or use bubblewrap, bubblewrap-proc, proot or native"
    # First what needs nobody's help, then what an administrator would have to install.
    for candidate in ${wanted:-bubblewrap bubblewrap-proc proot native}; do
        if is_available "${program[$candidate]}" && method_works "$candidate"; then
            method=$candidate
            break
        fi
        first=${first:-$refusal}
    done
    if [[ -z $method ]]; then
        for candidate in ${wanted:-bubblewrap bubblewrap-proc proot}; do
            if method_works "$candidate"; then
                method=$candidate
                break
            fi
        done
    fi
    [[ -n $wanted ]] || why=", as namespaces are forbidden here; for full speed $(allow_namespaces)"
    case $method in
        bubblewrap-proc) say "using bubblewrap, at full speed, but COMMAND sees the host's processes" ;;
        proot)
            say "using proot, 3 to 5 times slower$why"
            ;;
        native) say "using this machine's own HTCondor and ndcctools, without a sandbox" ;;
        '')
            fail "this system does not allow a sandbox${wanted:+ by $wanted}" \
                "${first:-no namespaces, no ptrace, no HTCondor of its own}" "$(allow_namespaces)," \
                "or install HTCondor and ndcctools and set VINE_SHAREDPORT_NATIVE=1"
            ;;
    esac
}
