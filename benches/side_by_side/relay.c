/* The floor of the side-by-side benchmark: a proxy that copies bytes and parses nothing.
 *
 *     relay [-s] LISTEN_PORT ORIGIN_PORT        (both on 127.0.0.1; -s moves bytes by splice)
 *
 * One upstream connection per client connection. One thread, one epoll instance, edge-triggered. Bytes are read
 * into one scratch and written on from there at once; only what the receiver does not take is kept. A socket is
 * registered for writability only after EAGAIN.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SCRATCH_BYTES = 256 * 1024,
    PIPE_BYTES = 1024 * 1024,
    READS_PER_TURN = 16, /* then the other connections get their turn */
    EVENTS = 512,
    BACKLOG = 4096,
};

/* One direction's receiver and sender: what was read from `fd` is written to `peer->fd`. */
struct side {
    int fd;
    uint32_t registered;  /* epoll events fd is registered for */
    struct side *peer;
    struct pair *pair;
    char *kept;           /* read from the peer, not yet taken by fd; NULL if nothing */
    size_t kept_bytes, kept_sent;
    int pipe[2];          /* splice: bytes from the peer on their way to fd; -1 until used */
    size_t piped_bytes;
    int has_read_eof;
    int is_shut;          /* no more bytes will be written to fd */
};

struct pair {
    struct side client, upstream;
    struct pair *next_dead;
    int is_dead;
};

static char scratch[SCRATCH_BYTES];
static int epoll_fd;
static int uses_splice;
static struct pair *dead; /* freed after the batch: later events of it may still point here */
static struct sockaddr_in origin = {.sin_family = AF_INET};

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void watch(struct side *side, uint32_t events) {
    struct epoll_event event = {.events = events | EPOLLET | EPOLLRDHUP, .data.ptr = side};
    int op = side->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    side->registered = events;
    if (epoll_ctl(epoll_fd, op, side->fd, &event) < 0)
        die("epoll_ctl");
}

static void close_side(struct side *side) {
    close(side->fd);
    free(side->kept);
    if (side->pipe[0] >= 0) {
        close(side->pipe[0]);
        close(side->pipe[1]);
    }
}

static void kill_pair(struct pair *pair) {
    if (pair->is_dead)
        return;
    pair->is_dead = 1;
    close_side(&pair->client);
    close_side(&pair->upstream);
    pair->next_dead = dead;
    dead = pair;
}

static void free_dead(void) {
    while (dead) {
        struct pair *next = dead->next_dead;
        free(dead);
        dead = next;
    }
}

static int has_pending(const struct side *side) { return side->kept != NULL || side->piped_bytes > 0; }

/* End of the direction that `from` sends: passed on once everything before it has been written. */
static void pass_eof(struct side *from) {
    struct side *to = from->peer;
    if (!from->has_read_eof || has_pending(to) || to->is_shut)
        return;
    to->is_shut = 1;
    if (to->has_read_eof)
        kill_pair(from->pair);
    else
        shutdown(to->fd, SHUT_WR);
}

static int keep(struct side *to, const char *bytes, size_t count) {
    to->kept = malloc(count);
    if (!to->kept)
        return -1;
    memcpy(to->kept, bytes, count);
    to->kept_bytes = count;
    to->kept_sent = 0;
    watch(to, EPOLLIN | EPOLLOUT);
    return 0;
}

/* Write what an earlier write did not take. 1: all gone, 0: the receiver is full, -1: broken. */
static int flush_kept(struct side *to) {
    while (to->kept_sent < to->kept_bytes) {
        ssize_t n = write(to->fd, to->kept + to->kept_sent, to->kept_bytes - to->kept_sent);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        to->kept_sent += n;
    }
    free(to->kept);
    to->kept = NULL;
    return 1;
}

/* Copy from `from` to its peer until drained, blocked or out of budget; -1 if the pair is to be closed. */
static int copy(struct side *from, int may_hide_eof) {
    struct side *to = from->peer;
    for (int reads = 0; reads < READS_PER_TURN; reads++) {
        ssize_t n = read(from->fd, scratch, sizeof scratch);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0) {
            from->has_read_eof = 1;
            return 0;
        }
        ssize_t sent = write(to->fd, scratch, n);
        if (sent < 0 && errno != EAGAIN)
            return -1;
        if (sent < n) {
            size_t taken = sent < 0 ? 0 : sent;
            return keep(to, scratch + taken, n - taken);
        }
        /* Data and FIN can arrive in one event: a short read means drained only if there was no hang-up. */
        if ((size_t)n < sizeof scratch && !may_hide_eof)
            return 0;
    }
    watch(from, from->registered); /* arming again makes the kernel report what is left */
    return 0;
}

