//! The HTTP API on 127.0.0.1: each request becomes the event that API Gateway would make of it.

mod event;
mod route;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use glioseg_shared::cloud::Problem;
use glioseg_shared::cloud::http::HttpResponse;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use self::event::event;
use self::route::{Matched, find};
use crate::http_server::HttpServer;
use crate::queue::Invoke;
use crate::wiring::Function;

/// Most bytes of a body: in base64 they fit the 6 MB that Lambda takes in one invocation.
pub const MAX_BODY_BYTES: usize = 4_500_000;

/// How long API Gateway waits for a function.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The functions behind the API.
#[derive(Clone)]
pub struct Gateway {
    functions: Arc<HashMap<Function, Arc<dyn Invoke>>>,
    next: Arc<AtomicU64>,
}

/// A request as the gateway sees it.
#[derive(Clone, Debug)]
pub struct GatewayRequest {
    /// The method.
    pub method: Method,
    /// Path and query as they were sent, percent-encoded.
    pub path_and_query: String,
    /// Headers by lower-case name; the values of one name joined by `,`.
    pub headers: BTreeMap<String, String>,
    /// The body, of at most [`MAX_BODY_BYTES`].
    pub body: Vec<u8>,
}

impl GatewayRequest {
    /// A request without headers and body.
    #[must_use]
    pub fn new(method: Method, path_and_query: impl Into<String>) -> Self {
        Self {
            method,
            path_and_query: path_and_query.into(),
            headers: BTreeMap::new(),
            body: Vec::new(),
        }
    }
}

impl Gateway {
    /// A gateway before these functions.
    #[must_use]
    pub fn new(functions: HashMap<Function, Arc<dyn Invoke>>) -> Self {
        Self {
            functions: Arc::new(functions),
            next: Arc::default(),
        }
    }

