//! Clients of S3 servers on this machine.

use aws_sdk_s3::config::{BehaviorVersion, Builder, Credentials, Region};

use super::REGION;

/// How a client reaches an S3 server on this machine and signs with one of its keys.
///
/// Buckets are addressed by path: 127.0.0.1 has no host name for each of them.
#[must_use]
pub fn client_config(endpoint: &str, access_key_id: &str, secret_access_key: &str) -> Builder {
    let credentials = Credentials::new(
        access_key_id,
        secret_access_key,
        None,
        None,
        "glioseg-local",
    );
    aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .endpoint_url(endpoint)
        .region(Region::new(REGION))
        .credentials_provider(credentials)
        .force_path_style(true)
}
