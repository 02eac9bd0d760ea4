/* A client for the shim's tests: does what its arguments say, one after the other, and prints
 * what happened, a line each. It connects as dttools' link_connect() does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int fd = -1, family = AF_INET, buffers, nonblocking, close_on_exec;
static volatile sig_atomic_t told_to_end, ends_of_children;

static void on_sigterm(int number)
{
    (void)number;
    told_to_end = 1;
}

static void on_sigchld(int number)
{
    (void)number;
    ends_of_children++;
}

static void open_socket(void)
{
    int kind = SOCK_STREAM | (nonblocking ? SOCK_NONBLOCK : 0) | (close_on_exec ? SOCK_CLOEXEC : 0);
    fd = socket(family, kind, 0);
    if (fd < 0)
        perror("socket"), exit(99);
    if (buffers) {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffers, sizeof buffers);
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffers, sizeof buffers);
    }
}

static socklen_t make_address(struct sockaddr_storage *where, const char *host, int port)
{
    struct sockaddr_in *in = (void *)where;
    struct sockaddr_in6 *in6 = (void *)where;
    memset(where, 0, sizeof *where);
    family = strchr(host, ':') ? AF_INET6 : AF_INET;
    where->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        in->sin_port = htons((uint16_t)port);
        if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
            exit(98);
        return sizeof *in;
    }
    in6->sin6_port = htons((uint16_t)port);
    if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
        exit(98);
    return sizeof *in6;
}

static void report(const char *what, int result)
{
    if (result < 0)
        printf("%s: errno %d\n", what, errno);
    else
        printf("%s: %d\n", what, result);
}

static int is_temporary(int error)
{
    return error == EINTR || error == EAGAIN || error == EINPROGRESS || error == EALREADY ||
           error == EISCONN;
}

/* One link_connect(): non-blocking, asked again until there is a peer. */
static int link_up(const struct sockaddr_storage *where, socklen_t size, time_t stop)
{
    struct sockaddr_storage peer;
    open_socket();
    for (;;) {
        socklen_t peer_size = sizeof peer;
        struct pollfd one = {.fd = fd, .events = POLLOUT};
        if (connect(fd, (const void *)where, size) < 0 && !is_temporary(errno))
            break;
        if (getpeername(fd, (void *)&peer, &peer_size) == 0)
            return 0;
        if (time(NULL) >= stop) {
            errno = ETIMEDOUT;
            break;
        }
        poll(&one, 1, 100);
    }
    int error = errno;
    close(fd);
    fd = -1;
    errno = error;
    return -1;
}

/* The worker's loop: a new link until one is up. */
static int loop(const char *host, int port, int seconds)
{
    struct sockaddr_storage where;
    socklen_t size = make_address(&where, host, port);
    time_t stop = time(NULL) + seconds;
    int tries = 0, result = -1;
    nonblocking = 1;
    do {
        if (tries++)
            usleep(50000);
        result = link_up(&where, size, stop);
    } while (result < 0 && time(NULL) < stop && !told_to_end);
    printf("tries: %d\n", tries);
    return result;
}

static void print_state(void)
{
    int sndbuf = 0, rcvbuf = 0, nodelay = 0, keepalive = 0, open_now = -3; /* ".", "..", its own */
    int idle = 0, interval = 0, count = 0;
    socklen_t size = sizeof sndbuf;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        open_now++;
    closedir(dir);
    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &sndbuf, &size);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, &size);
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keepalive, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &nodelay, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, &size);
    getsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, &size);
    printf("state: fd=%d nonblock=%d cloexec=%d sndbuf=%d rcvbuf=%d nodelay=%d keepalive=%d "
           "idle=%d interval=%d count=%d open=%d\n",
           fd, !!(fcntl(fd, F_GETFL) & O_NONBLOCK), !!(fcntl(fd, F_GETFD) & FD_CLOEXEC), sndbuf,
           rcvbuf, nodelay, keepalive, idle, interval, count, open_now);
}

/* Whether any child is or was there, by whatever means a program hears of one. */
static void print_children(void)
{
    int any = waitpid(-1, NULL, WNOHANG | __WALL);
    int error = any < 0 ? errno : 0;
    printf("children: %d errno %d, ends told: %d\n", any, error, (int)ends_of_children);
}

static void hear(void)
{
    char line[256];
    size_t have = 0;
    while (have < sizeof line - 1) {
        struct pollfd one = {.fd = fd, .events = POLLIN};
        if (poll(&one, 1, 10000) <= 0) {
            printf("heard: nothing\n");
            return;
        }
        ssize_t got = recv(fd, line + have, 1, 0);
        if (got <= 0 || line[have] == '\n')
            break;
        have++;
    }
    line[have] = 0;
    printf("heard: %s\n", line);
}

