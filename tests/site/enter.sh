# shellcheck shell=bash
# The first process of the namespaces that run has made: set up the files, then run COMMAND.
set -euo pipefail

stage=$SITE_CACHE/stage
# COMMAND has it from the terminal; what comes to us alone it gets from us.
trap : INT QUIT HUP
trap 'kill -TERM "$child" 2>/dev/null || true' TERM

mount -t tmpfs -o mode=755 site "$stage"
mkdir "$stage"/{upper,work,root}
mount -t overlay -o "lowerdir=$SITE_ROOT,upperdir=$stage/upper,workdir=$stage/work" site "$stage/root"
cd "$stage/root"
# lower: the files that all hosts begin with; site: what they write; layers: what is installed
mkdir -p lower site layers wheels old tmp run
mount --bind -o ro "$SITE_ROOT" lower
mount --bind -o ro "$SITE_VENV" venv
mount --bind -o ro "$SITE_WHEELS" wheels
mount --bind "$SITE_CACHE" layers
mount -t tmpfs -o mode=755 site site
mount -t tmpfs -o mode=755 site run
mount -t tmpfs -o mode=1777 site tmp
# Behind these, which may hold it.
mkdir -p ".$SITE_CHECKOUT"
mount --bind "$SITE_CHECKOUT" ".$SITE_CHECKOUT"
mount -t proc proc proc
mount -t sysfs sys sys
mount --rbind /dev dev
pivot_root . old
python3 "$SITE_CHECKOUT/tests/site/mounts.py" /old
ip link set lo up
hostname operator
printf '127.0.0.1 localhost operator\n' >/etc/hosts
: >/etc/resolv.conf

cd "$SITE_CHECKOUT"
environment=(HOME=/root USER=root LOGNAME=root SHELL=/bin/bash LANG=C.UTF-8
    "PATH=/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    "PYTHONPATH=$SITE_CHECKOUT" VIRTUAL_ENV=/venv PYTHONDONTWRITEBYTECODE=1)
for name in SITE_STATE TERM CI COLUMNS LINES VINE_SHAREDPORT_REQUIRE PYTEST_ADDOPTS PYTEST_DEBUG_TEMPROOT; do
    [[ -z ${!name:-} ]] || environment+=("$name=${!name}")
done
# Not exec: this shell reaps what loses its parent. Its children would ignore these signals.
env --default-signal=INT,QUIT,HUP,TERM -i "${environment[@]}" "$@" <&0 &
child=$!
status=0
while :; do
    wait "$child" && status=0 || status=$?
    [[ -d /proc/$child ]] || break
done
exit "$status"
