//! `portcullis endpoint`.

use super::{EndpointAddArgs, EndpointCommand, Output};
use crate::endpoint::{self, AddRequest, DelRequest, EndpointError, Manifest};
use crate::ipc::{self, Answer, Request};
use serde_json::json;
use std::path::Path;

/// Makes, removes or lists pods.
pub fn endpoint(command: EndpointCommand) -> Result<(), String> {
    let done = match command {
        EndpointCommand::Add(args) => add(args),
        EndpointCommand::Del {
            name,
            namespace,
            state,
        } => endpoint::del(&DelRequest {
            name,
            namespace,
            state,
        }),
        EndpointCommand::Move {
            pod,
            worker,
            socket,
        } => return move_pod(&socket, pod, worker),
        EndpointCommand::List { state, output } => {
            endpoint::list(&state).map(|pods| list(&pods, output))
        }
    };
    done.map_err(|e| e.to_string())
}

fn add(args: EndpointAddArgs) -> Result<(), EndpointError> {
    let mut request = AddRequest::new(&args.name, &args.state);
    request.namespace = args.namespace;
    for label in &args.labels {
        request.labels.push(label.parse()?);
    }
    for port in &args.ports {
        request.ports.push(port.parse()?);
    }
    request.addresses = args.addresses;
    request.netns = args.netns;
    request.route_mtu = args.mtu;
    if let Some(account) = args.service_account {
        request.service_account = account;
    }
    let pod = endpoint::add(&request)?;
    let interface = pod.interface.as_deref().unwrap_or("-");
    let netns = pod.netns.as_deref().unwrap_or("-");
    println!(
        "pod {}/{}: network namespace {netns}, host end {interface}",
        pod.namespace, pod.name
    );
    Ok(())
}

/// Has the daemon move a pod to another worker.
fn move_pod(socket: &Path, pod: String, worker: u16) -> Result<(), String> {
    match ipc::ask(socket, &Request::Move { pod, worker })?.next() {
        Some(Ok(Answer::Done(said))) => {
            println!("moved {said}");
            Ok(())
        }
        Some(Ok(Answer::Error(fault)) | Err(fault)) => Err(fault),
        _ => Err("the daemon gave no answer".into()),
    }
}

fn list(pods: &[Manifest], output: Output) {
    let addresses = |pod: &Manifest| {
        pod.addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    match output {
        Output::Json => {
            let pods: Vec<_> = pods
                .iter()
                .map(|pod| {
                    json!({
                        "namespace": pod.namespace,
                        "name": pod.name,
                        "addresses": addresses(pod),
                        "interface": pod.interface,
                        "mac": pod.mac,
                        "netns": pod.netns,
                    })
                })
                .collect();
            println!("{}", serde_json::Value::from(pods));
        }
        Output::Text => {
            println!(
                "{:<32} {:<16} {:<32} ADDRESSES",
                "POD", "INTERFACE", "NETNS"
            );
            for pod in pods {
                println!(
                    "{:<32} {:<16} {:<32} {}",
                    format!("{}/{}", pod.namespace, pod.name),
                    pod.interface.as_deref().unwrap_or("-"),
                    pod.netns.as_deref().unwrap_or("-"),
                    addresses(pod).join(" ")
                );
            }
        }
    }
}
