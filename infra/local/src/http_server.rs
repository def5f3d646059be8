//! Serving HTTP on 127.0.0.1, and stopping without breaking an answer off.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How long a client may take to send the head of a request, and an idle connection may stay open while stopping.
const PATIENCE: Duration = Duration::from_secs(30);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A server that runs until it is told to stop.
#[derive(Debug)]
pub(crate) struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl HttpServer {
    /// Listens on a port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Where the port is taken.
    pub(crate) async fn start<S, B>(port: u16, service: S) -> io::Result<Self>
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Failure>,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Failure>,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| {
                let text =
                    format!("127.0.0.1:{port} cannot be listened on: {error}; choose another port");
                io::Error::new(error.kind(), text)
            })?;
        let address = listener.local_addr()?;
        let (stop, stopping) = watch::channel(false);
        let running = tokio::spawn(serve(listener, service, stopping));
        Ok(Self {
            address,
            stop,
            running,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, and returns once every answer that was begun is complete.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        // A panic of the accepting task has been shown by the panic hook; there is nothing left to stop then.
        let _ = self.running.await;
    }
}

async fn serve<S, B>(listener: TcpListener, service: S, mut stopping: watch::Receiver<bool>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Failure>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Failure>,
{
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file handles: they come back when connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (service, mut stopping) = (service.clone(), stopping.clone());
        // A small answer must not wait for the acknowledgement of its head.
        let _ = stream.set_nodelay(true);
        connections.spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            // That a client went away is its own business.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stopping.wait_for(|&stop| stop) => {}
            }
            connection.as_mut().graceful_shutdown();
            let _ = tokio::time::timeout(PATIENCE, connection).await;
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
