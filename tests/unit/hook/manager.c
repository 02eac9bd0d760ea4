/*
A server that accepts as the managers of cctools do: poll() on the one listening
descriptor, accept() without an address, then calls on what it returned.

Loaded by the tests through ctypes.PyDLL: like a SWIG module, it holds the GIL.
*/

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOTHING 0x7fffffff

int server_errno;    /* errno after the last accept() or close() below */
int server_accepts;  /* calls of accept() so far */
int server_strangers; /* answers of accept() that were neither a client nor NOTHING */

#ifndef WITHOUT_ACCEPT

/* Whether 127.0.0.1 could have the port too; other programs may be there. */
static int is_free_on_loopback(in_port_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = port};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, found;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	found = bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
	syscall(SYS_close, fd); /* close() itself must not be bound yet */
	return found;
}

/* link_serve_address_range(): on 127.0.0.HOST, the first port of a range that is free there
   and on 127.0.0.1 */
int server_listen(int host, int backlog)
{
	struct sockaddr_in address;
	int fd, tries, one = 1;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(0x7f000000 + host);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	for (tries = 0; tries < 10000; tries++) {
		address.sin_port = htons(20000 + (getpid() * 31 + tries) % 10000);
		if (!is_free_on_loopback(address.sin_port))
			continue;
		if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
				listen(fd, backlog) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
			return fd;
		if (errno != EADDRINUSE)
			break;
	}
	close(fd);
	return -1;
}

/* link_address_local() */
int server_port(int fd)
{
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	if (getsockname(fd, (struct sockaddr *)&address, &length))
		return 0;
	return ntohs(address.sin_port);
}

/* link_sleep(): a signal does not end it */
int server_wait(int fd, int msec)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	int result;

	do {
		entry.revents = 0;
		result = poll(&entry, 1, msec);
	} while (result < 0 && errno == EINTR);
	return result > 0 && entry.revents & POLLIN;
}

int server_raw_accept(int fd, void *address, void *length)
{
	int client;

	errno = 0;
	client = accept(fd, address, length);
	server_errno = errno;
	server_accepts++;
	return client;
}

/* link_accept(), closing and all */
int server_accept(int fd, int msec)
{
	int client;
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	for (;;) {
		client = accept(fd, 0, 0);
		server_accepts++;
		if (client >= 0)
			break;
		if (!server_wait(fd, msec))
			goto failure;
	}
	if (fcntl(client, F_SETFL, O_NONBLOCK) < 0)
		goto failure;
	if (getpeername(client, (struct sockaddr *)&address, &length))
		goto failure;
	return client;

failure:
	if (client >= 0 && client != NOTHING)
		server_strangers++;
	close(client);
	return -1;
}

/* connect_new_workers(): whoever is there, after one wait. Counts up *count, so that the
   caller knows it even when it does not see this return. */
void server_serve(int fd, int msec, int *clients, volatile int *count, int most)
{
	int client, cycles = 0;

	if (!server_wait(fd, msec))
		return;
	do {
		client = server_accept(fd, msec);
		if (client >= 0) {
			clients[*count] = client;
			++*count;
		}
	} while (++cycles < 10 && *count < most && server_wait(fd, 0));
}

int server_close(int fd)
{
	int result;

	errno = 0;
	result = close(fd);
	server_errno = errno;
	return result;
}

/* A wait, in which a signal may come, and a call after it, without Python between */
int server_wait_and_accept(int fd, int msec)
{
	return server_wait(fd, msec) ? server_raw_accept(fd, 0, 0) : -1;
}

int server_wait_and_close(int fd, int msec, int other)
{
	return server_wait(fd, msec) ? server_close(other) : -1;
}

int server_wait_and_port(int fd, int msec)
{
	return server_wait(fd, msec) ? server_port(fd) : -1;
}

/* A child that only C knows of, as process.c makes them; its exit status */
int server_fork_and_close(int fd)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(close(fd) ? 1 : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What the process does with its descriptors when the interpreter has gone */
int server_fd_at_exit = -1;

__attribute__((destructor)) static void server_exit(void)
{
	if (server_fd_at_exit < 0)
		return;
	if (server_port(server_fd_at_exit) && accept(server_fd_at_exit, 0, 0) < 0 &&
			errno == EAGAIN && close(server_fd_at_exit) == 0)
		server_fd_at_exit = write(1, "restored\n", 9);
}

#endif

/* Give the tests an import to rename, for a library that has a name twice. */
int server_spare(int fd)
{
	return fsync(fd);
}