    /// Answers a request: by the function that its route leads to, or as API Gateway answers where there is none.
    pub async fn answer(&self, request: GatewayRequest) -> HttpResponse {
        if request.body.len() > MAX_BODY_BYTES {
            return too_large();
        }
        let path = request.path_and_query.split('?').next().unwrap_or_default();
        let Some(path) = percent_encoding::percent_decode_str(path)
            .decode_utf8()
            .ok()
        else {
            return message(StatusCode::BAD_REQUEST, "Bad Request");
        };
        let Some(matched) = find(request.method.as_str(), &path) else {
            return message(StatusCode::NOT_FOUND, "Not Found");
        };
        let Matched { route, parameters } = matched;
        let Some(function) = self.functions.get(&route.function).map(Arc::clone) else {
            return message(StatusCode::NOT_FOUND, "Not Found");
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let event = event(route, &path, parameters, &request, id);
        // In a task of its own, so that a panic is this request's failure and no more.
        let invocation = tokio::spawn(async move { function.invoke(event).await });
        match tokio::time::timeout(TIMEOUT, invocation).await {
            Ok(Ok(Ok(answer))) => decode(&answer).unwrap_or_else(|| {
                message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }),
            Ok(_) => message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error"),
            Err(_) => message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable"),
        }
    }

    async fn serve(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let response = match Limited::new(body, MAX_BODY_BYTES).collect().await {
            Ok(body) => {
                let mut headers: BTreeMap<String, String> = BTreeMap::new();
                for (name, value) in &head.headers {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    headers
                        .entry(name.as_str().to_owned())
                        .and_modify(|joined| {
                            joined.push(',');
                            joined.push_str(&value);
                        })
                        .or_insert_with(|| value.into_owned());
                }
                let path_and_query = head.uri.path_and_query().map_or("/", |text| text.as_str());
                self.answer(GatewayRequest {
                    method: head.method,
                    path_and_query: path_and_query.to_owned(),
                    headers,
                    body: body.to_bytes().into(),
                })
                .await
            }
            Err(error) if error.is::<LengthLimitError>() => too_large(),
            Err(_) => message(StatusCode::BAD_REQUEST, "Bad Request"),
        };
        encode(response)
    }
}

/// A running HTTP API.
#[derive(Debug)]
pub struct HttpApi {
    server: HttpServer,
}

impl HttpApi {
    /// Starts to serve on a port of 127.0.0.1; 0 takes a free one.
    ///
    /// # Errors
    ///
    /// Where the port is taken.
    pub async fn start(port: u16, gateway: Gateway) -> io::Result<Self> {
        let service = service_fn(move |request| {
            let gateway = gateway.clone();
            async move { Ok::<_, Infallible>(gateway.serve(request).await) }
        });
        let server = HttpServer::start(port, service).await?;
        Ok(Self { server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Accepts no more requests, and returns once every answer that was begun is complete.
    pub async fn stop(self) {
        self.server.stop().await;
    }
}

/// An answer of the gateway's own.
fn message(status: StatusCode, message: &str) -> HttpResponse {
    HttpResponse::json(status.as_u16(), &serde_json::json!({ "message": message }))
}

fn too_large() -> HttpResponse {
    Problem::payload_too_large(format!(
        "a request carries {MAX_BODY_BYTES} bytes at most; POST /uploads gives a link to upload more"
    ))
    .into_response()
}

/// Reads what a function answered; `None` where it is no answer to an HTTP request.
fn decode(answer: &Value) -> Option<HttpResponse> {
    let status = u16::try_from(answer.get("statusCode")?.as_u64()?).ok()?;
    let text = answer
        .get("body")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let body = if answer.get("isBase64Encoded").and_then(Value::as_bool) == Some(true) {
        BASE64_STANDARD.decode(text).ok()?
    } else {
        text.as_bytes().to_vec()
    };
    let headers = answer.get("headers").and_then(Value::as_object);
    let headers = headers.into_iter().flatten().filter_map(|(name, value)| {
        let value = value.as_str()?.to_owned();
        Some((name.to_ascii_lowercase(), value))
    });
    Some(HttpResponse {
        status,
        headers: headers.collect(),
        body,
    })
}

fn encode(response: HttpResponse) -> Response<Full<Bytes>> {
    let mut builder = Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::from(response.body)).unwrap_or_else(|_| {
        let mut failed = Response::new(Full::default());
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        failed
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use async_trait::async_trait;
    use serde_json::json;

    struct Echo;

    #[async_trait]
    impl Invoke for Echo {
        async fn invoke(&self, payload: Value) -> Result<Value, String> {
            match payload["rawPath"].as_str() {
                Some("/studies/panic") => panic!("asked for by the test"),
                Some("/studies/fail") => Err("failed".to_owned()),
                Some("/studies/other") => Ok(json!({ "batchItemFailures": [] })),
                _ => Ok(json!({
                    "statusCode": 201,
                    "headers": { "X-Seen": payload["pathParameters"]["study"] },
                    "body": BASE64_STANDARD.encode(payload.to_string()),
                    "isBase64Encoded": true,
                })),
            }
        }
    }

    fn gateway() -> Gateway {
        let echo: Arc<dyn Invoke> = Arc::new(Echo);
        Gateway::new(
            Function::ALL
                .map(|function| (function, Arc::clone(&echo)))
                .into(),
        )
    }

    #[tokio::test]
    async fn a_request_reaches_its_function_as_an_event_and_the_answer_comes_back() {
        let mut request = GatewayRequest::new(Method::GET, "/studies/a%20b/c?links=1&x=%2B");
        request
            .headers
            .insert("accept".to_owned(), "image/png".to_owned());
        let response = gateway().answer(request).await;
        assert_eq!(response.status, 201);
        assert_eq!(response.header("x-seen"), Some("a b/c"));
        let event: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(event["routeKey"], "GET /studies/{study+}");
        assert_eq!(event["rawQueryString"], "links=1&x=%2B");
        let parsed = glioseg_shared::cloud::events::parse(event).unwrap();
        let glioseg_shared::cloud::events::Invocation::Http(request) = parsed else {
            panic!("{parsed:?}");
        };
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", "/studies/a b/c")
        );
        assert_eq!(request.query["x"], "+");
        assert_eq!(request.header("accept"), Some("image/png"));
    }

    #[tokio::test]
    async fn a_body_arrives_byte_for_byte() {
        for (kind, body) in [
            ("image/tiff", vec![0, 255, 10]),
            ("application/json", b"{}".to_vec()),
        ] {
            let mut request = GatewayRequest::new(Method::POST, "/segment");
            request
                .headers
                .insert("content-type".to_owned(), kind.to_owned());
            request.body.clone_from(&body);
            let response = gateway().answer(request).await;
            let event = serde_json::from_slice(&response.body).unwrap();
            let parsed = glioseg_shared::cloud::events::parse(event).unwrap();
            let glioseg_shared::cloud::events::Invocation::Http(request) = parsed else {
                panic!("{parsed:?}");
            };
            assert_eq!(request.body, body);
        }
    }

    #[tokio::test]
    async fn what_is_no_answer_is_a_clear_status() {
        let status = async |method: Method, path: &str, body: usize| {
            let mut request = GatewayRequest::new(method, path);
            request.body = vec![0; body];
            gateway().answer(request).await.status
        };
        assert_eq!(status(Method::GET, "/nothing", 0).await, 404);
        assert_eq!(status(Method::PUT, "/segment", 0).await, 404);
        assert_eq!(status(Method::GET, "/%ff", 0).await, 400);
        assert_eq!(
            status(Method::POST, "/segment", MAX_BODY_BYTES + 1).await,
            413
        );
        for path in ["/studies/panic", "/studies/fail", "/studies/other"] {
            assert_eq!(status(Method::GET, path, 0).await, 500, "{path}");
        }
    }
}
