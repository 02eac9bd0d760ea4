#!/bin/sh
# Runs on the execute point as the executable of a worker job: finds a Python and hands
# over to the package that came with the job.
#
#   launcher.sh PACKAGE WORKER [OPTION...]
#
# PACKAGE is the package as one file, WORKER the worker's program; both beside the job.
set -u

package=$1
worker=$2
shift 2

say() { echo "vine_sharedport launcher on $(uname -n): $*" >&2; }

case $worker in
*/*) ;;
*) [ -f "./$worker" ] && worker=./$worker ;;
esac
# File transfer may drop the executable bit.
[ -f "$worker" ] && [ ! -x "$worker" ] && chmod u+x "$worker"

for python in python3 /usr/bin/python3 /usr/libexec/platform-python \
    python3.14 python3.13 python3.12 python3.11 python3.10 python3.9; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
        exec "$python" "$package" worker --worker "$worker" -- "$@"
    fi
done
say "no Python 3.9 or later on this machine, which this version needs on the execute point;" \
    "choose machines that have it with requirements=, or use a container image that does"
exit 127
