//! What a training job prints, from CloudWatch Logs.

use std::collections::BTreeMap;

use aws_types::SdkConfig;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{CLOUDWATCH_LOGS, CallError, JsonClient};

const GROUP: &str = "/aws/sagemaker/TrainingJobs";

/// Answers of one stream that are read at once, of at most 10,000 lines or 1 MiB each; the rest is read next time.
const MAX_ANSWERS: usize = 16;

/// The log of one training job, and how far it has been read.
#[derive(Debug)]
pub struct LogTail {
    client: JsonClient,
    prefix: String,
    /// How far each stream has been read; a job on one host has one, and another after an interruption.
    read: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Streams {
    #[serde(default)]
    log_streams: Vec<Stream>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stream {
    log_stream_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Events {
    #[serde(default)]
    events: Vec<Event>,
    next_forward_token: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    message: String,
}

impl LogTail {
    /// The log of the training job of this name, from its beginning.
    ///
    /// # Errors
    ///
    /// As [`JsonClient::new`].
    pub fn new(aws: &SdkConfig, job: &str) -> Result<Self, CallError> {
        Ok(Self {
            client: JsonClient::new(aws)?,
            prefix: format!("{job}/"),
            read: BTreeMap::new(),
        })
    }

    /// The lines that were written since the last call; none before the job has printed anything. Control characters are
    /// replaced, so that a line cannot rewrite the terminal that shows it.
    ///
    /// # Errors
    ///
    /// [`CallError`]; lines that were read before it comes are given by the next call.
    pub async fn next(&mut self) -> Result<Vec<String>, CallError> {
        let streams = json!({
            "logGroupName": GROUP,
            "logStreamNamePrefix": self.prefix,
        });
        let found: Streams = match self
            .client
            .call(&CLOUDWATCH_LOGS, "DescribeLogStreams", &streams)
            .await
        {
            // The first job of an account makes the group.
            Err(error) if error.has_code("ResourceNotFoundException") => return Ok(Vec::new()),
            found => found?,
        };
        for stream in found.log_streams {
            self.read.entry(stream.log_stream_name).or_default();
        }
        let mut read = self.read.clone();
        let mut lines = Vec::new();
        for (stream, token) in &mut read {
            self.read_stream(stream, token, &mut lines).await?;
        }
        self.read = read;
        Ok(lines)
    }

    async fn read_stream(
        &self,
        stream: &str,
        token: &mut Option<String>,
        lines: &mut Vec<String>,
    ) -> Result<(), CallError> {
        for _ in 0..MAX_ANSWERS {
            let mut input = json!({
                "logGroupName": GROUP,
                "logStreamName": stream,
                "startFromHead": true,
            });
            if let Some(token) = &token {
                input["nextToken"] = Value::from(token.as_str());
            }
            let answer: Events = self
                .client
                .call(&CLOUDWATCH_LOGS, "GetLogEvents", &input)
                .await?;
            lines.extend(answer.events.iter().map(|event| shown(&event.message)));
            // The same token once more is the end of what there is.
            let ended = answer.next_forward_token.is_none() || answer.next_forward_token == *token;
            *token = answer.next_forward_token.or_else(|| token.take());
            if ended {
                break;
            }
        }
        Ok(())
    }
}

fn shown(line: &str) -> String {
    line.trim_end()
        .chars()
        .map(|c| match c {
            '\t' => c,
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_rewrite_the_terminal() {
        assert_eq!(shown("a\tb\u{1b}[2J\r\n"), "a\tb\u{fffd}[2J");
        assert_eq!(shown("Dice größer"), "Dice größer");
    }
}
