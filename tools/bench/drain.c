/* A load generator for long bodies: it throws them away inside the kernel, uncopied (MSG_TRUNC, tcp(7)).
 *
 * usage: drain PORT PATH CONNECTIONS SECONDS
 *
 * wrk copies every byte and parses it, at about 1 GB/s on one core; servers that sendfile are several times faster,
 * so with long bodies it measures wrk. Each connection asks for PATH again as soon as it has the whole answer, which
 * must be 200 with a Content-Length. Prints one line: requests, seconds, and the 50th and 99th percentile of the time
 * from sending a request to the last byte of its answer, in microseconds; or ends with exit code 1 and the reason.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 8192, EVENTS_MAX = 512 };

struct connection {
    int fd;
    uint64_t asked_us;
    int64_t left;         /* bytes of the body still to come; -1 while the head is read */
    size_t head_bytes;
    char head[HEAD_BYTES_MAX + 1];
};

static char request[HEAD_BYTES_MAX];
static size_t request_bytes;
static uint32_t *latencies_us;
static size_t done, room;

static void fail(const char *what) {
    fprintf(stderr, "drain: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void ask(struct connection *at) {
    at->left = -1;
    at->head_bytes = 0;
    at->asked_us = now_us();
    if (send(at->fd, request, request_bytes, MSG_NOSIGNAL) != (ssize_t)request_bytes)
        fail("send");
}

static void answered(struct connection *at) {
    if (done == room) {
        room = room ? 2 * room : 65536;
        latencies_us = realloc(latencies_us, room * sizeof *latencies_us);
        if (!latencies_us)
            fail("realloc");
    }
    latencies_us[done++] = (uint32_t)(now_us() - at->asked_us);
    ask(at);
}

static ssize_t receive(int fd, void *into, size_t bytes, int flags) {
    ssize_t got = recv(fd, into, bytes, flags | MSG_DONTWAIT);
    if (got == 0) {
        errno = 0;
        fail("the server closed a connection");
    }
    if (got < 0 && errno != EAGAIN)
        fail("recv");
    return got;
}

static void read_head(struct connection *at) {
    ssize_t got = receive(at->fd, at->head + at->head_bytes, HEAD_BYTES_MAX - at->head_bytes, 0);
    if (got < 0)
        return;
    at->head_bytes += (size_t)got;
    at->head[at->head_bytes] = 0;
    char *end = strstr(at->head, "\r\n\r\n");
    errno = 0;
    if (!end) {
        if (at->head_bytes == HEAD_BYTES_MAX)
            fail("a head without an end");
        return;
    }
    char *length = strcasestr(at->head, "\r\nContent-Length:");
    if (strncmp(at->head, "HTTP/1.1 200", 12) != 0 || !length || length > end)
        fail("an answer that is not 200 with a Content-Length");
    at->left = strtoll(length + 17, NULL, 10) - (int64_t)(at->head_bytes - (size_t)(end + 4 - at->head));
}

static void react(struct connection *at) {
    if (at->left < 0)
        read_head(at);
    if (at->left > 0) {
        ssize_t got = receive(at->fd, NULL, (size_t)at->left, MSG_TRUNC);
        if (got > 0)
            at->left -= got;
    }
    if (at->left == 0)
        answered(at);
}

static int connected(int port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connect");
    return fd;
}

static int earlier(const void *one, const void *two) {
    uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)two;
    return (a > b) - (a < b);
}

int main(int count, char **words) {
    errno = 0;
    if (count != 5)
        fail("usage: drain PORT PATH CONNECTIONS SECONDS");
    int port = atoi(words[1]), connections = atoi(words[3]);
    request_bytes = (size_t)snprintf(
        request, sizeof request, "GET %.4000s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", words[2], port);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    if (!all || poller < 0)
        fail("start");
    for (struct connection *at = all; at < all + connections; at++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = at};
        at->fd = connected(port);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, at->fd, &event) != 0)
            fail("epoll_ctl");
    }
    uint64_t begin_us = now_us(), end_us = begin_us + (uint64_t)atoi(words[4]) * 1000000;
    for (struct connection *at = all; at < all + connections; at++)
        ask(at);
    while (now_us() < end_us) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poller, events, EVENTS_MAX, 100);
        for (int i = 0; i < ready; i++)
            react(events[i].data.ptr);
    }
    double seconds = (double)(now_us() - begin_us) / 1e6;
    errno = 0;
    if (!done)
        fail("no answer in time");
    qsort(latencies_us, done, sizeof *latencies_us, earlier);
    printf("requests %zu seconds %.6f p50_us %u p99_us %u\n", done, seconds, latencies_us[done / 2],
           latencies_us[done * 99 / 100]);
}