/* Move the pipe's bytes to their receiver. 1: pipe empty, 0: the receiver is full, -1: broken. */
static int flush_pipe(struct side *to) {
    while (to->piped_bytes) {
        ssize_t n = splice(to->pipe[0], NULL, to->fd, NULL, to->piped_bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        to->piped_bytes -= n;
    }
    return 1;
}

static int splice_over(struct side *from) {
    struct side *to = from->peer;
    if (to->pipe[0] < 0) {
        if (pipe2(to->pipe, O_NONBLOCK | O_CLOEXEC) < 0)
            return -1;
        fcntl(to->pipe[1], F_SETPIPE_SZ, PIPE_BYTES); /* ignored: the default size works as well */
    }
    for (int reads = 0; reads < READS_PER_TURN; reads++) {
        ssize_t n = splice(from->fd, NULL, to->pipe[1], NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (n == 0) {
            from->has_read_eof = 1;
            return 0;
        }
        to->piped_bytes = n;
        int flushed = flush_pipe(to);
        if (flushed < 0)
            return -1;
        if (flushed == 0) {
            watch(to, EPOLLIN | EPOLLOUT);
            return 0;
        }
    }
    watch(from, from->registered);
    return 0;
}

static int on_readable(struct side *from, int may_hide_eof) {
    if (from->has_read_eof || has_pending(from->peer))
        return 0; /* back-pressure: read again when the receiver has taken what is pending */
    return uses_splice ? splice_over(from) : copy(from, may_hide_eof);
}

static int on_writable(struct side *to) {
    if (!has_pending(to))
        return 0;
    int flushed = uses_splice ? flush_pipe(to) : flush_kept(to);
    if (flushed <= 0)
        return flushed;
    watch(to, EPOLLIN);
    return on_readable(to->peer, 1); /* the edge of the paused direction has passed already */
}

static void on_event(struct side *side, uint32_t events) {
    struct pair *pair = side->pair;
    if (pair->is_dead)
        return;
    int is_hung_up = (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
    if (((events & EPOLLOUT) && on_writable(side) < 0)
        || ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) && on_readable(side, is_hung_up) < 0)) {
        kill_pair(pair);
        return;
    }
    pass_eof(side);
    if (!pair->is_dead)
        pass_eof(side->peer);
}

static void open_side(struct side *side, int fd, struct side *peer, struct pair *pair) {
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    side->fd = fd;
    side->peer = peer;
    side->pair = pair;
    side->pipe[0] = side->pipe[1] = -1;
}

static void on_accept(int listen_fd) {
    for (;;) {
        int client_fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client_fd < 0)
            return;
        int upstream_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (upstream_fd < 0)
            die("socket");
        if (connect(upstream_fd, (struct sockaddr *)&origin, sizeof origin) < 0 && errno != EINPROGRESS)
            die("connect");
        struct pair *pair = calloc(1, sizeof *pair);
        if (!pair)
            die("calloc");
        open_side(&pair->client, client_fd, &pair->upstream, pair);
        open_side(&pair->upstream, upstream_fd, &pair->client, pair);
        watch(&pair->upstream, EPOLLIN);
        watch(&pair->client, EPOLLIN);
    }
}

static int open_listener(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, BACKLOG) < 0)
        die("listen");
    return fd;
}

int main(int argc, char **argv) {
    int first = 1;
    if (argc > 1 && strcmp(argv[1], "-s") == 0) {
        uses_splice = 1;
        first = 2;
    }
    if (argc != first + 2) {
        fprintf(stderr, "usage: relay [-s] LISTEN_PORT ORIGIN_PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    origin.sin_port = htons(atoi(argv[first + 1]));
    origin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listen_fd = open_listener(atoi(argv[first]));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event accepting = {.events = EPOLLIN, .data.ptr = NULL}, events[EVENTS];
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &accepting) < 0)
        die("epoll");
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS, -1);
        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                on_event(events[i].data.ptr, events[i].events);
            else
                on_accept(listen_fd);
        }
        free_dead();
    }
}
