# shellcheck shell=bash
# The worker's preload library for a checkout that is not installed. Sourced by sandbox/run,
# which sets checkout.
# shellcheck disable=SC2154

# Whether the library must be built: it is missing, or older than what it is made of.
shim_is_outdated() {
    local package=$checkout/vine_sharedport file
    local library=$package/worker/libvine_sharedport.so
    [[ -e $package/shim/shim.c && -w $package/worker ]] || return 1
    for file in "$package"/bundle/shim_build.py "$package"/shim/*.[ch]; do
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
from vine_sharedport.bundle import shim_build
from vine_sharedport.errors import SharedPortError
library = os.path.join(sys.argv[1], "vine_sharedport", "worker", shim_build.LIBRARY)
try:
    shim_build.build(library)
except SharedPortError as error:
    if os.path.exists(library):
        os.unlink(library)
    print(f"sandbox/run: there is no preload library: {error}", file=sys.stderr)
PROGRAM
    exec env -- "$@"'
