# shellcheck shell=bash
# Makes what the first call needs: the Debian root and the virtual environment. Sourced by
# sandbox/run, and only when one of them is missing. A change of this file makes a new root:
# its hash is part of the root's name.
# shellcheck disable=SC2154  # sandbox/run sets cache, suite, root, venv, here, checkout
# shellcheck disable=SC2016  # the shells that expand "$1" here are started by us

readonly KEYRING=/usr/share/keyrings/debian-archive-keyring
readonly ROOT_MEGABYTES=2500 # with the downloads and what finish_root removes; 1.5 GB stay
readonly VENV_MEGABYTES=500
readonly UNUSED_DAYS=7

log=$cache/build.log

# --- what went wrong -------------------------------------------------------------------

free_megabytes() {
    df -Pm "$cache" | awk 'NR == 2 { print $4 }'
}

require_space() {
    local free
    free=$(free_megabytes)
    ((free >= $1)) || fail "there is not enough disk space for the sandbox" \
        "$free MB free in $cache, wanted $1 MB" \
        "free some space, or set XDG_CACHE_HOME to a directory on a larger disk"
}

# in_log PATTERN: the last line of the log that matches; fails if there is none.
in_log() {
    grep -E "$1" "$log" | tail -n 1 | grep .
}

# explain_failure WHAT: give up, with the cause that the log shows.
explain_failure() {
    local what=$1 line network
    network='[Cc]ould not resolve|failure resolving|[Cc]ould not connect|Unable to connect'
    network+='|Network is unreachable|[Tt]imed out|NewConnectionError|ConnectionError|SSLError'
    network+='|ProxyError|Failed to fetch|Connection (refused|failed)'
    if line=$(in_log 'No space left on device|Disk quota exceeded|enough free space'); then
        fail "$what: the disk is full" "$line ($(free_megabytes) MB free in $cache now)" \
            "free some space, or set XDG_CACHE_HOME to a directory on a larger disk"
    elif line=$(in_log 'GPG error|NO_PUBKEY|EXPKEYSIG' || in_log 'is not signed'); then
        fail "$what: the mirror's signature cannot be checked" "$line" \
            "upgrade the package debian-archive-keyring (Debian 12's is new enough)"
    elif line=$(in_log 'Unable to locate package|no installation candidate|unmet dependencies'); then
        fail "$what: the suite $suite lacks a package" "$line" \
            "change sandbox/packages.txt, or use VINE_SHAREDPORT_SUITE=trixie"
    elif line=$(in_log 'CERTIFICATE_VERIFY_FAILED|[Cc]ertificate verification failed'); then
        fail "$what: a server's certificate is not trusted" "$line" \
            "where a proxy opens TLS connections, its certificate must be in the system's bundle" \
            "(/usr/local/share/ca-certificates, update-ca-certificates) or in PIP_CERT"
    elif line=$(in_log "$network"); then
        fail "$what: no connection" "$line" \
            "check the network and the proxy variables (http_proxy, https_proxy), then run the" \
            "command again: finished downloads are kept. The log: $log"
    elif line=$(in_log 'No matching distribution found'); then
        fail "$what: pip does not find a package" "$line" \
            "check pip's settings (PIP_INDEX_URL, pip.conf) and pyproject.toml; the log: $log"
    elif line=$(in_log 'Permission denied|Operation not permitted|Read-only file system'); then
        fail "$what: no permission" "$line" \
            "the cache $cache must be writable and not mounted noexec; or set XDG_CACHE_HOME"
    fi
    tail -n 8 "$log" >&2
    fail "$what" "the lines above, the end of $log" "correct the cause and run the command again"
}

# --- what the host must have -----------------------------------------------------------

install_packages() {
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@" </dev/null
}

