#include "settings.h"

extern char **environ __attribute__((weak));
extern const char *gnu_get_libc_version(void) __attribute__((weak));

enum {
    DEFAULT_LIMIT = 900, /* seconds; the worker's own */
    SETTING = 78,        /* as in errors.py, ExitStatus: with it the worker ends */
};

struct settings settings;

static void give_up(const char *what, const char *value, const char *why)
{
    char excerpt[200] = "";
    size_t size = length(value), most = sizeof excerpt - sizeof "...";
    int is_long = size > most;

    memcpy(excerpt, value, is_long ? most : size); /* the reason needs room too */
    say(what, excerpt, is_long ? "...: " : ": ", why, NULL);
    CALL(exit_group, SETTING, 0, 0, 0, 0);
}

/* Read the secret now: the worker changes its directory before it connects. */
static void read_secret(const char *path, int is_check)
{
    unsigned char status[256], file[SECRET + 1];
    long fd, size = -1;
    uint32_t mode = 0;

    /* Not to wait for a writer, should it be a pipe. */
    fd = CALL(openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0, 0);
    if (fd < 0)
        give_up("cannot read the secret file ", path, reason(-fd));
    if (CALL(fstat, fd, status, 0, 0, 0) == 0) {
        memcpy(&mode, status + STAT_MODE, sizeof mode);
        if ((mode & 0170000) != 0100000) /* S_IFMT, S_IFREG */
            give_up("cannot read the secret file ", path, "it is no regular file");
        size = CALL(read, fd, file, sizeof file, 0, 0);
    }
    CALL(close, fd, 0, 0, 0, 0);
    if (size != SECRET)
        give_up("cannot use the secret file ", path,
                size < 0        ? "it cannot be read"
                : size > SECRET ? "it has more than 32 bytes; copy the manager's file again"
                                : "it has fewer than 32 bytes; copy the manager's file again");
    if (mode & 0044 && !is_check)
        say("others can read the secret file ", path,
            "; who has it can work for the manager: make its mode 600", NULL);
    memcpy(settings.secret, file, SECRET);
    wipe(file, sizeof file);
    settings.has_secret = 1;
}

/* Whether an entry of LD_PRELOAD is this library. */
static int is_ours(const char *entry, size_t size)
{
    static const char name[] = "libvine_sharedport.so";
    size_t ours = sizeof name - 1;
    return size >= ours && !memcmp(entry + size - ours, name, ours) &&
           (size == ours || entry[size - ours - 1] == '/');
}

int leave_preload(char *value)
{
    char *to = value;
    for (const char *from = value; *from;) {
        size_t size = 0;
        while (from[size] && from[size] != ':' && from[size] != ' ') /* ld.so(8) */
            size++;
        if (!is_ours(from, size)) {
            size += from[size] != 0; /* with its separator */
            while (size--) /* forwards, as they may overlap */
                *to++ = *from++;
        } else {
            from += size + (from[size] != 0);
        }
    }
    while (to > value && (to[-1] == ':' || to[-1] == ' '))
        to--;
    *to = 0;
    return to > value;
}

static void take(const char **setting, const char *variable, const char *name)
{
    if (after(variable, name))
        *setting = after(variable, name);
}

char **environ_of_libc(char **given)
{
    return &environ && environ ? environ : gnu_get_libc_version ? given : NULL;
}

void leave_environment(char **variables, struct given *given)
{
    char **kept = variables;

    for (char **each = variables; (*kept = *each); each++) {
        const char *value = after(*each, "VINE_SHAREDPORT_");
        if (value) { /* all of ours go */
            take(&given->address, value, "ADDRESS=");
            take(&given->secret_file, value, "SECRET_FILE=");
            take(&given->network, value, "PRIVATE_NETWORK=");
            take(&given->limit, value, "CONNECT_TIMEOUT=");
            take(&given->keepalive, value, "KEEPALIVE=");
            given->is_check |= same(value, "CHECK=1");
        } else if (!after(*each, "LD_PRELOAD=") || leave_preload(*each + length("LD_PRELOAD="))) {
            kept++;
        }
    }
}

/* IDLE/INTERVAL/COUNT or "off", within the kernel's bounds; see keepalive.py. Whether it is. */
static int read_keepalive(const char *text)
{
    long found[3] = {0, 0, 0};
    int part = 0;

    if (same(text, "off")) {
        memset(&settings.keepalive, 0, sizeof settings.keepalive);
        return 1;
    }
    for (size_t start = 0, at = 0;; at++) {
        if (text[at] && text[at] != '/')
            continue;
        if (part == 3 || (found[part] = read_number(text + start, at - start, 5,
                                                    part < 2 ? 32767 : 127)) < 1)
            return 0;
        part++;
        start = at + 1;
        if (!text[at])
            break;
    }
    settings.keepalive.idle = (int)found[0];
    settings.keepalive.interval = (int)found[1];
    settings.keepalive.count = (int)found[2];
    return part == 3;
}

void read_settings(const struct given *given)
{
    const char *limit = given->limit, *wrong;

    settings.pid = CALL(getpid, 0, 0, 0, 0, 0);
    if (given->address && (wrong = make_plan(&settings.plan, given->address, given->network)))
        give_up("cannot use the manager's address ", given->address, wrong);
    settings.limit = DEFAULT_LIMIT * 1000L;
    if (limit && *limit) {
        settings.limit = read_number(limit, length(limit), 8, 99999999) * 1000;
        if (settings.limit <= 0)
            give_up("cannot use VINE_SHAREDPORT_CONNECT_TIMEOUT=", limit,
                    "wanted a whole number of seconds, 1 or more");
    }
    read_keepalive("8/8/75"); /* as in keepalive.py */
    if (given->keepalive && *given->keepalive && !read_keepalive(given->keepalive))
        give_up("cannot use VINE_SHAREDPORT_KEEPALIVE=", given->keepalive,
                "wanted IDLE/INTERVAL/COUNT, such as 8/8/75, or off");
    if (given->secret_file && *given->secret_file)
        read_secret(given->secret_file, given->is_check);
}
