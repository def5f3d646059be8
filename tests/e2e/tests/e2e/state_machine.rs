//! Executions of state machines, and activities: their steps that somebody outside does.

use serde_json::{Value, json};

use super::aws::Aws;
use super::wait::until;

async fn call(aws: &Aws, action: &str, input: &Value) -> Value {
    let target = format!("AWSStepFunctions.{action}");
    aws.call("states", &target, input).await
}

/// Starts an execution; returns its ARN.
pub(crate) async fn start(aws: &Aws, state_machine: &str, input: &Value) -> Value {
    let input = json!({"stateMachineArn": state_machine, "input": input.to_string()});
    call(aws, "StartExecution", &input).await["executionArn"].take()
}

/// Waits until an execution has ended; returns how.
pub(crate) async fn ended(aws: &Aws, execution: &Value) -> Value {
    let execution = json!({"executionArn": execution});
    until("the execution to end", async || {
        let described = call(aws, "DescribeExecution", &execution).await;
        (described["status"] != "RUNNING").then_some(described)
    })
    .await
}

/// How many executions of a state machine there were.
pub(crate) async fn executions(aws: &Aws, state_machine: &str) -> usize {
    let input = json!({"stateMachineArn": state_machine});
    let listed = call(aws, "ListExecutions", &input).await;
    listed["executions"].as_array().unwrap().len()
}

/// A step that the test does.
pub(crate) struct Activity {
    pub(crate) arn: String,
    aws: Aws,
}

impl Activity {
    pub(crate) async fn create(aws: &Aws, name: &str) -> Self {
        let created = call(aws, "CreateActivity", &json!({"name": name})).await;
        Self {
            arn: created["activityArn"].as_str().unwrap().to_owned(),
            aws: aws.clone(),
        }
    }

    /// Waits until an execution comes to the step.
    pub(crate) async fn task(&self) -> Task {
        let input = json!({"activityArn": self.arn});
        until(format!("a task of {}", self.arn), async || {
            // Waits on the other side, for a minute at most.
            let given = call(&self.aws, "GetActivityTask", &input).await;
            let input = given["input"].as_str()?;
            Some(Task {
                input: serde_json::from_str(input).unwrap(),
                token: given["taskToken"].clone(),
                aws: self.aws.clone(),
            })
        })
        .await
    }
}

/// A step that waits to be done.
pub(crate) struct Task {
    pub(crate) input: Value,
    token: Value,
    aws: Aws,
}

impl Task {
    pub(crate) async fn succeed(self, output: &Value) {
        let input = json!({"taskToken": self.token, "output": output.to_string()});
        call(&self.aws, "SendTaskSuccess", &input).await;
    }

    pub(crate) async fn fail(self, error: &str, cause: &str) {
        let input = json!({"taskToken": self.token, "error": error, "cause": cause});
        call(&self.aws, "SendTaskFailure", &input).await;
    }
}
