/* A load generator: ready-made requests at a steady rate, or as fast as they are answered.
 *
 * usage: steady PORT CONNECTIONS RATE SECONDS SEED DEPTH RECORDS
 *
 * RECORDS is a file of requests. Each stands behind a line "STATUS LENGTH BYTES" that tells the answer and how many
 * bytes the request has. LENGTH is that of the content behind the head of the answer: a number, "*" for what
 * Content-Length says, or "-" for none at all, whatever Content-Length says (HEAD, 304). Ten '#' in a request are a
 * place: there each request that is sent has its running number, in ten digits. With SEED 0 requests are taken in the
 * order of the file, again and again; else at random. DEPTH of them go out in one send, and the next ones on this
 * connection when all are answered. CONNECTIONS is their number, or the connections themselves: descriptors that are
 * inherited, "@3,4,7".
 *
 * RATE is in requests/s. The time of a request runs from when it was due, not from when a connection was free for it:
 * a server that stalls for a second has RATE late answers, not one (Tene, "How NOT to Measure Latency"). With RATE 0
 * each connection asks again as soon as it has its answer, which is when a request is due.
 *
 * Long bodies are thrown away inside the kernel, uncopied (MSG_TRUNC, tcp(7)): wrk copies every byte and parses it, at
 * about 1 GB/s on one core; servers that sendfile are several times faster, so with long bodies it measures wrk. Every
 * answer must have the status and the length that its record tells. Where several go out in one send, and RATE is 0, it
 * looks so into one batch of answers in LOOK_EVERY of a connection, and of the others it counts the bytes, which have to
 * be those of the answers that it looked into: else its own work is as much as the server's. Prints one line: requests, seconds, percentiles
 * and the maximum in nanoseconds, and how many requests the rate made due that were not answered; or ends with exit
 * code 1 and the reason.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { INPUT_BYTES = 8192, OUTPUT_BYTES = 65536, EVENTS_MAX = 512, DEPTH_MAX = 64, PLACES_MAX = 4, DIGITS = 10 };
enum { LOOK_EVERY = 64 };
static const uint64_t LATE_NS = 3000000000; /* a client that gives way to all others may get no core in its time */
enum { NO_CONTENT = -1, ANY_LENGTH = -2, HEAD_AWAITED = -1 };

struct request {
    char *text;
    size_t bytes;
    int status;
    int64_t length; /* or NO_CONTENT, ANY_LENGTH */
    size_t places[PLACES_MAX], place_count;
    int64_t answer_bytes; /* of the last answer that was looked into, with its head */
    int varies;           /* these were others before */
};

struct connection {
    int fd;
    uint64_t due_ns;
    struct request *asked[DEPTH_MAX]; /* what is under way, DEPTH of them */
    size_t answers;                   /* how many of these are complete */
    size_t batches;
    int counts;   /* the bytes of this batch are counted */
    int64_t left; /* bytes still to come of the content, or of the batch; or HEAD_AWAITED */
    size_t input_bytes;
    char input[INPUT_BYTES];
};

static struct request *requests; /* one a record */
static size_t request_count, next_request;
static struct connection **idle; /* those that wait for a request to be due; none with RATE 0 */
static size_t idle_count, depth;
static uint64_t *latencies_ns;
static size_t done, room, asked;
static double rate;
static int at_random;

