//! Signed calls to an AWS endpoint, in the protocols of the services that tests speak to.

use std::borrow::Cow;
use std::time::SystemTime;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use glioseg_local::s3::client_config;
use glioseg_shared::cloud::S3Storage;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

pub(crate) const REGION: &str = "us-east-1";
/// The key and the secret of whoever may do everything.
pub(crate) const ADMINISTRATOR: &str = "test";

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// An AWS endpoint on this machine.
#[derive(Clone, Debug)]
pub(crate) struct Aws {
    port: u16,
}

impl Aws {
    pub(crate) fn at(port: u16) -> Self {
        Self { port }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client of S3 with all rights.
    pub(crate) fn s3(&self) -> Client {
        let config = client_config(&self.endpoint(), ADMINISTRATOR, ADMINISTRATOR);
        Client::from_conf(config.build())
    }

    /// A bucket, with all rights.
    pub(crate) fn bucket(&self, name: &str) -> S3Storage {
        S3Storage::new(self.s3(), name, None)
    }

    /// A call in the query protocol, which CloudFormation speaks; the answer is XML.
    pub(crate) async fn query(&self, service: &str, parameters: &[(&str, &str)]) -> String {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let form: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        let request = Request::post(self.endpoint())
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/x-www-form-urlencoded");
        let answer = self
            .send(signed(request, form.join("&").into_bytes(), service))
            .await;
        assert_eq!(answer.status, 200, "{parameters:?}: {}", answer.text());
        answer.text().into_owned()
    }

    /// A call in the JSON protocol, which SQS and Step Functions speak.
    pub(crate) async fn call(&self, service: &str, target: &str, input: &Value) -> Value {
        let request = Request::post(self.endpoint())
            .header("host", format!("127.0.0.1:{}", self.port))
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target);
        let answer = self
            .send(signed(request, input.to_string().into_bytes(), service))
            .await;
        assert_eq!(answer.status, 200, "{target} {input}: {}", answer.text());
        if answer.body.is_empty() {
            return Value::Null;
        }
        answer.json()
    }

    /// Sends a request to this endpoint, whatever host it names.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        // HTTP/1.1 sends the path alone; a whole URI would be a request to a proxy.
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().unwrap().as_str();
        head.uri = path.parse::<Uri>().unwrap();
        let response = sender
            .send_request(Request::from_parts(head, body))
            .await
            .unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes().to_vec();
        connection.abort();
        let content_type = head.headers.get("content-type");
        Answer {
            status: head.status.as_u16(),
            content_type: content_type
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
                .to_owned(),
            body,
        }
    }
}

/// Signs a request as the administrator.
pub(crate) fn signed(
    request: hyper::http::request::Builder,
    body: Vec<u8>,
    service: &str,
) -> Request<Full<Bytes>> {
    let mut request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
    let identity = Credentials::new(ADMINISTRATOR, ADMINISTRATOR, None, None, "test").into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(service)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let headers = request
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.uri().to_string(),
        headers,
        SignableBody::Bytes(&body),
    )
    .unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    instructions.apply_to_request_http1x(&mut request);
    request
}
