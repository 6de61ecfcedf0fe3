"""libssl and libcrypto of OpenSSL 3: only what the core calls. Its types do not leave the modules net.tls…"""
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

cdef extern from "<openssl/bio.h>":
    ctypedef struct BIO
    ctypedef struct BIO_METHOD
    int BIO_TYPE_SOURCE_SINK
    int BIO_CTRL_FLUSH
    int BIO_get_new_index()
    BIO_METHOD* BIO_meth_new(int type, const char* name)
    int BIO_meth_set_read_ex(BIO_METHOD* method, int (*read)(BIO*, char*, size_t, size_t*) noexcept)
    int BIO_meth_set_write_ex(BIO_METHOD* method, int (*write)(BIO*, const char*, size_t, size_t*) noexcept)
    int BIO_meth_set_ctrl(BIO_METHOD* method, long (*ctrl)(BIO*, int, long, void*) noexcept)
    BIO* BIO_new(const BIO_METHOD* method)
    int BIO_free(BIO* bio)
    void BIO_set_data(BIO* bio, void* data)
    void* BIO_get_data(BIO* bio)
    void BIO_set_init(BIO* bio, int init)
    void BIO_set_retry_read(BIO* bio)
    void BIO_clear_retry_flags(BIO* bio)

cdef extern from "<openssl/err.h>" nogil:
    unsigned long ERR_get_error()
    unsigned long ERR_peek_error()
    void ERR_clear_error()
    const char* ERR_reason_error_string(unsigned long code)

cdef extern from "<openssl/crypto.h>" nogil:
    int OPENSSL_VERSION
    const char* OpenSSL_version(int what)
    void* OPENSSL_memdup(const void* data, size_t size)
    void OPENSSL_free(void* data)
    void OPENSSL_cleanse(void* data, size_t size)
    int CRYPTO_memcmp(const void* left, const void* right, size_t size)

cdef extern from "<openssl/rand.h>" nogil:
    int RAND_bytes(unsigned char* out, int size)

cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_PKEY
    ctypedef struct EVP_CIPHER
    ctypedef struct EVP_CIPHER_CTX
    ctypedef struct EVP_MAC_CTX
    const EVP_CIPHER* EVP_aes_256_cbc()
    int EVP_EncryptInit_ex(EVP_CIPHER_CTX* ctx, const EVP_CIPHER* cipher, void* engine, const unsigned char* key,
                           const unsigned char* iv)
    int EVP_DecryptInit_ex(EVP_CIPHER_CTX* ctx, const EVP_CIPHER* cipher, void* engine, const unsigned char* key,
                           const unsigned char* iv)
    int EVP_MAC_init(EVP_MAC_CTX* ctx, const unsigned char* key, size_t size, const OSSL_PARAM* params)
    void EVP_PKEY_free(EVP_PKEY* key)

cdef extern from "<openssl/params.h>" nogil:
    ctypedef struct OSSL_PARAM:
        const char* key
    OSSL_PARAM OSSL_PARAM_construct_utf8_string(const char* key, char* text, size_t size)
    OSSL_PARAM OSSL_PARAM_construct_end()

cdef extern from "<openssl/x509.h>" nogil:
    ctypedef struct X509
    ctypedef struct X509_CRL
    ctypedef struct X509_NAME
    ctypedef struct STACK_OF_X509 "STACK_OF(X509)"
    X509* d2i_X509(X509** out, const unsigned char** data, long size)
    int i2d_X509(X509* certificate, unsigned char** out)
    void X509_free(X509* certificate)
    int X509_cmp(const X509* left, const X509* right)
    X509_CRL* d2i_X509_CRL(X509_CRL** out, const unsigned char** data, long size)
    void X509_CRL_free(X509_CRL* crl)
    EVP_PKEY* d2i_AutoPrivateKey(EVP_PKEY** out, const unsigned char** data, long size)
    STACK_OF_X509* sk_X509_new_null()
    int sk_X509_push(STACK_OF_X509* stack, X509* certificate)
    int sk_X509_num(const STACK_OF_X509* stack)
    X509* sk_X509_value(const STACK_OF_X509* stack, int i)

cdef extern from *:
    """
    #include <openssl/x509.h>
    #define PINGORA_free_chain(stack) sk_X509_pop_free(stack, X509_free)
    """
    void free_chain "PINGORA_free_chain"(STACK_OF_X509* stack) nogil

cdef extern from "<openssl/x509_vfy.h>" nogil:
    ctypedef struct X509_STORE
    ctypedef struct X509_VERIFY_PARAM
    long X509_V_OK
    unsigned long X509_V_FLAG_CRL_CHECK, X509_V_FLAG_CRL_CHECK_ALL
    const char* X509_verify_cert_error_string(long code)
    int X509_STORE_add_cert(X509_STORE* store, X509* certificate)
    int X509_STORE_add_crl(X509_STORE* store, X509_CRL* crl)
    int X509_STORE_set_flags(X509_STORE* store, unsigned long flags)
    int X509_STORE_load_file(X509_STORE* store, const char* file)
    int X509_STORE_load_path(X509_STORE* store, const char* directory)
    int X509_VERIFY_PARAM_set1_ip_asc(X509_VERIFY_PARAM* param, const char* ip)

