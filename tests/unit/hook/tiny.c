/* The three imports and nothing else, so that all of the library is in its file's first page. */

#include <sys/socket.h>
#include <unistd.h>

int tiny_serve(int fd)
{
	int client = accept(fd, 0, 0);

	getsockname(fd, 0, 0);
	return close(client);
}
