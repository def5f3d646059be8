//! A server that answers calls of AWS's JSON protocol as a test says: what no stand-in does, such as to be busy.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// A call as it came in.
#[derive(Clone, Debug)]
pub struct Call {
    /// `CreateTrainingJob` and the like.
    pub operation: String,
    pub authorization: String,
    pub input: Value,
}

/// A running server, and what it was asked.
pub struct Stub {
    pub endpoint: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Stub {
    /// Starts a server that answers by status and document; `answer` is given the operation and how often it came before.
    pub fn start(answer: impl Fn(&str, usize) -> (u16, Value) + Send + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&calls);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let call = receive(&stream);
                let before = count(&seen.lock().unwrap(), &call.operation);
                let (status, document) = answer(&call.operation, before);
                seen.lock().unwrap().push(call);
                send(stream, status, &document);
            }
        });
        Self { endpoint, calls }
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// How often an operation was called so far.
    pub fn count(&self, operation: &str) -> usize {
        count(&self.calls.lock().unwrap(), operation)
    }
}

fn count(calls: &[Call], operation: &str) -> usize {
    let same = calls.iter().filter(|call| call.operation == operation);
    same.count()
}

/// Reads one request.
pub fn receive(stream: &TcpStream) -> Call {
    let mut reader = BufReader::new(stream);
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    let (_, operation) = headers["x-amz-target"].rsplit_once('.').unwrap();
    Call {
        operation: operation.to_owned(),
        authorization: headers["authorization"].clone(),
        input: serde_json::from_slice(&body).unwrap(),
    }
}

/// Answers, and ends the connection; a status of 0 ends it without an answer.
fn send(mut stream: TcpStream, status: u16, document: &Value) {
    if status == 0 {
        return;
    }
    let body = match document {
        Value::Null => String::new(),
        document => document.to_string(),
    };
    // Whoever asked may have gone.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} -\r\ncontent-type: application/x-amz-json-1.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}
