//! Calls of AWS services in their JSON protocol: signed, sent, and tried again where that can help.
//!
//! Of SageMaker and of CloudWatch Logs a handful of calls is needed; an SDK for each would be a hundred times the code.
//! Connections, credentials, the region and endpoints come from the same [`SdkConfig`] as those of the SDKs.

mod error;
mod request;

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_smithy_http_client::default_connector;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::timeout;

pub use error::CallError;
use error::{Complaint, complaint, is_passing, with_causes};
pub use request::{CLOUDWATCH_LOGS, SAGEMAKER, Service};
use request::{own_endpoint, signed};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time of an attempt, from the request to the last byte of its answer, where the configuration has no
/// `operation_attempt_timeout`. The connector's own limit ends with the head of an answer, and its body may stall.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest answer that is read, in bytes; CloudWatch Logs sends at most 1 MiB of events.
const MAX_ANSWER: usize = 8 << 20;

/// Credentials that end sooner than this are asked for anew.
const MARGIN_OF_EXPIRY: Duration = Duration::from_secs(300);

/// What came back of one attempt.
struct Answer {
    status: u16,
    /// The error's code, where the head has it.
    code: Option<String>,
    body: Vec<u8>,
}

/// What one attempt met.
enum Failure {
    /// The next attempt may succeed.
    Passing(String),
    /// As before, with other credentials.
    Expired(String),
    Final(CallError),
}

/// A client of AWS services that speak JSON.
#[derive(Debug)]
pub struct JsonClient {
    aws: SdkConfig,
    region: String,
    connector: SharedHttpConnector,
    provider: SharedCredentialsProvider,
    /// Those of the last call: a job is watched for hours, and not every provider keeps what it fetched.
    credentials: Mutex<Option<Credentials>>,
    retries: RetryConfig,
    attempt_timeout: Duration,
}

impl JsonClient {
    /// A client as the standard environment and files configure it; asks nobody yet.
    ///
    /// # Errors
    ///
    /// [`CallError::NoRegion`]; [`CallError::NoCredentials`] where the configuration excludes them.
    pub fn new(aws: &SdkConfig) -> Result<Self, CallError> {
        let region = aws.region().ok_or(CallError::NoRegion)?.to_string();
        let provider = aws
            .credentials_provider()
            .ok_or_else(|| CallError::NoCredentials("none are configured".to_owned()))?;
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let connector = default_connector(&settings, aws.sleep_impl())
            .expect("the crate's feature rustls-aws-lc gives it a connector");
        Ok(Self {
            aws: aws.clone(),
            region,
            connector,
            provider,
            credentials: Mutex::new(None),
            retries: aws
                .retry_config()
                .cloned()
                .unwrap_or_else(RetryConfig::standard),
            attempt_timeout: aws
                .timeout_config()
                .and_then(TimeoutConfig::operation_attempt_timeout)
                .unwrap_or(ATTEMPT_TIMEOUT),
        })
    }

