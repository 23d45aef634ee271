/* A load generator for latency and for long bodies: requests at a steady rate, or as fast as they are answered.
 *
 * usage: steady PORT CONNECTIONS RATE SECONDS SEED TARGETS
 *
 * RATE is in requests/s; each is for a line of the file TARGETS, at random. The time of a request runs from when it was
 * due, not from when a connection was free for it: a server that stalls for a second has RATE late answers, not one
 * (Tene, "How NOT to Measure Latency"). With RATE 0 each connection asks again as soon as it has its answer, which is
 * when a request is due.
 *
 * Bodies are thrown away inside the kernel, uncopied (MSG_TRUNC, tcp(7)): wrk copies every byte and parses it, at about
 * 1 GB/s on one core; servers that sendfile are several times faster, so with long bodies it measures wrk. Every answer
 * must be 200 with a Content-Length. Prints one line: requests, seconds, percentiles and the maximum in nanoseconds,
 * and how many requests the rate made due that were not answered; or ends with exit code 1 and the reason.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES_MAX = 8192, EVENTS_MAX = 512 };

struct connection {
    int fd;
    uint64_t due_ns;
    int64_t left; /* bytes of the body still to come; -1 while the head is read */
    size_t head_bytes;
    char head[HEAD_BYTES_MAX + 1];
};

struct request {
    char *text;
    size_t bytes;
};

static struct request *requests; /* one a line of TARGETS */
static size_t request_count;
static struct connection **idle; /* those that wait for a request to be due; none with RATE 0 */
static size_t idle_count;
static uint64_t *latencies_ns;
static size_t done, room, asked;
static double rate;

static void fail(const char *what) {
    fprintf(stderr, "steady: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void read_targets(const char *path, int port) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t line_room = 0, requests_room = 0;
    ssize_t length;
    if (!file)
        fail(path);
    while ((length = getline(&line, &line_room, file)) > 1) {
        if (request_count == requests_room) {
            requests_room = requests_room ? 2 * requests_room : 1024;
            requests = realloc(requests, requests_room * sizeof *requests);
            if (!requests)
                fail("realloc");
        }
        struct request *made = &requests[request_count++];
        line[length - 1] = 0;
        int bytes = asprintf(&made->text, "GET %.4000s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", line, port);
        if (bytes < 0)
            fail("asprintf");
        made->bytes = (size_t)bytes;
    }
    fclose(file);
    free(line);
    if (!request_count)
        fail("no targets");
}

static void ask(struct connection *at, uint64_t due_ns) {
    const struct request *request = &requests[(size_t)random() % request_count];
    at->left = -1;
    at->head_bytes = 0;
    at->due_ns = due_ns;
    asked++;
    if (send(at->fd, request->text, request->bytes, MSG_NOSIGNAL) != (ssize_t)request->bytes)
        fail("send");
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

static void answered(struct connection *at) {
    if (done == room) {
        room = room ? 2 * room : 65536;
        latencies_ns = realloc(latencies_ns, room * sizeof *latencies_ns);
        if (!latencies_ns)
            fail("realloc");
    }
    uint64_t now = now_ns();
    latencies_ns[done++] = now - at->due_ns;
    if (rate)
        idle[idle_count++] = at;
    else
        ask(at, now);
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
    int at_once = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, sizeof at_once);
    return fd;
}

static void watch(int poller, int fd, uint32_t events, struct connection *at) {
    struct epoll_event event = {.events = events, .data.ptr = at};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

static void connect_all(int poller, size_t connections, int port) {
    struct connection *all = calloc(connections, sizeof *all);
    idle = calloc(connections, sizeof *idle);
    if (!all || !idle)
        fail("calloc");
    for (struct connection *at = all; at < all + connections; at++) {
        at->fd = connected(port);
        watch(poller, at->fd, EPOLLIN, at);
        idle[idle_count++] = at;
    }
}

static void wake_at(int timer, uint64_t when_ns) {
    static uint64_t set_ns; /* with RATE 0 it is the end, at every turn */
    if (when_ns == set_ns)
        return;
    set_ns = when_ns;
    struct itimerspec when = {0};
    when.it_value.tv_sec = (time_t)(when_ns / 1000000000);
    when.it_value.tv_nsec = (long)(when_ns % 1000000000);
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL) != 0)
        fail("timerfd_settime");
}

/* Ask for so long, and a little more; how long it was. */
static double run(int poller, uint64_t length_ns) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0)
        fail("timerfd_create");
    watch(poller, timer, EPOLLIN | EPOLLET, NULL);
    uint64_t begin_ns = now_ns(), end_ns = begin_ns + length_ns, now = begin_ns;
    while (now < end_ns) {
        uint64_t due_ns = now;
        while (idle_count && (!rate || (due_ns = begin_ns + (uint64_t)((double)asked * 1e9 / rate)) <= now))
            ask(idle[--idle_count], due_ns);
        wake_at(timer, idle_count && due_ns < end_ns ? due_ns : end_ns);
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(poller, events, EVENTS_MAX, -1);
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr)
                react(events[i].data.ptr);
        now = now_ns();
    }
    return (double)(now - begin_ns) / 1e9;
}

static int earlier(const void *one, const void *two) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)two;
    return (a > b) - (a < b);
}

int main(int count, char **words) {
    errno = 0;
    if (count != 7)
        fail("usage: steady PORT CONNECTIONS RATE SECONDS SEED TARGETS");
    int port = atoi(words[1]), poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        fail("epoll_create1");
    rate = atof(words[3]);
    srandom((unsigned)atoi(words[5]));
    read_targets(words[6], port);
    connect_all(poller, (size_t)atoi(words[2]), port);
    double seconds = run(poller, (uint64_t)(atof(words[4]) * 1e9));
    size_t due = (size_t)(seconds * rate);
    errno = 0;
    if (!done)
        fail("no answer in time");
    qsort(latencies_ns, done, sizeof *latencies_ns, earlier);
    printf("requests %zu seconds %.6f p50_ns %lu p99_ns %lu p999_ns %lu max_ns %lu unanswered %zu\n", done, seconds,
           latencies_ns[done / 2], latencies_ns[done * 99 / 100], latencies_ns[done * 999 / 1000],
           latencies_ns[done - 1], due > done ? due - done : 0);
}
