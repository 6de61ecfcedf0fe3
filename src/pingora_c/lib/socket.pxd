"""Berkeley sockets of the C library: only what the core calls."""
from libc.stddef cimport size_t
from libc.stdint cimport uint16_t, uint32_t

cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    ctypedef unsigned short sa_family_t
    cdef struct sockaddr:
        sa_family_t sa_family
    cdef struct sockaddr_storage:
        sa_family_t ss_family
    cdef struct iovec:
        void* iov_base
        size_t iov_len
    cdef struct msghdr:
        void* msg_name
        socklen_t msg_namelen
        iovec* msg_iov
        size_t msg_iovlen
        void* msg_control
        size_t msg_controllen
        int msg_flags
    int AF_INET, AF_INET6, AF_UNIX
    int SOCK_STREAM, SOCK_NONBLOCK, SOCK_CLOEXEC
    int SOL_SOCKET, SO_ERROR, SO_REUSEADDR, SO_REUSEPORT, SO_LINGER, SO_KEEPALIVE
    int SHUT_RD, SHUT_WR, SHUT_RDWR
    int MSG_NOSIGNAL, MSG_DONTWAIT, MSG_PEEK
    int socket(int domain, int type, int protocol)
    int bind(int fd, const sockaddr* address, socklen_t size)
    int listen(int fd, int backlog)
    int accept4(int fd, sockaddr* address, socklen_t* size, int flags)
    int connect(int fd, const sockaddr* address, socklen_t size)
    int shutdown(int fd, int how)
    int getsockopt(int fd, int level, int name, void* value, socklen_t* size)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t size)
    int getsockname(int fd, sockaddr* address, socklen_t* size)
    int getpeername(int fd, sockaddr* address, socklen_t* size)
    Py_ssize_t recv(int fd, void* data, size_t size, int flags)
    Py_ssize_t send(int fd, const void* data, size_t size, int flags)
    Py_ssize_t sendmsg(int fd, const msghdr* message, int flags)

cdef extern from "<netinet/in.h>" nogil:
    cdef struct in_addr:
        uint32_t s_addr
    cdef struct in6_addr:
        unsigned char s6_addr[16]
    cdef struct sockaddr_in:
        sa_family_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    cdef struct sockaddr_in6:
        sa_family_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    int IPPROTO_TCP, IPPROTO_IPV6, IPV6_V6ONLY
    uint16_t htons(uint16_t host)
    uint16_t ntohs(uint16_t net)

cdef extern from "<netinet/tcp.h>" nogil:
    int TCP_NODELAY, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT, TCP_DEFER_ACCEPT

cdef extern from "<sys/un.h>" nogil:
    cdef struct sockaddr_un:
        sa_family_t sun_family
        char sun_path[108]

cdef extern from "<arpa/inet.h>" nogil:
    int INET6_ADDRSTRLEN
    int inet_pton(int family, const char* text, void* address)
    const char* inet_ntop(int family, const void* address, char* text, socklen_t size)
