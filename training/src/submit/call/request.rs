//! Where a service is, and a signed request to it.

use std::error::Error;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;

/// A service that speaks the JSON protocol.
#[derive(Debug, PartialEq, Eq)]
pub struct Service {
    /// Name that endpoint settings have in them: `AWS_ENDPOINT_URL_SAGEMAKER` for `SageMaker`.
    pub(super) id: &'static str,
    /// Name that requests are signed for.
    pub(super) signing_name: &'static str,
    /// First labels of the host name, and the same where FIPS endpoints are asked for.
    pub(super) hosts: [&'static str; 2],
    /// What the operation's name follows in `X-Amz-Target`.
    pub(super) target: &'static str,
}

/// Amazon SageMaker.
pub const SAGEMAKER: Service = Service {
    id: "SageMaker",
    signing_name: "sagemaker",
    hosts: ["api.sagemaker", "api-fips.sagemaker"],
    target: "SageMaker",
};

/// Amazon CloudWatch Logs.
pub const CLOUDWATCH_LOGS: Service = Service {
    id: "CloudWatch Logs",
    signing_name: "logs",
    hosts: ["logs", "logs-fips"],
    target: "Logs_20140328",
};

/// AWS's endpoint of a region: in China its domain is another.
pub(super) fn own_endpoint(host: &str, region: &str) -> String {
    let china = if region.starts_with("cn-") { ".cn" } else { "" };
    format!("https://{host}.{region}.amazonaws.com{china}")
}

/// The request of a call, signed by Signature Version 4.
pub(super) fn signed(
    endpoint: &str,
    service: &Service,
    operation: &str,
    body: &[u8],
    region: &str,
    credentials: Credentials,
) -> Result<HttpRequest, Box<dyn Error + Send + Sync>> {
    let url = format!("{}/", endpoint.trim_end_matches('/'));
    let target = format!("{}.{operation}", service.target);
    let headers = [
        ("content-type", "application/x-amz-json-1.1"),
        ("x-amz-target", target.as_str()),
    ];
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service.signing_name)
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let signable = SignableRequest::new(
        "POST",
        url.as_str(),
        headers.into_iter(),
        SignableBody::Bytes(body),
    )?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();

    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method("POST")?;
    request.set_uri(url)?;
    for (name, value) in headers.into_iter().chain(instructions.headers()) {
        request
            .headers_mut()
            .try_insert(name.to_owned(), value.to_owned())?;
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_region_has_an_endpoint() {
        assert_eq!(
            own_endpoint("api.sagemaker", "eu-central-1"),
            "https://api.sagemaker.eu-central-1.amazonaws.com"
        );
        assert_eq!(
            own_endpoint("logs", "cn-north-1"),
            "https://logs.cn-north-1.amazonaws.com.cn"
        );
    }
}