require_tools() {
    local missing=()
    if ! command -v apt-get >/dev/null; then
        fail "the sandbox cannot be made on this system" \
            "no apt-get: this is not Debian or a relative of it, and the sandbox is a Debian made by apt" \
            "use Debian 12 or newer (a virtual machine or a container); or install HTCondor with its" \
            "daemons and ndcctools and set VINE_SHAREDPORT_NATIVE=1"
    fi
    case $method in
        bubblewrap*) command -v bwrap >/dev/null || missing+=(bubblewrap) ;;
        proot) command -v proot >/dev/null || missing+=(proot) ;;
    esac
    if [[ -n $rebuild || ! -d $root ]]; then
        command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
        [[ -r $KEYRING.gpg || -r $KEYRING.pgp ]] || missing+=(debian-archive-keyring)
    fi
    ((${#missing[@]})) || return 0
    if ((EUID != 0)); then
        fail "the sandbox needs programs that this system does not have" "missing: ${missing[*]}" \
            "ask an administrator for: apt-get install ${missing[*]}" \
            "(or, where HTCondor and ndcctools are installed, set VINE_SHAREDPORT_NATIVE=1)"
    fi
    say "installing with apt-get: ${missing[*]}"
    # A fresh image has no package lists, or old ones.
    if ! install_packages "${missing[@]}" >"$log" 2>&1; then
        { apt-get update && install_packages "${missing[@]}"; } >"$log" 2>&1 ||
            explain_failure "apt-get could not install ${missing[*]}"
    fi
}

# --- the Debian root -------------------------------------------------------------------

# The mirrors that the host's apt uses for Debian itself: component main of a Debian suite.
host_mirrors() {
    local files
    shopt -s nullglob
    files=(/etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources)
    shopt -u nullglob
    ((${#files[@]})) || return 0
    awk '
        function finish(   i, n, list) {
            if (types ~ /(^| )deb( |$)/ && suites ~ debian && components ~ /(^| )main( |$)/ && !off) {
                n = split(uris, list, " ")
                for (i = 1; i <= n; i++) if (list[i] ~ /^https?:/) print list[i]
            }
            types = uris = suites = components = field = ""
            off = 0
        }
        BEGIN {
            debian = "(^| )(bullseye|bookworm|trixie|forky|duke|sid|oldstable|stable|testing|unstable)( |$)"
        }
        FNR == 1 { finish() }
        /^[ \t]*#/ { next }
        FILENAME ~ /\.sources$/ { # deb822: fields, continued on lines that begin with a space
            if ($0 ~ /^[ \t]*$/) { finish(); next }
            if ($0 !~ /^[ \t]/) { field = tolower($1); sub(/^[^:]*:[ \t]*/, "") }
            if (field == "types:") types = types " " $0
            if (field == "uris:") uris = uris " " $0
            if (field == "suites:") suites = suites " " $0
            if (field == "components:") components = components " " $0
            if (field == "enabled:" && $0 ~ /^[Nn]o/) off = 1
            next
        }
        $1 == "deb" { # deb [options] URI suite component...
            sub(/\[[^]]*\]/, "")
            types = "deb"; uris = $2; suites = $3; components = ""
            for (i = 4; i <= NF; i++) components = components " " $i
            finish()
        }
        END { finish() }
    ' "${files[@]}" 2>/dev/null
}

# The mirror that mmdebstrap itself uses when it is given none.
default_mirror() {
    grep -oE 'https?://[a-z.]+/debian\b' "$(command -v mmdebstrap)" | sort | uniq -c | sort -rn |
        sed -n '1s/^ *[0-9]* //p'
}

# Set mirror to the first one that answers and has the suite.
choose_mirror() {
    local candidate tried=''
    for candidate in ${VINE_SHAREDPORT_MIRROR:-$(host_mirrors) $(default_mirror)}; do
        candidate=${candidate%/}
        [[ " $tried " != *" $candidate "* ]] || continue
        tried+=${tried:+ }$candidate
        # apt's own downloader: it knows the host's proxies and certificates.
        if step /usr/lib/apt/apt-helper -o Acquire::Retries=1 -o Acquire::http::Timeout=20 \
            -o Acquire::https::Timeout=20 -o APT::Sandbox::User=root \
            download-file "$candidate/dists/$suite/InRelease" "$work/InRelease" &&
            grep -qx 'Origin: Debian' "$work/InRelease"; then
            mirror=$candidate
            return
        fi
    done
    fail "no Debian mirror with the suite $suite answers" \
        "tried $tried; the last answer: $(in_log '^E: Failed to fetch' || echo 'not a Debian archive')${http_proxy:+; http_proxy is set}" \
        "check the network, the proxy variables (http_proxy, https_proxy) and /etc/apt, or name" \
        "a mirror, as in VINE_SHAREDPORT_MIRROR=http://mirror.example.org/debian"
}

# How the host's apt reaches its mirrors: proxies, certificates, time limits.
host_apt_options() {
    apt-config dump 2>/dev/null |
        grep -E '^Acquire::(https?(::|$)|ForceIPv|Check-|Retries)' | grep -v ' "";$' || true
}

# Become COMMAND, which sees the host as an ordinary user. With namespaces all of it ends when
# this process ends, however that happens, and also for root it can write nowhere but in the
# cache.
as_ordinary_user() {
    local proc=(--unshare-pid --proc /proc)
    if [[ $method == proot ]]; then
        mkdir -p "$work/tmp"
        export TMPDIR=$work/tmp PROOT_TMP_DIR=$work/tmp
        exec python3 "$here/contain.py" -- proot -r / -i "$((EUID ? EUID : 1000)):1000" \
            python3 "$here/contain.py" --for-proot -- "$@"
    fi
    [[ $method == bubblewrap ]] || proc=(--bind /proc /proc)
    exec bwrap --die-with-parent --unshare-user --uid 1000 --gid 1000 --ro-bind / / --dev /dev \
        "${proc[@]}" --tmpfs /tmp --bind "$cache" "$cache" --setenv TMPDIR /tmp -- "$@"
}

# extract_packages SUITE...: those of packages.txt, from the sandbox's suite and these others.
extract_packages() {
    local packages other line keyring=$KEYRING.gpg options=() sources=()
    [[ -r $keyring ]] || keyring=$KEYRING.pgp
    packages=$(awk -v only="$suite:" '
        /^#/ { next }
        BEGIN { for (i = 2; i < ARGC; i++) { others[ARGV[i]]; delete ARGV[i] } }
        split($NF, part, "/") == 2 && !(part[2] in others) { next }
        NF == 1 || $1 == only { printf "%s%s", separator, part[1]; separator = "," }
    ' "$here/packages.txt" "$@")
    # Of all suites the sandbox's own is preferred.
    options=(--aptopt="APT::Default-Release \"$suite\";")
    for other in "$suite" "$@"; do
        sources+=("deb [signed-by=$keyring] $mirror $other main")
    done
    while IFS= read -r line; do
        [[ -z $line ]] || options+=(--aptopt="$line")
    done <<<"$(host_apt_options)"
    # The hooks take packages that we have already, and keep those of this time.
    CACHE=$cache step as_ordinary_user \
        mmdebstrap --mode=chrootless --variant=extract --include="$packages" "${options[@]}" \
        --setup-hook='mkdir -p "$1/var/cache/apt/archives"
            find "$CACHE/debs" -name "*.deb" -exec ln -t "$1/var/cache/apt/archives" {} +' \
        --extract-hook='find "$CACHE/debs" -name "*.deb" -delete
            find "$1/var/cache/apt/archives" -maxdepth 1 -name "*.deb" -exec ln -t "$CACHE/debs" {} +' \
        "$suite" "$work/root" "${sources[@]}"
}

# Make what the packages' maintainer scripts would have made.
finish_root() {
    local new=$1 link target
    while read -r link target; do
        [[ -e $new/$link || -L $new/$link ]] || ln -s "$target" "$new/$link"
    done <<-'LINKS'
		etc/localtime ../usr/share/zoneinfo/UTC
		usr/bin/awk mawk
		usr/bin/cc gcc
		usr/bin/pager less
		usr/bin/which which.debianutils
	LINKS
    rm -rf "$new"/etc/{resolv.conf,hostname,fstab} "$new"/var/{run,lock} \
        "$new"/var/log/apt "$new"/usr/share/locale/*
    ln -s /run "$new/var/run"
    ln -s /run/lock "$new/var/lock"
    cat >"$new/etc/passwd" <<-'TEXT'
		root:x:0:0:root:/root:/bin/bash
		daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin
		vine:x:1000:1000:vine_sharedport sandbox:/home/vine:/bin/bash
		nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
	TEXT
    cat >"$new/etc/group" <<-'TEXT'
		root:x:0:
		daemon:x:1:
		tty:x:5:
		vine:x:1000:
		nogroup:x:65534:
	TEXT
    # Without this file the C library asks DNS before /etc/hosts.
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$new/etc/nsswitch.conf"
    cat "$new"/usr/share/ca-certificates/mozilla/*.crt >"$new/etc/ssl/certs/ca-certificates.crt"
    # By this file sandbox/run sees that it is inside.
    echo 'made by sandbox/run' >"$new/etc/vine_sharedport_sandbox"
    # Where every call mounts something. bubblewrap makes other mount points as needed.
    mkdir -p "$new$HOME_INSIDE" "$new$VENV_INSIDE" "$new/usr/local/share/ca-certificates"
    touch "$new"/etc/{resolv.conf,hosts,pip.conf}
    # Emulators of processors that nobody builds for here: 0.4 GB.
    find "$new/usr/bin" -name 'qemu-*' ! -name 'qemu-aarch64*' -delete
    # Of no use here, and old programs with these bits in a cache are a risk.
    find "$new" -perm /6000 -type f -exec chmod u-s,g-s {} +
    # Python's byte code, or every process would compile the standard library again.
    sandbox_arguments "$new" ''
    working_directory /
    step enter_sandbox -- sh -c 'ldconfig; openssl rehash /etc/ssl/certs
        python3 -m compileall -q -j 0 -x "/(test|tests|idlelib|lib2to3)/" /usr/lib/python3*
        exec python3 -c ""' || explain_failure "the Debian root does not work"
    end_sandbox
}

build_root() {
    local others cause
    require_space "$ROOT_MEGABYTES"
    say "1/4 looking for a Debian mirror"
    choose_mirror
    say "2/4 downloading and extracting Debian $suite with HTCondor and cctools from $mirror"
    mapfile -t others < <(grep -oP '^[^#]*/\K\S+' "$here/packages.txt" | sort -u)
    if ! extract_packages "${others[@]}"; then
        cause=$(in_log '^E: ([^m]|m[^m])') || true # mmdebstrap only says that apt failed
        rm -rf "$work/root"
        extract_packages || explain_failure "the Debian root could not be made"
        # They change each day, and must not keep anybody from working.
        say "warning: left out what only ${others[*]} has, so tests that need it are skipped: $cause"
    fi
    say "3/4 completing the Debian root"
    finish_root "$work/root"
    publish "$work/root" "$root"
}

# --- the virtual environment -----------------------------------------------------------

build_venv() {
    require_space "$VENV_MEGABYTES"
    say "4/4 installing the Python packages that pyproject.toml names"
    mkdir "$work/venv"
    sandbox_arguments "$root" ''
    working_directory /
    mount_writable "$work/venv" "$VENV_INSIDE"
    set_variable PIP_USER 0
    set_variable PIP_REQUIRE_VIRTUALENV 0
    set_variable PIP_DISABLE_PIP_VERSION_CHECK 1
    step enter_sandbox -- sh -c 'python3 -m venv --system-site-packages "$0" &&
        exec "$0/bin/python" "$1" "$2"' "$VENV_INSIDE" "$here/venv.py" "$checkout/pyproject.toml" ||
        explain_failure "the Python packages could not be installed"
    end_sandbox
    publish "$work/venv" "$venv"
}

# --- one builder at a time, all or nothing ---------------------------------------------

# step COMMAND...: run a part that takes long; a signal ends it at once (see build). COMMAND is
# a program, or a function that ends in exec: so it is our own child, and --die-with-parent
# means us, even when we are killed.
step() {
    local status=0 become=(exec)
    [[ $(type -t "$1") != function ]] || become=()
    ("${become[@]}" "$@" {lock}<&- {in_use}<&-) </dev/null >"$log" 2>&1 &
    step_pid=$!
    wait "$step_pid" || status=$?
    step_pid=''
    return "$status"
}

stop_on() {
    trap '' HUP INT TERM
    if [[ -n $step_pid ]]; then
        # contain.py ends what it has started on USR1; of all others USR1 is the death.
        kill -USR1 "$step_pid" 2>/dev/null || true
        wait "$step_pid" 2>/dev/null || true
    fi
    say "interrupted; finished downloads are kept for the next call"
    exit "$1"
}

# The builder's end, when it is not a good one.
give_up() {
    local status=$?
    trap - EXIT
    remove_unfinished || true
    case $status in
        "$OUR_FAILURE" | 129 | 130 | 143) exit "$status" ;;
    esac
    fail "the sandbox could not be made" "a command failed with status $status; its message stands above" \
        "correct the cause and run the command again; the log: $log"
}

# publish NEW PLACE: what has its final name is complete, since getting it is the last step.
publish() {
    if [[ -e $2 ]]; then
        mv -T "$2" "$(mktemp -u "$cache/old.XXXXXX")"
    fi
    mv -T "$1" "$2"
}

# Remove what builds left behind that were interrupted: only the owner of the lock builds.
remove_unfinished() {
    local left deb
    shopt -s nullglob
    for left in "$cache"/work.*; do
        for deb in "$left"/root/var/cache/apt/archives/*.deb; do
            [[ -e $cache/debs/${deb##*/} ]] || mv "$deb" "$cache/debs/"
        done
        # A process that was killed just now may still have been writing.
        rm -rf "$left" 2>/dev/null || { sleep 0.5 && rm -rf "$left"; }
    done
    shopt -u nullglob
}

# Remove what was replaced, and what other versions of the checkout used long ago; not while
# another call runs.
remove_unused() {
    local place
    flock -u "$in_use"
    if flock -x -n "$in_use"; then
        shopt -s nullglob
        rm -rf "$cache"/old.*
        for place in "$cache"/root-* "$cache"/venv-*; do
            case $place in
                *.used | "$root" | "$venv") continue ;;
            esac
            if [[ -z $(find "$place.used" -mtime -"$UNUSED_DAYS" 2>/dev/null) ]]; then
                rm -rf "$place" "$place.used"
            fi
        done
        shopt -u nullglob
    fi
    flock -s "$in_use"
}

build() {
    local lock mask
    mask=$(umask)
    umask 022
    step_pid=''
    { [[ -w $cache ]] && : >>"$cache/lock"; } 2>/dev/null || unwritable_cache
    exec {lock}>>"$cache/lock"
    if ! flock -n "$lock"; then
        say "another call is making the sandbox; waiting for it"
        flock "$lock"
    fi
    trap give_up EXIT
    trap 'stop_on 130' INT
    trap 'stop_on 143' TERM
    trap 'stop_on 129' HUP
    remove_unfinished
    : >"$log"
    require_tools
    work=$(mktemp -d "$cache/work.XXXXXX")
    chmod 755 "$work"
    # Not "... || build_root": set -e does not work inside a list.
    if [[ -n $rebuild || ! -d $root ]]; then
        build_root
    fi
    if [[ -n $rebuild || ! -d $venv ]]; then
        build_venv
    fi
    : >"$root.used"
    : >"$venv.used"
    trap - EXIT INT TERM HUP
    remove_unfinished
    remove_unused
    exec {lock}>&-
    umask "$mask"
}
