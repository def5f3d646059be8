//! A proxy before an S3 server that lets chosen requests go wrong.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It does not reach the server, which seems to answer with this status and code.
    Status(u16, &'static str),
    /// It does not reach the server, and the connection ends.
    Broken,
    /// The server does what it is asked for, and the connection ends before the answer.
    Lost,
    /// The answer breaks off in the middle of its body; where it has none, it is lost.
    CutOff,
    /// It waits until the test lets it go on.
    Held,
    /// The server does what it is asked for, and the answer waits until the test lets it go on.
    AnswerHeld,
}

impl Fault {
    pub(crate) const INTERNAL_ERROR: Self = Self::Status(500, "InternalError");
    pub(crate) const SLOW_DOWN: Self = Self::Status(503, "SlowDown");
    pub(crate) const DENIED: Self = Self::Status(403, "AccessDenied");
    pub(crate) const ABSENT: Self = Self::Status(404, "NoSuchKey");
}

/// Which requests go wrong.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Their methods; `LIST` is a listing. None are all.
    pub(crate) methods: &'static [&'static str],
    /// How `bucket/key` begins, or `bucket/prefix` of a listing.
    pub(crate) begins: String,
    /// How often, for each method and key.
    pub(crate) times: usize,
    /// How.
    pub(crate) fault: Fault,
}

impl Rule {
    /// Every request of some methods below a prefix goes wrong once.
    pub(crate) fn once(methods: &'static [&'static str], begins: &str, fault: Fault) -> Self {
        Self {
            methods,
            begins: begins.to_owned(),
            times: 1,
            fault,
        }
    }

    /// The same until the rules are lifted.
    pub(crate) fn always(methods: &'static [&'static str], begins: &str, fault: Fault) -> Self {
        Self {
            times: usize::MAX,
            ..Self::once(methods, begins, fault)
        }
    }
}

/// A request that waits. It goes on when it is released, and its connection ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// Its method and `bucket/key`.
    pub(crate) request: String,
    release: oneshot::Sender<()>,
}

impl Held {
    pub(crate) fn release(self) {
        // Who waits may have gone away.
        let _ = self.release.send(());
    }
}

/// The proxy; it ends when this is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    held: mpsc::UnboundedReceiver<Held>,
    running: JoinHandle<()>,
}

struct Rules {
    server: SocketAddr,
    rules: Mutex<Vec<(Rule, HashMap<String, usize>)>>,
    held: mpsc::UnboundedSender<Held>,
}

type Answered = Response<Either<Full<Bytes>, CutOff>>;

impl Proxy {
    /// Starts before a server, with nothing going wrong.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, held) = mpsc::unbounded_channel();
        let rules = Arc::new(Rules {
            server,
            rules: Mutex::default(),
            held: sender,
        });
        let running = tokio::spawn(serve(listener, Arc::clone(&rules)));
        Self {
            address,
            rules,
            held,
            running,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Adds a rule; the first one that is concerned decides.
    pub(crate) fn add(&self, rule: Rule) {
        let mut rules = self.rules.rules.lock().unwrap();
        rules.push((rule, HashMap::new()));
    }

    /// Lets everything go well from now on.
    pub(crate) fn lift(&self) {
        self.rules.rules.lock().unwrap().clear();
    }

    /// How many requests went wrong by the rules that there are.
    pub(crate) fn faults(&self) -> usize {
        let rules = self.rules.rules.lock().unwrap();
        rules.iter().flat_map(|(_, counts)| counts.values()).sum()
    }

    /// The next request that waits.
    pub(crate) async fn held(&mut self) -> Held {
        self.held.recv().await.unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Rules {
    fn fault(&self, method: &str, object: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        rules.iter_mut().find_map(|(rule, counts)| {
            let concerned = (rule.methods.is_empty() || rule.methods.contains(&method))
                && object.starts_with(&rule.begins);
            let count = concerned.then(|| counts.entry(format!("{method} {object}")))?;
            let count = count.or_default();
            (*count < rule.times).then(|| {
                *count += 1;
                rule.fault
            })
        })
    }

    async fn answer(&self, request: Request<Bytes>) -> io::Result<Answered> {
        let (method, object) = named(&request);
        let fault = self.fault(&method, &object);
        match fault {
            None => self.forward(request).await.map(whole),
            Some(Fault::Status(status, code)) => {
                let text = format!(
                    "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
                     <Message>a fault of the test</Message></Error>"
                );
                // The answer to HEAD has no body.
                let text = if method == "HEAD" {
                    String::new()
                } else {
                    text
                };
                let response = Response::builder()
                    .status(status)
                    .header("content-type", "application/xml")
                    .body(Bytes::from(text));
                Ok(whole(response.unwrap()))
            }
            Some(Fault::Broken) => Err(ended()),
            Some(Fault::Lost) => {
                self.forward(request).await?;
                Err(ended())
            }
            Some(Fault::CutOff) => {
                let (head, body) = self.forward(request).await?.into_parts();
                if body.len() < 2 || method == "HEAD" {
                    return Err(ended());
                }
                let cut = CutOff {
                    announced: body.len() as u64,
                    half: Some(body.slice(..body.len() / 2)),
                };
                Ok(Response::from_parts(head, Either::Right(cut)))
            }
            Some(Fault::Held) => {
                self.wait(&method, &object).await?;
                self.forward(request).await.map(whole)
            }
            Some(Fault::AnswerHeld) => {
                let answer = self.forward(request).await?;
                self.wait(&method, &object).await?;
                Ok(whole(answer))
            }
        }
    }

    async fn wait(&self, method: &str, object: &str) -> io::Result<()> {
        let (release, released) = oneshot::channel();
        let request = format!("{method} {object}");
        self.held
            .send(Held { request, release })
            .map_err(|_| ended())?;
        released.await.map_err(|_| ended())
    }

    /// Passes a request on as it is: its signature is over the host that it names.
    async fn forward(&self, request: Request<Bytes>) -> io::Result<Response<Bytes>> {
        let stream = TcpStream::connect(self.server).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        tokio::spawn(connection);
        let response = sender
            .send_request(request.map(Full::new))
            .await
            .map_err(io::Error::other)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

async fn serve(listener: TcpListener, rules: Arc<Rules>) {
    // They end together with the task that holds them.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let rules = Arc::clone(&rules);
        let service = service_fn(move |request: Request<Incoming>| {
            let rules = Arc::clone(&rules);
            async move {
                // A fault is chosen for whole requests, and comes to its end even if the client goes away: so each
                // happens as often as its rule says.
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
                let request = Request::from_parts(head, body);
                let answer = tokio::spawn(async move { rules.answer(request).await });
                answer.await.map_err(io::Error::other)?
            }
        });
        // A connection that ends with an error is what the tests are about.
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// What a request does, and to which object.
fn named<B>(request: &Request<B>) -> (String, String) {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let path = decode(request.uri().path().trim_start_matches('/'));
    let query = request.uri().query().unwrap_or_default();
    if !query.contains("list-type=2") {
        return (request.method().to_string(), path);
    }
    let prefix = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("prefix="))
        .unwrap_or_default();
    let bucket = path.trim_end_matches('/');
    ("LIST".to_owned(), format!("{bucket}/{}", decode(prefix)))
}

fn whole(response: Response<Bytes>) -> Answered {
    response.map(|body| Either::Left(Full::new(body)))
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "a fault of the test")
}

/// A body that breaks off.
struct CutOff {
    announced: u64,
    half: Option<Bytes>,
}

impl Body for CutOff {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(match self.half.take() {
            Some(half) => Ok(Frame::data(half)),
            None => Err(ended()),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.announced)
    }
}
