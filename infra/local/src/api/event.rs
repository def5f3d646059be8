//! An HTTP request as an event of payload format 2.0.

use std::str;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Map, Value, json};

use super::GatewayRequest;
use crate::wiring::Route;

/// The event that API Gateway's HTTP API would send for the request. `path` is decoded, as it is there.
pub(super) fn event(
    route: &Route,
    path: &str,
    parameters: Option<(&str, String)>,
    request: &GatewayRequest,
    id: u64,
) -> Value {
    let query = request
        .path_and_query
        .split_once('?')
        .map_or("", |(_, query)| query);
    let route_key = format!("{} {}", route.method, route.path);
    let header = |name: &str| {
        request
            .headers
            .get(name)
            .map(String::as_str)
            .unwrap_or_default()
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut event = json!({
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": path,
        "rawQueryString": query,
        "headers": request.headers,
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": header("host"),
            "domainPrefix": "local",
            "http": {
                "method": request.method.as_str(),
                "path": path,
                "protocol": "HTTP/1.1",
                "sourceIp": "127.0.0.1",
                "userAgent": header("user-agent"),
            },
            "requestId": format!("local-{id}"),
            "routeKey": route_key,
            "stage": "$default",
            "timeEpoch": u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
        },
        "isBase64Encoded": false,
    });
    if let Some((name, value)) = parameters {
        event["pathParameters"] = Value::Object(Map::from_iter([(name.to_owned(), value.into())]));
    }
    if !request.body.is_empty() {
        match str::from_utf8(&request.body) {
            Ok(text) if is_text(header("content-type")) => event["body"] = text.into(),
            _ => {
                event["body"] = BASE64_STANDARD.encode(&request.body).into();
                event["isBase64Encoded"] = true.into();
            }
        }
    }
    event
}

/// Whether API Gateway passes a body of this type on as it is.
fn is_text(content_type: &str) -> bool {
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    essence.starts_with("text/")
        || matches!(
            essence.as_str(),
            "application/json" | "application/javascript" | "application/xml"
        )
}
