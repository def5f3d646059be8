//! The template deploys what the local stack runs.

use std::collections::BTreeSet;

use glioseg_local::wiring::{Bucket, Function, ROUTES, TRIGGERS};
use glioseg_shared::cloud::keys::{self, ResultKind, StudyId};
use serde_yaml_ng::Value;

fn template() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml");
    serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn resource<'a>(template: &'a Value, name: &str) -> &'a Value {
    let resource = &template["Resources"][name];
    assert!(resource.is_mapping(), "the template has no {name}");
    resource
}

/// The text under an intrinsic function such as `!Ref`.
fn tagged<'a>(value: &'a Value, tag: &str) -> &'a str {
    let Value::Tagged(tagged) = value else {
        panic!("{value:?} is not under !{tag}");
    };
    assert!(tagged.tag == tag, "{value:?} is not under !{tag}");
    tagged.value.as_str().unwrap()
}

#[test]
fn the_same_objects_lead_to_the_same_queues() {
    let template = template();
    let mut deployed = BTreeSet::new();
    for bucket in Bucket::ALL {
        let name = bucket.logical_name();
        let notifications = &resource(&template, name)["Properties"]["NotificationConfiguration"];
        if let Some(kinds) = notifications.as_mapping() {
            assert_eq!(kinds.len(), 1, "{name} notifies queues only");
        }
        for queue in notifications["QueueConfigurations"]
            .as_sequence()
            .into_iter()
            .flatten()
        {
            assert_eq!(queue["Event"].as_str(), Some("s3:ObjectCreated:*"));
            let (mut prefix, mut suffix) = ("", "");
            for rule in queue["Filter"]["S3Key"]["Rules"]
                .as_sequence()
                .into_iter()
                .flatten()
            {
                let value = rule["Value"].as_str().unwrap();
                match rule["Name"].as_str().unwrap() {
                    "prefix" => prefix = value,
                    "suffix" => suffix = value,
                    other => panic!("a rule for {other}"),
                }
            }
            let queue = tagged(&queue["Queue"], "GetAtt").to_owned();
            deployed.insert((name, prefix.to_owned(), suffix.to_owned(), queue));
        }
    }
    let local = TRIGGERS.iter().map(|trigger| {
        (
            trigger.bucket.logical_name(),
            trigger.prefix.to_owned(),
            trigger.suffix.to_owned(),
            format!("{}Queue.Arn", trigger.function.logical_prefix()),
        )
    });
    assert_eq!(deployed, local.collect());
}

#[test]
fn each_queue_feeds_its_function_in_batches_with_partial_failures() {
    let template = template();
    for function in Function::ALL {
        let prefix = function.logical_prefix();
        let properties = &resource(&template, &format!("{prefix}Function"))["Properties"];
        let events = properties["Events"].as_mapping().unwrap();
        assert_eq!(events.len(), 1, "{function} has one source of events");
        let (_, source) = events.iter().next().unwrap();
        assert_eq!(source["Type"].as_str(), Some("SQS"));
        let source = &source["Properties"];
        assert_eq!(
            tagged(&source["Queue"], "GetAtt"),
            format!("{prefix}Queue.Arn")
        );
        let responses = source["FunctionResponseTypes"].as_sequence().unwrap();
        assert_eq!(responses, &[Value::from("ReportBatchItemFailures")]);

        let redrive =
            &resource(&template, &format!("{prefix}Queue"))["Properties"]["RedrivePolicy"];
        let target = tagged(&redrive["deadLetterTargetArn"], "GetAtt");
        assert_eq!(target, format!("{prefix}DeadLetters.Arn"));
    }
}

#[test]
fn studies_expire_kind_by_kind_and_labelled_slices_do_not() {
    let template = template();
    let rules =
        &resource(&template, "ResultsBucket")["Properties"]["LifecycleConfiguration"]["Rules"];
    let mut expiring = BTreeSet::new();
    for rule in rules.as_sequence().unwrap() {
        let Value::Tagged(condition) = rule else {
            assert!(rule["ExpirationInDays"].is_null(), "{rule:?}");
            continue;
        };
        let rule = &condition.value[1];
        assert_eq!(
            tagged(&rule["ExpirationInDays"], "Ref"),
            "ExpireStudiesDays"
        );
        expiring.insert(rule["Prefix"].as_str().unwrap().to_owned());
    }
    let study = StudyId::parse("s").unwrap();
    for kind in ResultKind::ALL {
        let prefix = keys::results_prefix(kind, &study);
        let kind = prefix.strip_suffix("s/").unwrap();
        assert!(expiring.contains(kind), "{kind}");
    }
    let kept = keys::labelled_manifest();
    assert!(
        !expiring
            .iter()
            .any(|prefix| kept.as_str().starts_with(prefix))
    );
}

#[test]
fn defaults_of_queues_are_the_templates() {
    let template = template();
    let default = |name: &str| template["Parameters"][name]["Default"].as_u64().unwrap();
    let policy = glioseg_local::queue::Policy::default();
    assert_eq!(
        u64::from(policy.max_receive_count),
        default("MaxReceiveCount")
    );
    for function in Function::ALL {
        let batch = default(&format!("{}BatchSize", function.logical_prefix()));
        assert_eq!(policy.batch_size as u64, batch, "{function}");
    }
}

#[test]
fn the_environment_of_each_function_names_its_buckets() {
    let template = template();
    let globals = &template["Globals"]["Function"]["Environment"]["Variables"];
    for function in Function::ALL {
        let name = format!("{}Function", function.logical_prefix());
        let own = &resource(&template, &name)["Properties"]["Environment"]["Variables"];
        for bucket in Bucket::ALL {
            let variable = bucket.variable();
            let named = [&globals[variable], &own[variable]]
                .into_iter()
                .find(|value| !value.is_null());
            assert_eq!(
                named.map(|value| tagged(value, "Ref")),
                function
                    .buckets()
                    .contains(&bucket)
                    .then(|| bucket.logical_name()),
                "{variable} of {function}"
            );
        }
    }
}

#[test]
fn the_same_routes_lead_to_the_same_functions() {
    let template = template();
    let mut deployed = BTreeSet::new();
    for (_, resource) in template["Resources"].as_mapping().unwrap() {
        if resource["Type"].as_str() == Some("AWS::ApiGatewayV2::Route") {
            let properties = &resource["Properties"];
            let target = tagged(&properties["Target"], "Sub").to_owned();
            deployed.insert((properties["RouteKey"].as_str().unwrap().to_owned(), target));
        }
    }
    let local = ROUTES.iter().map(|route| {
        let function = route.function.logical_prefix();
        (
            format!("{} {}", route.method, route.path),
            format!("integrations/${{{function}Integration}}"),
        )
    });
    assert_eq!(deployed, local.collect());
}
