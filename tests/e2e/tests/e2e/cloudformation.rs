//! Stacks of CloudFormation.

use std::collections::BTreeMap;

use super::aws::Aws;
use super::wait::until;

/// Makes a stack from a template that lies in a bucket, waits until it is there, and returns its outputs.
///
/// From a bucket, as the body of a request takes 51,200 bytes of template at most, as on AWS.
pub(crate) async fn deploy(
    aws: &Aws,
    name: &str,
    template: &str,
    parameters: &[(&str, &str)],
) -> BTreeMap<String, String> {
    let mut call = vec![
        ("Action".to_owned(), "CreateStack".to_owned()),
        ("Version".to_owned(), "2010-05-15".to_owned()),
        ("StackName".to_owned(), name.to_owned()),
        (
            "TemplateURL".to_owned(),
            format!("{}/{template}", aws.endpoint()),
        ),
        (
            "Capabilities.member.1".to_owned(),
            "CAPABILITY_IAM".to_owned(),
        ),
        (
            "Capabilities.member.2".to_owned(),
            "CAPABILITY_AUTO_EXPAND".to_owned(),
        ),
    ];
    for (number, (name, value)) in (1..).zip(parameters) {
        let member = format!("Parameters.member.{number}");
        call.push((format!("{member}.ParameterKey"), (*name).to_owned()));
        call.push((format!("{member}.ParameterValue"), (*value).to_owned()));
    }
    let call: Vec<_> = call
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    aws.query("cloudformation", &call).await;
    let description = until(format!("the stack {name}"), async || {
        let description = describe(aws, name).await;
        let status = element(&description, "StackStatus").unwrap().to_owned();
        if status.ends_with("_IN_PROGRESS") {
            return None;
        }
        assert_eq!(status, "CREATE_COMPLETE", "{description}");
        Some(description)
    })
    .await;
    outputs(&description)
}

async fn describe(aws: &Aws, name: &str) -> String {
    let parameters = [
        ("Action", "DescribeStacks"),
        ("Version", "2010-05-15"),
        ("StackName", name),
    ];
    aws.query("cloudformation", &parameters).await
}

fn outputs(description: &str) -> BTreeMap<String, String> {
    description
        .split("<OutputKey>")
        .skip(1)
        .map(|output| {
            let name = output.split_once('<').unwrap().0;
            (
                name.to_owned(),
                element(output, "OutputValue").unwrap().to_owned(),
            )
        })
        .collect()
}

/// The text of the first element of that name; no value here holds what XML would escape.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once('<')?.0)
}