    /// Calls an operation. Where the service is busy, failing or out of reach, it is asked again after a pause, as often
    /// and with pauses as long as `AWS_MAX_ATTEMPTS` and the profile say: by default 3 times.
    ///
    /// # Errors
    ///
    /// [`CallError`], of which [`CallError::Unavailable`] alone can pass by itself.
    pub async fn call<O: DeserializeOwned>(
        &self,
        service: &Service,
        operation: &'static str,
        input: &impl Serialize,
    ) -> Result<O, CallError> {
        let unreadable = |reason: serde_json::Error| CallError::Unreadable {
            operation,
            reason: reason.to_string(),
        };
        let body = serde_json::to_vec(input).map_err(unreadable)?;
        let attempts = self.retries.max_attempts().max(1);
        let mut attempt = 1;
        loop {
            let reason = match self.attempt(service, operation, &body, attempt).await {
                // Some operations have nothing to say.
                Ok(answer) if answer.is_empty() => {
                    return serde_json::from_value(Value::Null).map_err(unreadable);
                }
                Ok(answer) => return serde_json::from_slice(&answer).map_err(unreadable),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(reason)) => reason,
                Err(Failure::Expired(reason)) => {
                    *self.credentials.lock().await = None;
                    reason
                }
            };
            if attempt >= attempts {
                return Err(CallError::Unavailable {
                    operation,
                    reason,
                    attempts,
                });
            }
            tokio::time::sleep(pause(&self.retries, attempt, SystemTime::now())).await;
            attempt += 1;
        }
    }

    async fn attempt(
        &self,
        service: &Service,
        operation: &'static str,
        body: &[u8],
        attempt: u32,
    ) -> Result<Vec<u8>, Failure> {
        let credentials = self.credentials().await.map_err(Failure::Final)?;
        let endpoint = self.endpoint(service);
        let request = signed(
            &endpoint,
            service,
            operation,
            body,
            &self.region,
            credentials,
        )
        .map_err(|error| {
            Failure::Final(CallError::Unsendable {
                operation,
                reason: with_causes(&*error),
                endpoint,
            })
        })?;
        let Answer {
            status,
            code,
            body: answer,
        } = timeout(self.attempt_timeout, self.send(request))
            .await
            .map_err(|_| {
                let seconds = self.attempt_timeout.as_secs_f64();
                Failure::Passing(format!("no whole answer within {seconds} s"))
            })??;
        if (200..300).contains(&status) {
            return Ok(answer);
        }
        let Complaint { code, message } = complaint(status, code.as_deref(), &answer);
        let reason = format!("{code}: {message}");
        Err(match code.as_str() {
            "ExpiredToken" | "ExpiredTokenException" => Failure::Expired(reason),
            code if is_passing(status, code) => Failure::Passing(reason),
            _ => Failure::Final(CallError::Refused {
                operation,
                code,
                message,
                attempt,
            }),
        })
    }

    async fn send(&self, request: HttpRequest) -> Result<Answer, Failure> {
        let response = self
            .connector
            .call(request)
            .await
            .map_err(|error| Failure::Passing(with_causes(&error)))?;
        let code = response.headers().get("x-amzn-errortype");
        Ok(Answer {
            status: response.status().as_u16(),
            code: code.map(str::to_owned),
            body: read(response).await?,
        })
    }

    async fn credentials(&self) -> Result<Credentials, CallError> {
        let mut known = self.credentials.lock().await;
        let lasts = |credentials: &&Credentials| {
            let until = SystemTime::now() + MARGIN_OF_EXPIRY;
            credentials.expiry().is_none_or(|expiry| expiry > until)
        };
        if let Some(credentials) = known.as_ref().filter(lasts) {
            return Ok(credentials.clone());
        }
        let fresh = self
            .provider
            .provide_credentials()
            .await
            .map_err(|error| CallError::NoCredentials(with_causes(&error)))?;
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    /// Where a service is: `AWS_ENDPOINT_URL_<SERVICE>` or the profile's, else `AWS_ENDPOINT_URL`, else AWS's own.
    fn endpoint(&self, service: &Service) -> String {
        let key = ServiceConfigKey::builder()
            .service_id(service.id)
            .env("AWS_ENDPOINT_URL")
            .profile("endpoint_url")
            .build()
            .expect("service, variable and setting are all named");
        self.aws
            .service_config()
            .and_then(|settings| settings.load_config(key))
            .or_else(|| self.aws.endpoint_url().map(str::to_owned))
            .unwrap_or_else(|| {
                let fips = usize::from(self.aws.use_fips() == Some(true));
                own_endpoint(service.hosts[fips], &self.region)
            })
    }
}

/// The body of an answer, of which never more than [`MAX_ANSWER`] bytes are held.
async fn read(response: HttpResponse) -> Result<Vec<u8>, Failure> {
    let mut body = ByteStream::new(response.into_body());
    let mut bytes = Vec::new();
    while let Some(part) = body
        .try_next()
        .await
        .map_err(|error| Failure::Passing(with_causes(&error)))?
    {
        if bytes.len() + part.len() > MAX_ANSWER {
            // A proxy's page, say: the next answer may be the service's.
            return Err(Failure::Passing(format!(
                "the answer has more than {MAX_ANSWER} bytes"
            )));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// How long to wait after this attempt: any time up to the initial pause, which doubles with every attempt, so that
/// clients that were refused together do not come back together.
fn pause(retries: &RetryConfig, attempt: u32, now: SystemTime) -> Duration {
    let doubled = 1_u32.checked_shl(attempt - 1).unwrap_or(u32::MAX);
    let longest = retries
        .initial_backoff()
        .saturating_mul(doubled)
        .min(retries.max_backoff());
    let share = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.5, |since| f64::from(since.subsec_nanos()) / 1e9);
    longest.mul_f64(share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound() {
        let retries = RetryConfig::standard()
            .with_initial_backoff(Duration::from_secs(1))
            .with_max_backoff(Duration::from_secs(20));
        let at = |nanos| SystemTime::UNIX_EPOCH + Duration::new(7, nanos);
        let pauses = [1, 2, 3, 40].map(|attempt| pause(&retries, attempt, at(500_000_000)));
        assert_eq!(pauses, [500, 1000, 2000, 10_000].map(Duration::from_millis));
        assert_eq!(pause(&retries, 3, at(0)), Duration::ZERO);
    }
}
