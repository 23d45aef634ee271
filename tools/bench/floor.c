/* The floor: what the kernel alone charges for one request and one answer.
 *
 * usage: floor PORT FILE
 *
 * Edge-triggered epoll, one recv, one send of the bytes of FILE (a whole response, head and body), and nothing
 * else. It is no web server: it looks at no byte of the request, takes whatever one recv brings for one request,
 * and ends when an answer does not go out whole. No server that answers with recv and send can cost less.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RESPONSE_BYTES_MAX = 65536, REQUEST_BYTES_MAX = 16384, EVENTS_MAX = 512, BACKLOG = 1024 };

static char response[RESPONSE_BYTES_MAX], request[REQUEST_BYTES_MAX];
static size_t response_bytes;

static void must(int fine, const char *what) {
    if (!fine) {
        perror(what);
        exit(1);
    }
}

static void watch(int poller, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.fd = fd};
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
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(poller, fd);
    }
    must(errno == EAGAIN || errno == ECONNABORTED, "accept4");
}

static void answer(int fd) {
    ssize_t got = recv(fd, request, sizeof request, 0);
    if (got > 0) {
        ssize_t sent = send(fd, response, response_bytes, MSG_NOSIGNAL);
        must(sent == (ssize_t)response_bytes || errno == EPIPE || errno == ECONNRESET, "send");
    } else if (got == 0 || errno != EAGAIN) {
        close(fd);
    }
}

int main(int count, char **words) {
    must(count == 3, "usage: floor PORT FILE");
    FILE *file = fopen(words[2], "rb");
    must(file != NULL, words[2]);
    response_bytes = fread(response, 1, sizeof response, file);
    int poller = epoll_create1(EPOLL_CLOEXEC), listener = open_listener(atoi(words[1]));
    must(poller >= 0, "epoll_create1");
    watch(poller, listener);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        must(ready >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener)
                accept_all(poller, listener);
            else if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                close(events[i].data.fd);
            else
                answer(events[i].data.fd);
        }
    }
}
