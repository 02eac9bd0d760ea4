# shellcheck shell=bash
# The worker's preload library for a checkout that is not installed. Sourced by sandbox/run,
# which sets checkout.
# shellcheck disable=SC2154

# Whether the library must be built: it is missing, or older than what it is made of.
shim_is_outdated() {
    local worker=$checkout/vine_sharedport/worker file
    local library=$worker/libvine_sharedport.so
    [[ -e $worker/shim.c && -w $worker ]] || return 1
    for file in "$worker"/shim.py "$worker"/shim*.[ch]; do
        [[ $library -nt $file ]] || return 0
    done
    return 1
}

# A program for sh: build the library of the checkout $1, then become COMMAND. What cannot be
# compiled is shown and leaves no library behind, so that nobody tests an older one by mistake;
# COMMAND runs all the same, for it may be the editor or the linter.
# shellcheck disable=SC2016  # sh expands them
readonly BUILD_SHIM='
    python3 - "$0" <<"PROGRAM"
import os, sys
sys.path.insert(0, sys.argv[1])
from vine_sharedport.errors import LaunchError
from vine_sharedport.worker import shim
library = os.path.join(sys.argv[1], "vine_sharedport", "worker", shim.LIBRARY)
try:
    shim.build(library)
except LaunchError as error:
    if os.path.exists(library):
        os.unlink(library)
    print(f"sandbox/run: there is no preload library: {error}", file=sys.stderr)
PROGRAM
    exec env -- "$@"'