static void fail(const char *what) {
    fprintf(stderr, "steady: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

static void fail_format(const char *what) {
    errno = 0;
    fail(what);
}

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void find_places(struct request *made) {
    char *end = made->text + made->bytes, *at = made->text;
    while ((at = memmem(at, (size_t)(end - at), "##########", DIGITS))) {
        if (made->place_count == PLACES_MAX)
            fail_format("a request with too many places");
        made->places[made->place_count++] = (size_t)(at - made->text);
        at += DIGITS;
    }
}

static int64_t length_of(const char *word) {
    if (*word == '-')
        return NO_CONTENT;
    return *word == '*' ? ANY_LENGTH : strtoll(word, NULL, 10);
}

static void read_records(const char *path) {
    FILE *file = fopen(path, "r");
    size_t requests_room = 0;
    char length[24];
    struct request made = {0};
    if (!file)
        fail(path);
    while (fscanf(file, "%d %23s %zu", &made.status, length, &made.bytes) == 3) {
        if (request_count == requests_room) {
            requests_room = requests_room ? 2 * requests_room : 1024;
            requests = realloc(requests, requests_room * sizeof *requests);
        }
        made.text = malloc(made.bytes + 1);
        if (!requests || !made.text)
            fail("malloc");
        if (fgetc(file) != '\n' || fread(made.text, 1, made.bytes, file) != made.bytes)
            fail_format("a record that is cut short");
        if (made.bytes * depth > OUTPUT_BYTES)
            fail_format("a request that is too long");
        made.length = length_of(length);
        made.place_count = 0;
        find_places(&made);
        requests[request_count++] = made;
    }
    if (!request_count || !feof(file))
        fail_format("no records");
    fclose(file);
}

static size_t put_request(char *out, const struct request *request) {
    memcpy(out, request->text, request->bytes);
    for (size_t i = 0; i < request->place_count; i++) {
        char *digit = out + request->places[i] + DIGITS;
        uint64_t number = asked;
        for (int n = 0; n < DIGITS; n++, number /= 10)
            *--digit = (char)('0' + number % 10);
    }
    return request->bytes;
}

static void ask(struct connection *at, uint64_t due_ns) {
    static char output[OUTPUT_BYTES];
    size_t bytes = 0;
    int64_t answer_bytes = 0;
    at->counts = depth > 1 && !rate && at->batches++ % LOOK_EVERY;
    at->answers = 0;
    at->due_ns = due_ns;
    for (size_t i = 0; i < depth; i++) {
        struct request *request = &requests[at_random ? (size_t)random() % request_count : next_request];
        if (++next_request == request_count)
            next_request = 0;
        at->asked[i] = request;
        at->counts &= request->answer_bytes && !request->varies;
        answer_bytes += request->answer_bytes;
        bytes += put_request(output + bytes, request);
        asked++;
    }
    at->left = at->counts ? answer_bytes : HEAD_AWAITED;
    if (send(at->fd, output, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
        fail("send");
}

static ssize_t receive(int fd, void *into, size_t bytes, int flags) {
    ssize_t got = recv(fd, into, bytes, flags | MSG_DONTWAIT);
    if (got == 0)
        fail_format("the server closed a connection");
    if (got < 0 && errno != EAGAIN)
        fail("recv");
    return got;
}

static void wrong(const struct request *request, int status, int64_t length) {
    const char *line_end = memchr(request->text, '\r', request->bytes);
    int shown = (int)(line_end ? line_end - request->text : (ssize_t)request->bytes);
    char told[32] = "no length", due[32] = "any length";
    if (length >= 0)
        snprintf(told, sizeof told, "%ld bytes", length);
    if (request->length != ANY_LENGTH)
        snprintf(due, sizeof due, "%ld bytes", request->length == NO_CONTENT ? 0 : request->length);
    fprintf(stderr, "steady: %.*s is answered with %d and %s, not %d and %s\n", shown, request->text, status, told,
            request->status, due);
    exit(1);
}

/* The bytes of the head that `from` begins with, 0 while it is incomplete; `status`, and `length` by Content-Length. */
static size_t parse_head(const char *from, size_t bytes, int *status, int64_t *length) {
    static const char NAME[] = "Content-Length:";
    const char *line = from, *end = from + bytes, *line_end;
    *length = -1;
    while ((line_end = memchr(line, '\n', (size_t)(end - line)))) {
        if (line_end - line <= 1) {
            int known = line - from > 12 && memcmp(from, "HTTP/1.1 ", 9) == 0;
            *status = known ? (from[9] - '0') * 100 + (from[10] - '0') * 10 + (from[11] - '0') : 0;
            return (size_t)(line_end + 1 - from);
        }
        if ((*line | 32) == 'c' && line_end - line > (ssize_t)sizeof NAME && !strncasecmp(line, NAME, sizeof NAME - 1))
            *length = strtoll(line + sizeof NAME - 1, NULL, 10);
        line = line_end + 1;
    }
    return 0;
}

static size_t read_head(struct connection *at, size_t from) {
    struct request *request = at->asked[at->answers];
    int status;
    int64_t length;
    size_t bytes = parse_head(at->input + from, at->input_bytes - from, &status, &length);
    if (!bytes) {
        if (at->input_bytes - from == INPUT_BYTES)
            fail_format("a head without an end");
        return 0;
    }
    int64_t due = request->length == ANY_LENGTH ? length : request->length;
    int fits = due == NO_CONTENT ? request->length == NO_CONTENT : due == length;
    if (status != request->status || !fits)
        wrong(request, status, length);
    at->left = request->length == NO_CONTENT ? 0 : length;
    int64_t whole = (int64_t)bytes + at->left;
    request->varies |= request->answer_bytes && request->answer_bytes != whole;
    request->answer_bytes = whole;
    return bytes;
}

static void answered(struct connection *at, int more) {
    if (done == room) {
        room = room ? 2 * room : 65536;
        latencies_ns = realloc(latencies_ns, room * sizeof *latencies_ns);
        if (!latencies_ns)
            fail("realloc");
    }
    uint64_t now = now_ns();
    latencies_ns[done++] = now - at->due_ns;
    at->left = HEAD_AWAITED;
    if (++at->answers < depth)
        return;
    if (more)
        fail_format("more bytes than the answer has");
    if (rate)
        idle[idle_count++] = at;
    else
        ask(at, now);
}

static void discard(struct connection *at) {
    ssize_t got = receive(at->fd, NULL, (size_t)at->left, MSG_TRUNC);
    if (got < 0 || (at->left -= got))
        return;
    for (size_t answers = at->counts ? depth : 1; answers; answers--)
        answered(at, 0);
}

static void react(struct connection *at) {
    if (at->left > 0) {
        discard(at);
        return;
    }
    ssize_t got = receive(at->fd, at->input + at->input_bytes, INPUT_BYTES - at->input_bytes, 0);
    if (got < 0)
        return;
    at->input_bytes += (size_t)got;
    size_t from = 0, bytes;
    while (from < at->input_bytes && (bytes = read_head(at, from))) {
        from += bytes;
        int64_t here = (int64_t)(at->input_bytes - from);
        here = at->left < here ? at->left : here;
        from += (size_t)here;
        at->left -= here;
        if (at->left > 0)
            break;
        answered(at, from < at->input_bytes);
    }
    at->input_bytes -= from;
    if (from && at->input_bytes)
        memmove(at->input, at->input + from, at->input_bytes);
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

static size_t count_of(const char *word) {
    size_t count = 1;
    if (*word != '@')
        return (size_t)atoi(word);
    while ((word = strchr(word + 1, ',')))
        count++;
    return count;
}

/* The next of the descriptors that are named, or a new connection. */
static int opened(const char **word, int port) {
    char *behind;
    if (**word != '@' && **word != ',')
        return connected(port);
    int fd = (int)strtol(*word + 1, &behind, 10);
    *word = behind;
    return fd;
}

static void connect_all(int poller, const char *word, int port) {
    size_t connections = count_of(word);
    struct connection *all = calloc(connections, sizeof *all);
    idle = calloc(connections, sizeof *idle);
    if (!all || !idle)
        fail("calloc");
    for (struct connection *at = all; at < all + connections; at++) {
        at->fd = opened(&word, port);
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

/* Ask for so long, and a little more: until there is an answer, if it takes no longer than LATE_NS. How long it was. */
static double run(int poller, uint64_t length_ns) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0)
        fail("timerfd_create");
    watch(poller, timer, EPOLLIN | EPOLLET, NULL);
    uint64_t begin_ns = now_ns(), end_ns = begin_ns + length_ns, now = begin_ns;
    while (now < end_ns || (!done && now < end_ns + LATE_NS)) {
        uint64_t due_ns = now, until_ns = now < end_ns ? end_ns : end_ns + LATE_NS;
        while (idle_count && (!rate || (due_ns = begin_ns + (uint64_t)((double)asked * 1e9 / rate)) <= now))
            ask(idle[--idle_count], due_ns);
        wake_at(timer, idle_count && due_ns < until_ns ? due_ns : until_ns);
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
    if (count != 8)
        fail("usage: steady PORT CONNECTIONS RATE SECONDS SEED DEPTH RECORDS");
    int port = atoi(words[1]), poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        fail("epoll_create1");
    rate = atof(words[3]);
    at_random = atoi(words[5]);
    srandom((unsigned)at_random);
    depth = (size_t)atoi(words[6]);
    if (depth < 1 || depth > DEPTH_MAX)
        fail_format("DEPTH is not from 1 to 64");
    read_records(words[7]);
    connect_all(poller, words[2], port);
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
