//! A bound socket and the connections it accepts, some of them spoilt.
//!
//! In: an address and a service. Invariant: one current-thread runtime drives everything, so a server costs at most one
//! core, and stops when its caller stops driving it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use super::fault::Faults;
use super::service::Service;

/// A bound server with its own runtime. It works only while `run_for` is called.
pub struct Server {
    runtime: Runtime,
    port: u16,
}

impl Server {
    /// Bind `address` (port 0: any free one) and start to accept. The error is the system's.
    pub fn bind<S: Service>(address: SocketAddr, service: S) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let port = listener.local_addr()?.port();
        if service.faults().is_some_and(Faults::refuse_all) {
            // Only a port without a listener refuses connections; the counters are not served either.
            drop(listener);
        } else {
            runtime.spawn(accept(listener, Arc::new(service)));
        }
        Ok(Self { runtime, port })
    }

    /// The port that was bound.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serve for `duration`.
    pub fn run_for(&self, duration: Duration) {
        self.runtime.block_on(async move { tokio::time::sleep(duration).await });
    }
}

async fn accept<S: Service>(listener: TcpListener, service: Arc<S>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => drop(tokio::spawn(connection(stream, peer, Arc::clone(&service)))),
            // Out of file descriptors: clients that leave give theirs back.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn connection<S: Service>(stream: TcpStream, peer: SocketAddr, service: Arc<S>) {
    // Without it, the chunks of a stream wait for the client's delayed acknowledgements.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut keep_alive = true;
    if let Some(faults) = service.faults() {
        keep_alive = faults.is_total();
        if let Some(fault) = faults.for_connection(&stream).await {
            return fault.commit(stream).await;
        }
    }
    let handler = service_fn(move |request| Arc::clone(&service).answer(request, peer));
    // The services count a client that goes away during an answer.
    let _ = http1::Builder::new()
        .keep_alive(keep_alive)
        .pipeline_flush(true)
        .serve_connection(TokioIo::new(stream), handler)
        .await;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn server_answers_while_driven() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), crate::echo::Echo).unwrap();
        let port = server.port();
        let client = std::thread::spawn(move || {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /get?a=1 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        for _ in 0..1_000 {
            if client.is_finished() {
                break;
            }
            server.run_for(Duration::from_millis(10));
        }
        let text = client.join().unwrap();
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"a\": \"1\""), "{text}");
    }
}
