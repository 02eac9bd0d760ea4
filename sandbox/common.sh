# shellcheck shell=bash
# Messages, shared by the other files. Sourced, never run.

# Exit status of everything that is our failure and not COMMAND's, as with env and timeout.
readonly OUR_FAILURE=125

say() {
    printf 'sandbox/run: %s\n' "$*" >&2 2>/dev/null || true
}

# fail WHAT [FOUND [NEXT-STEP]...]: say what failed, what was found and what to do; give up.
fail() {
    local label='found:' text
    say "$1"
    shift
    for text in "$@"; do
        printf '  %-6s %s\n' "$label" "$text" >&2
        case $label in
            found:) label='next:' ;;
            *) label='' ;;
        esac
    done
    exit "$OUR_FAILURE"
}
