//! moto, which stands in for SageMaker and S3: a process on a port of its own. Its jobs complete at once.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running moto; it ends with this value.
pub struct Moto {
    pub endpoint: String,
    process: Child,
}

impl Moto {
    /// Starts one; `None`, with a printed line, where it is not installed.
    pub fn start() -> Option<Self> {
        let program = glioseg_test_support::moto()?;
        let mut process = Command::new(program)
            // A port that is free.
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut before = String::new();
        let endpoint = loop {
            let start = before.len();
            let read = said.read_line(&mut before).unwrap();
            assert!(read > 0, "moto ended: {before}");
            if let Some((_, url)) = before[start..].split_once("Running on ") {
                break url.trim().to_owned();
            }
        };
        // Nobody reads what it logs; a full pipe would hold it up.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Some(Self { endpoint, process })
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