cdef extern from "<openssl/x509v3.h>" nogil:
    unsigned int X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
    unsigned int X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS

cdef extern from "<openssl/ssl.h>":
    ctypedef struct SSL
    ctypedef struct SSL_CTX
    ctypedef struct SSL_METHOD
    ctypedef struct SSL_SESSION
    ctypedef struct SSL_CIPHER
    int TLS1_2_VERSION, TLS1_3_VERSION
    int SSL_FILETYPE_PEM
    int SSL_VERIFY_NONE, SSL_VERIFY_PEER, SSL_VERIFY_FAIL_IF_NO_PEER_CERT
    int SSL_ERROR_NONE, SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE, SSL_ERROR_ZERO_RETURN
    int SSL_ERROR_WANT_CLIENT_HELLO_CB
    int SSL_RECEIVED_SHUTDOWN, SSL_SENT_SHUTDOWN
    int SSL_CLIENT_HELLO_SUCCESS, SSL_CLIENT_HELLO_ERROR, SSL_CLIENT_HELLO_RETRY
    int SSL_TLSEXT_ERR_OK, SSL_TLSEXT_ERR_NOACK, SSL_TLSEXT_ERR_ALERT_FATAL
    int SSL_AD_INTERNAL_ERROR, SSL_AD_UNRECOGNIZED_NAME, SSL_AD_DECODE_ERROR
    int TLSEXT_NAMETYPE_host_name, TLSEXT_TYPE_server_name
    int TLSEXT_TYPE_application_layer_protocol_negotiation, TLSEXT_TYPE_signature_algorithms
    int TLSEXT_TYPE_supported_versions
    int SSL_SESS_CACHE_OFF, SSL_SESS_CACHE_CLIENT, SSL_SESS_CACHE_NO_INTERNAL
    int SSL_R_CERTIFICATE_VERIFY_FAILED
    uint64_t SSL_OP_NO_RENEGOTIATION, SSL_OP_NO_COMPRESSION, SSL_OP_CIPHER_SERVER_PREFERENCE
    uint64_t SSL_OP_PRIORITIZE_CHACHA, SSL_OP_NO_TICKET, SSL_OP_IGNORE_UNEXPECTED_EOF
    long SSL_MODE_RELEASE_BUFFERS, SSL_MODE_NO_AUTO_CHAIN

    const SSL_METHOD* TLS_method()
    SSL_CTX* SSL_CTX_new(const SSL_METHOD* method)
    void SSL_CTX_free(SSL_CTX* ctx)
    uint64_t SSL_CTX_set_options(SSL_CTX* ctx, uint64_t options)
    long SSL_CTX_set_mode(SSL_CTX* ctx, long mode)
    void SSL_CTX_set_read_ahead(SSL_CTX* ctx, int is_on)
    int SSL_CTX_set_min_proto_version(SSL_CTX* ctx, int version)
    int SSL_CTX_set_max_proto_version(SSL_CTX* ctx, int version)
    int SSL_CTX_set_cipher_list(SSL_CTX* ctx, const char* text)
    int SSL_CTX_set_ciphersuites(SSL_CTX* ctx, const char* text)
    int SSL_CTX_set1_groups_list(SSL_CTX* ctx, char* text)
    int SSL_CTX_set_num_tickets(SSL_CTX* ctx, size_t n)
    int SSL_TICKET_EMPTY, SSL_TICKET_NO_DECRYPT, SSL_TICKET_SUCCESS_RENEW
    int SSL_TICKET_RETURN_IGNORE_RENEW, SSL_TICKET_RETURN_USE, SSL_TICKET_RETURN_USE_RENEW
    int SSL_CTX_set_session_ticket_cb(
        SSL_CTX* ctx, void* on_made, int (*on_opened)(SSL*, SSL_SESSION*, const unsigned char*, size_t, int,
                                                      void*) noexcept, void* argument)
    long SSL_CTX_set_timeout(SSL_CTX* ctx, long seconds)
    long SSL_CTX_set_session_cache_mode(SSL_CTX* ctx, int mode)
    void SSL_CTX_set_verify(SSL_CTX* ctx, int mode, void* callback)
    X509_STORE* SSL_CTX_get_cert_store(SSL_CTX* ctx)
    int SSL_CTX_add_client_CA(SSL_CTX* ctx, X509* certificate)
    int SSL_CTX_use_cert_and_key(SSL_CTX* ctx, X509* certificate, EVP_PKEY* key, STACK_OF_X509* chain, int override)
    X509* SSL_CTX_get0_certificate(const SSL_CTX* ctx)
    int SSL_CTX_set_session_id_context(SSL_CTX* ctx, const unsigned char* context, unsigned int size)
    int SSL_CTX_set_alpn_protos(SSL_CTX* ctx, const unsigned char* protocols, unsigned int size)
    int SSL_set_alpn_protos(SSL* ssl, const unsigned char* protocols, unsigned int size)
    void SSL_CTX_set_alpn_select_cb(
        SSL_CTX* ctx,
        int (*select)(SSL*, const unsigned char**, unsigned char*, const unsigned char*, unsigned int, void*) noexcept,
        void* argument)
    void SSL_CTX_set_client_hello_cb(SSL_CTX* ctx, int (*on_hello)(SSL*, int*, void*) noexcept, void* argument)
    void SSL_CTX_sess_set_new_cb(SSL_CTX* ctx, int (*on_session)(SSL*, SSL_SESSION*) noexcept)
    void SSL_CTX_set_keylog_callback(SSL_CTX* ctx, void (*on_line)(const SSL*, const char*) noexcept)
    int SSL_CTX_set_tlsext_status_cb(SSL_CTX* ctx, int (*on_status)(SSL*, void*) noexcept)
    int SSL_CTX_set_tlsext_status_arg(SSL_CTX* ctx, void* argument)
    int SSL_CTX_set_tlsext_ticket_key_evp_cb(
        SSL_CTX* ctx,
        int (*on_ticket)(SSL*, unsigned char*, unsigned char*, EVP_CIPHER_CTX*, EVP_MAC_CTX*, int) noexcept)

    SSL* SSL_new(SSL_CTX* ctx)
    void SSL_free(SSL* ssl)
    void SSL_set_bio(SSL* ssl, BIO* reader, BIO* writer)
    void SSL_set_accept_state(SSL* ssl)
    void SSL_set_connect_state(SSL* ssl)
    int SSL_do_handshake(SSL* ssl)
    int SSL_read_ex(SSL* ssl, void* out, size_t room, size_t* got)
    int SSL_has_pending(const SSL* ssl)      # bytes of records are buffered, decrypted or not
    long SSL_set_mode(SSL* ssl, long mode)
    long SSL_clear_mode(SSL* ssl, long mode)
    # 0: something is in them. Before 3.0.14 it frees a record that was read in part (CVE-2024-4741).
    int SSL_free_buffers(SSL* ssl)
    int SSL_write_ex(SSL* ssl, const void* data, size_t size, size_t* written)
    int SSL_shutdown(SSL* ssl)
    void SSL_set_shutdown(SSL* ssl, int state)
    int SSL_get_verify_mode(const SSL* ssl)
    int SSL_get_error(const SSL* ssl, int result)
    int SSL_set_ex_data(SSL* ssl, int at, void* data)
    void* SSL_get_ex_data(const SSL* ssl, int at)
    SSL_CTX* SSL_set_SSL_CTX(SSL* ssl, SSL_CTX* ctx)
    void SSL_set_verify(SSL* ssl, int mode, void* callback)
    uint64_t SSL_set_options(SSL* ssl, uint64_t options)
    int SSL_set_session_id_context(SSL* ssl, const unsigned char* context, unsigned int size)
    int SSL_client_hello_get0_ext(SSL* ssl, unsigned int type, const unsigned char** out, size_t* size)
    size_t SSL_client_hello_get0_ciphers(SSL* ssl, const unsigned char** out)
    unsigned int SSL_client_hello_get0_legacy_version(SSL* ssl)
    int SSL_client_hello_get1_extensions_present(SSL* ssl, int** out, size_t* n)
    long SSL_set_tlsext_status_ocsp_resp(SSL* ssl, void* response, long size)
    X509* SSL_get_certificate(const SSL* ssl)
    int SSL_set_tlsext_host_name(SSL* ssl, const char* name)
    int SSL_add1_host(SSL* ssl, const char* name)
    void SSL_set_hostflags(SSL* ssl, unsigned int flags)
    X509_VERIFY_PARAM* SSL_get0_param(SSL* ssl)
    int SSL_set_session(SSL* ssl, SSL_SESSION* session)
    void SSL_SESSION_free(SSL_SESSION* session)
    int SSL_SESSION_is_resumable(const SSL_SESSION* session)
    int SSL_session_reused(const SSL* ssl)
    long SSL_get_verify_result(const SSL* ssl)
    X509* SSL_get0_peer_certificate(const SSL* ssl)
    STACK_OF_X509* SSL_get0_verified_chain(const SSL* ssl)
    X509* SSL_SESSION_get0_peer(SSL_SESSION* session)
    const char* SSL_get_version(const SSL* ssl)
    int SSL_version(const SSL* ssl)
    int SSL_is_server(const SSL* ssl)
    const SSL_CIPHER* SSL_get_current_cipher(const SSL* ssl)
    const char* SSL_CIPHER_get_name(const SSL_CIPHER* cipher)
    const char* SSL_get_servername(const SSL* ssl, int type)
    void SSL_get0_alpn_selected(const SSL* ssl, const unsigned char** out, unsigned int* size)
