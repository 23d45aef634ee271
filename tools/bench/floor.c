/* The floor: what the kernel alone charges for one request and one answer.
 *
 * usage: floor PORT ANSWER...
 *
 * Edge-triggered epoll, one recv, and the bytes of one ANSWER (a file: a whole response, head and content), and nothing
 * else. It is no web server: it takes whatever one recv brings for one request, and looks at no byte of it but the
 * number behind the first slash, which says which answer is wanted ("/7"; the first one where there is no such).
 *
 * Each answer goes the cheapest way that was found: a short one by one send; a longer one by one sendmsg, a copy as well;
 * of the longest the head, and the content's pages by vmsplice and splice. What a socket does not take at once waits for
 * EPOLLOUT. No server that sends the same bytes with these calls can cost less.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { REQUEST_BYTES_MAX = 16384, EVENTS_MAX = 512, BACKLOG = 1024, PAGE_BYTES = 4096, DESCRIPTORS_MAX = 65536 };
enum { SEND_BYTES_MAX = 4096, COPY_BYTES_MAX = 24576, PIPE_BYTES = 262144 };

struct answer {
    char *head, *content; /* the content begins on a page; where it is short, `head` has both */
    size_t head_bytes, content_bytes;
};

struct connection {
    const struct answer *under_way;
    size_t sent;
};

static struct answer *answers;
static long answer_count;
static struct connection connections[DESCRIPTORS_MAX]; /* by descriptor */
static char request[REQUEST_BYTES_MAX];
static int pipe_out, pipe_in, null;

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void load(struct answer *made, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC), memory = memfd_create("answer", MFD_CLOEXEC);
    struct stat status;
    char *text, *end;
    must(fd >= 0 && memory >= 0 && fstat(fd, &status) == 0, path);
    size_t bytes = (size_t)status.st_size;
    must((text = malloc(bytes + 1)) && read(fd, text, bytes) == status.st_size, path);
    must((end = memmem(text, bytes, "\r\n\r\n", 4)) != NULL, "an answer without a head");
    made->head = text;
    made->head_bytes = (size_t)(end + 4 - text);
    made->content_bytes = bytes - made->head_bytes;
    if (bytes <= SEND_BYTES_MAX) {
        made->head_bytes = bytes;
        made->content_bytes = 0;
    } else { /* in memory like that which a server has of its own */
        must(ftruncate(memory, (off_t)made->content_bytes) == 0, "ftruncate");
        made->content = mmap(NULL, made->content_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
        must(made->content != MAP_FAILED, "mmap");
        memcpy(made->content, text + made->head_bytes, made->content_bytes);
    }
    close(fd);
    close(memory);
}

static void watch(int poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    must(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static int open_listener(int port) {
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    must(listener >= 0, "socket");
    must(setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) == 0, "SO_REUSEADDR");
    must(bind(listener, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    must(listen(listener, BACKLOG) == 0, "listen");
    return listener;
}

static void accept_all(int poller, int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        must(fd < DESCRIPTORS_MAX, "too many connections");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        connections[fd].under_way = NULL;
        watch(poller, fd);
    }
    must(errno == EAGAIN || errno == ECONNABORTED, "accept4");
}

/* At most a pipe full of content; what the socket does not take of it is thrown away. */
static ssize_t splice_content(int fd, char *content, size_t bytes) {
    struct iovec pages = {content, bytes < PIPE_BYTES ? bytes : PIPE_BYTES - (uintptr_t)content % PAGE_BYTES};
    ssize_t left = vmsplice(pipe_in, &pages, 1, SPLICE_F_NONBLOCK), sent;
    must(left > 0, "vmsplice");
    sent = splice(pipe_out, NULL, fd, NULL, (size_t)left, SPLICE_F_NONBLOCK | ((size_t)left < bytes ? SPLICE_F_MORE : 0));
    int error = errno;
    for (left -= sent > 0 ? sent : 0; left > 0;)
        left -= splice(pipe_out, NULL, null, NULL, (size_t)left, 0);
    errno = error;
    return sent;
}

static ssize_t send_some(int fd, const struct answer *made, size_t sent) {
    if (!made->content_bytes)
        return send(fd, made->head + sent, made->head_bytes - sent, MSG_NOSIGNAL);
    size_t of_head = sent < made->head_bytes ? sent : made->head_bytes, of_content = sent - of_head;
    if (made->head_bytes + made->content_bytes <= COPY_BYTES_MAX) {
        struct iovec parts[] = {{made->head + of_head, made->head_bytes - of_head},
                                {made->content + of_content, made->content_bytes - of_content}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        return sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    if (of_head < made->head_bytes)
        return send(fd, made->head + of_head, made->head_bytes - of_head, MSG_NOSIGNAL | MSG_MORE);
    return splice_content(fd, made->content + of_content, made->content_bytes - of_content);
}

static void go_on(int fd) {
    struct connection *client = &connections[fd];
    while (client->under_way) {
        ssize_t sent = send_some(fd, client->under_way, client->sent);
        if (sent < 0 && errno != EAGAIN)
            close(fd);
        if (sent < 0)
            return;
        client->sent += (size_t)sent;
        if (client->sent == client->under_way->head_bytes + client->under_way->content_bytes)
            client->under_way = NULL;
    }
}

static void answer(int fd) {
    ssize_t got = recv(fd, request, sizeof request - 1, 0);
    if (got > 0) {
        request[got] = 0;
        char *slash = strchr(request, '/');
        long number = slash ? strtol(slash + 1, NULL, 10) : 0;
        connections[fd] = (struct connection){&answers[number < answer_count ? number : 0], 0};
        go_on(fd);
    } else if (got == 0 || errno != EAGAIN) {
        close(fd);
    }
}

int main(int count, char **words) {
    must(count >= 3, "usage: floor PORT ANSWER...");
    int ends[2], poller = epoll_create1(EPOLL_CLOEXEC), listener = open_listener(atoi(words[1]));
    answer_count = count - 2;
    must((answers = calloc((size_t)answer_count, sizeof *answers)) != NULL, "calloc");
    for (long i = 0; i < answer_count; i++)
        load(&answers[i], words[2 + i]);
    must(poller >= 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0 && (null = open("/dev/null", O_WRONLY)) >= 0, "pipe");
    pipe_out = ends[0], pipe_in = ends[1];
    must(fcntl(pipe_in, F_SETPIPE_SZ, PIPE_BYTES) >= PIPE_BYTES, "F_SETPIPE_SZ");
    signal(SIGPIPE, SIG_IGN); /* splice has no MSG_NOSIGNAL */
    watch(poller, listener);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        must(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(poller, listener);
            else if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                close(fd);
            else if (connections[fd].under_way)
                go_on(fd);
            else
                answer(fd);
        }
    }
}
