//! A reverse proxy on the framework Pingora: peer LISTEN_PORT ORIGIN_PORT [CERT KEY | h2c].
//!
//! One thread, a pool of 1,024 upstream connections, and X-Forwarded-For, which every proxy here writes that
//! writes anything. Without a certificate it also takes HTTP/2 with prior knowledge; with `h2c` it speaks that to the
//! origin, 128 streams on a connection.

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::http::RequestHeader;
use pingora::prelude::*;
use pingora::protocols::ALPN;
use pingora::server::configuration::ServerConf;

const USAGE: &str = "usage: peer LISTEN_PORT ORIGIN_PORT [CERT KEY | h2c]";

struct Forward {
    origin: String,
    to_h2c: bool,
}

#[async_trait]
impl ProxyHttp for Forward {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.origin.as_str(), false, String::new());
        if self.to_h2c {
            peer.options.alpn = ALPN::H2;
            peer.options.max_h2_streams = 128;
        }
        Ok(Box::new(peer))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        _ctx: &mut (),
    ) -> Result<()> {
        match session.client_addr().and_then(|address| address.as_inet()) {
            Some(address) => request.insert_header("X-Forwarded-For", address.ip().to_string()),
            None => Ok(()),
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (port, origin, tls, to_h2c) = match arguments.as_slice() {
        [port, origin] => (port, origin, None, false),
        [port, origin, word] if word == "h2c" => (port, origin, None, true),
        [port, origin, cert, key] => (port, origin, Some((cert, key)), false),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    let listen = format!("127.0.0.1:{port}");
    let configuration = ServerConf { threads: 1, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, configuration);
    server.bootstrap();
    let forward = Forward { origin: format!("127.0.0.1:{origin}"), to_h2c };
    let mut service = http_proxy_service(&server.configuration, forward);
    let mut options = HttpServerOptions::default();
    options.h2c = tls.is_none();
    service.app_logic_mut().expect("a service has its application").server_options = Some(options);
    match tls {
        Some((cert, key)) => service.add_tls(&listen, cert, key).expect("a certificate and its key"),
        None => service.add_tcp(&listen),
    }
    server.add_service(service);
    server.run_forever();
}