static void print_child(void)
{
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        char *arguments[] = {"env", NULL};
        execv("/usr/bin/env", arguments);
        _exit(97);
    }
    int status = 0;
    waitpid(pid, &status, 0);
    printf("child: %d\n", status);
}

/* connect() with pointers and lengths that nobody should give it. */
static int connect_badly(const char *how)
{
    struct sockaddr_storage where;
    char *edge = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    make_address(&where, "127.86.83.80", 1);
    munmap(edge + 4096, 4096);
    open_socket();
    if (!strcmp(how, "null"))
        return connect(fd, NULL, 16);
    if (!strcmp(how, "wild"))
        return connect(fd, (void *)8, 16);
    if (!strcmp(how, "high"))
        return connect(fd, (void *)-4096L, 16);
    if (!strcmp(how, "edge")) { /* a family, and then no more memory */
        memcpy(edge + 4096 - 8, &where, 8);
        return connect(fd, (void *)(edge + 4096 - 8), 16);
    }
    if (!strcmp(how, "fits")) { /* 16 bytes at the end of memory, the length of an IPv6 one */
        memcpy(edge + 4096 - 16, &where, 16);
        return connect(fd, (void *)(edge + 4096 - 16), 16);
    }
    if (!strcmp(how, "edge6")) {
        make_address(&where, "::ffff:127.86.83.80", 1);
        memcpy(edge + 4096 - 16, &where, 16);
        return connect(fd, (void *)(edge + 4096 - 16), 28);
    }
    if (!strcmp(how, "short"))
        return connect(fd, (void *)&where, 15);
    if (!strcmp(how, "zero"))
        return connect(fd, (void *)&where, 0);
    if (!strcmp(how, "huge"))
        return connect(fd, (void *)&where, 100000);
    if (!strcmp(how, "no-fd"))
        return connect(-1, (void *)&where, 16);
    if (!strcmp(how, "file"))
        return connect(0, (void *)&where, 16);
    if (!strcmp(how, "twice"))
        return connect(fd, (void *)&where, 16) < 0 ? -1 : connect(fd, (void *)&where, 16);
    if (!strcmp(how, "datagram")) {
        int other = socket(AF_INET, SOCK_DGRAM, 0);
        return connect(other, (void *)&where, 16);
    }
    exit(96);
}

int main(int count, char **words)
{
    struct sockaddr_storage where;
    setvbuf(stdout, NULL, _IOFBF, 1 << 16); /* what is not flushed at the end is lost */
    for (int i = 1; i < count; i++) {
        const char *word = words[i];
        if (!strcmp(word, "env")) {
            for (char **each = environ; *each; each++)
                printf("env: %.60s\n", *each);
        } else if (!strcmp(word, "child")) {
            print_child();
        } else if (!strcmp(word, "nonblock")) {
            nonblocking = 1;
        } else if (!strcmp(word, "cloexec")) {
            close_on_exec = 1;
        } else if (!strcmp(word, "buffers")) {
            buffers = atoi(words[++i]);
        } else if (!strcmp(word, "handler")) {
            signal(SIGTERM, on_sigterm);
        } else if (!strcmp(word, "count-children")) {
            signal(SIGCHLD, on_sigchld);
        } else if (!strcmp(word, "children")) {
            print_children();
        } else if (!strcmp(word, "connect")) {
            socklen_t size = make_address(&where, words[i + 1], atoi(words[i + 2]));
            i += 2;
            open_socket();
            report("connect", connect(fd, (void *)&where, size));
        } else if (!strcmp(word, "again")) { /* the same, on the same socket */
            socklen_t size = make_address(&where, words[i + 1], atoi(words[i + 2]));
            i += 2;
            report("again", connect(fd, (void *)&where, size));
        } else if (!strcmp(word, "loop")) {
            report("loop", loop(words[i + 1], atoi(words[i + 2]), atoi(words[i + 3])));
            i += 3;
        } else if (!strcmp(word, "unix")) {
            struct sockaddr_un un = {.sun_family = AF_UNIX};
            strncpy(un.sun_path, words[++i], sizeof un.sun_path - 1);
            fd = socket(AF_UNIX, SOCK_STREAM, 0);
            report("unix", connect(fd, (void *)&un, sizeof un));
        } else if (!strcmp(word, "badly")) {
            report("badly", connect_badly(words[++i]));
        } else if (!strcmp(word, "send")) {
            char line[256];
            int size = snprintf(line, sizeof line, "%s\n", words[++i]);
            send(fd, line, (size_t)size, MSG_NOSIGNAL);
        } else if (!strcmp(word, "hear")) {
            hear();
        } else if (!strcmp(word, "state")) {
            print_state();
        } else if (!strcmp(word, "close")) {
            close(fd);
        } else {
            printf("unknown: %s\n", word);
            return 95;
        }
    }
    return told_to_end ? 3 : 0;
}
