//! The API as a client sees it, over TCP, without a dataplane behind it.
#![allow(deprecated)] // `Summary` is old, and what the command line prints.

mod served;
mod world;

use portcullis_hubble::wire::flow::{
    AgentEventType, DropReason, EventTypeFilter, Flow, FlowFilter, LostEventSource,
    TrafficDirection, Verdict, agent_event::Notification,
};
use portcullis_hubble::wire::observer::get_flows_response::ResponseTypes;
use portcullis_hubble::wire::observer::{
    GetAgentEventsRequest, GetDebugEventsRequest, GetFlowsRequest, GetNamespacesRequest,
    GetNodesRequest, ServerStatusRequest,
};
use prost::Message;
use served::Served;
use std::collections::HashSet;
use std::time::Duration;
use tonic::{Code, Status};
use world::{World, start};

/// A minute and two of seconds: events come one a second, odd ones are denied.
fn world() -> World {
    let world = World::new(1000);
    world.history.extend((0..120).map(|second| {
        if second % 2 == 0 {
            world.allowed(second)
        } else {
            world.denied(second)
        }
    }));
    world
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), work)
            .await
            .expect("in time")
    })
}

/// Everything that a request brings.
async fn all(served: &Served, request: GetFlowsRequest) -> Result<Vec<Flow>, Status> {
    let mut stream = served.client().await.get_flows(request).await?.into_inner();
    let mut flows = Vec::new();
    while let Some(answer) = stream.message().await? {
        match answer.response_types {
            Some(ResponseTypes::Flow(flow)) => flows.push(flow),
            other => panic!("no flow: {other:?}"),
        }
    }
    Ok(flows)
}

/// The seconds of flows.
fn seconds(flows: &[Flow]) -> Vec<i64> {
    let start = start().as_second();
    let second = |flow: &Flow| flow.time.expect("a time").seconds - start;
    flows.iter().map(second).collect()
}

fn at(second: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp {
        seconds: start().as_second() + second,
        nanos: 0,
    })
}

/// Denials, as the drop of the packet alone.
fn drops() -> Vec<FlowFilter> {
    vec![FlowFilter {
        event_type: vec![EventTypeFilter {
            r#type: 1,
            ..EventTypeFilter::default()
        }],
        ..FlowFilter::default()
    }]
}

#[test]
fn a_reader_gets_the_part_of_history_that_it_asks_for() {
    let world = world();
    let served = Served::new(&world, "window");
    let request = GetFlowsRequest::default;
    run(async {
        let everything = all(&served, request()).await.unwrap();
        assert_eq!(everything.len(), 3 * 120);
        let ask = |request| all(&served, request);
        let last = GetFlowsRequest {
            number: 4,
            ..request()
        };
        // The last event's three, and the last of the one before.
        assert_eq!(ask(last).await.unwrap(), everything[356..]);
        let more_than_there_are = GetFlowsRequest {
            number: 5000,
            ..request()
        };
        assert_eq!(ask(more_than_there_are).await.unwrap(), everything);
        let all_of_it = GetFlowsRequest {
            number: u64::MAX,
            ..request()
        };
        assert_eq!(ask(all_of_it).await.unwrap(), everything);
        let first = GetFlowsRequest {
            number: 4,
            first: true,
            ..request()
        };
        assert_eq!(ask(first).await.unwrap(), everything[..4]);
        let since = GetFlowsRequest {
            since: at(118),
            ..request()
        };
        assert_eq!(ask(since).await.unwrap(), everything[354..]);
        let since_so_many = GetFlowsRequest {
            since: at(10),
            number: 2,
            ..request()
        };
        assert_eq!(ask(since_so_many).await.unwrap(), everything[30..32]);
        let span = GetFlowsRequest {
            since: at(10),
            until: at(11),
            ..request()
        };
        assert_eq!(seconds(&ask(span).await.unwrap()), [10, 10, 10, 11, 11, 11]);
        let last_until = GetFlowsRequest {
            until: at(11),
            number: 1,
            ..request()
        };
        assert_eq!(ask(last_until).await.unwrap(), everything[35..36]);
        let last_wanted = GetFlowsRequest {
            number: 2,
            whitelist: drops(),
            ..request()
        };
        assert_eq!(seconds(&ask(last_wanted).await.unwrap()), [117, 119]);
        let unwanted = GetFlowsRequest {
            blacklist: drops(),
            ..request()
        };
        assert_eq!(ask(unwanted).await.unwrap().len(), 300);
    });
}

#[test]
fn a_follower_gets_the_past_it_asks_for_and_then_what_comes() {
    let world = world();
    let served = Served::new(&world, "follow");
    run(async {
        let mut client = served.client().await;
        let request = GetFlowsRequest {
            follow: true,
            number: 1,
            whitelist: drops(),
            ..GetFlowsRequest::default()
        };
        let answer = client.get_flows(request).await.unwrap();
        let version = answer.metadata().get("hubble-server-version").unwrap();
        assert_eq!(version, "1.19.4");
        let mut stream = answer.into_inner();
        let mut next = async || match stream.message().await.unwrap().unwrap().response_types {
            Some(ResponseTypes::Flow(flow)) => seconds(&[flow])[0],
            other => panic!("no flow: {other:?}"),
        };
        assert_eq!(next().await, 119);
        world
            .history
            .extend([world.allowed(200), world.denied(201)]);
        assert_eq!(next().await, 201);
        // Without a past, what was there before does not come.
        let request = GetFlowsRequest {
            follow: true,
            ..GetFlowsRequest::default()
        };
        let mut stream = client.get_flows(request).await.unwrap().into_inner();
        world.history.extend([world.allowed(300)]);
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.time, at(300));
        assert_eq!(first.node_name, "default/node-1");
    });
}

#[test]
fn a_denial_is_told_with_its_policies_and_why() {
    let world = World::new(10);
    world.history.extend([world.denied(0)]);
    let served = Served::new(&world, "denial");
    let flows = run(all(&served, GetFlowsRequest::default())).unwrap();
    let types: Vec<_> = flows
        .iter()
        .map(|flow| (flow.event_type.unwrap().r#type, flow.verdict()))
        .collect();
    let (forwarded, dropped) = (Verdict::Forwarded, Verdict::Dropped);
    assert_eq!(types, [(5, forwarded), (5, dropped), (1, dropped)]);
    let text = "ingress default deny: backend/allow-dns does not allow it; nearest is \
                backend/allow-dns ingress[0]: 80/TCP is not 53/UDP";
    for flow in &flows[1..] {
        assert_eq!(flow.summary, format!("TCP Flags: SYN; {text}"));
        assert_eq!(flow.traffic_direction(), TrafficDirection::Ingress);
        assert_eq!(flow.drop_reason_desc(), DropReason::PolicyDenied);
        assert_eq!((flow.drop_reason, flow.is_reply), (133, None));
        let by: Vec<_> = flow
            .ingress_denied_by
            .iter()
            .map(|policy| (policy.name.as_str(), policy.kind.as_str()))
            .collect();
        let why = format!("({text})");
        assert_eq!(by, [("allow-dns", "CiliumNetworkPolicy"), (&why, "why")]);
        let extension = flow.extensions.clone().unwrap();
        assert_eq!(
            extension.type_url,
            "type.googleapis.com/google.protobuf.Struct"
        );
        let told = prost_types::Struct::decode(extension.value.as_slice()).unwrap();
        assert!(told.fields.contains_key("sides"), "{told:?}");
    }
    let source = flows[0].source.clone().unwrap();
    assert_eq!(source.pod_name, "web-5d4f8c7b9d-x2x4z");
    assert!(source.labels.contains(&"k8s:app=web".to_owned()));
    assert_eq!(source.workloads[0].name, "web");
    assert_eq!(flows[0].is_reply, Some(false));
    let names: HashSet<&str> = flows.iter().map(|flow| flow.uuid.as_str()).collect();
    assert_eq!(names.len(), 3, "each has a name of its own");
}

#[test]
fn expressions_are_about_what_a_client_is_told() {
    let world = world();
    let served = Served::new(&world, "expressions");
    let expressions = |texts: &[&str]| FlowFilter {
        experimental: Some(portcullis_hubble::wire::flow::flow_filter::Experimental {
            cel_expression: texts.iter().map(|text| (*text).to_owned()).collect(),
        }),
        ..FlowFilter::default()
    };
    let asked = |whitelist: Vec<FlowFilter>, blacklist: Vec<FlowFilter>| {
        let request = GetFlowsRequest {
            whitelist,
            blacklist,
            ..GetFlowsRequest::default()
        };
        run(all(&served, request)).unwrap()
    };
    let dropped = asked(
        vec![FlowFilter {
            verdict: vec![Verdict::Dropped as i32],
            ..FlowFilter::default()
        }],
        Vec::new(),
    );
    assert!(!dropped.is_empty());
    let texts = [
        "_flow.verdict == Verdict.DROPPED && 'k8s:app=web' in _flow.source.labels \
         && _flow.source.workloads[0].name == 'web' && has(_flow.l4.TCP)",
        "_flow.node_name != 'default/node-1'",
    ];
    assert_eq!(asked(vec![expressions(&texts)], Vec::new()), dropped);
    // All fields of a filter must hold.
    let other = FlowFilter {
        verdict: vec![Verdict::Forwarded as i32],
        ..expressions(&texts)
    };
    assert_eq!(asked(vec![other], Vec::new()), Vec::new());
    let without = asked(Vec::new(), vec![expressions(&texts)]);
    assert_eq!(
        without.len() + dropped.len(),
        asked(Vec::new(), Vec::new()).len()
    );
    // The last so many of those that are wanted.
    let request = GetFlowsRequest {
        whitelist: vec![expressions(&texts)],
        number: 3,
        ..GetFlowsRequest::default()
    };
    let last = run(all(&served, request)).unwrap();
    assert_eq!(last, dropped[dropped.len() - 3..]);
}

#[test]
fn filters_together_have_a_bound_of_expressions() {
    let world = World::new(10);
    let served = Served::new(&world, "expressions-bound");
    let filter = FlowFilter {
        experimental: Some(portcullis_hubble::wire::flow::flow_filter::Experimental {
            cel_expression: vec!["true".into(); 11],
        }),
        ..FlowFilter::default()
    };
    let request = GetFlowsRequest {
        whitelist: vec![filter; 3],
        ..GetFlowsRequest::default()
    };
    let status = run(all(&served, request)).unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::InvalidArgument,
            "experimental.cel_expression: expected at most 32 in all filters, found 33"
        )
    );
}

#[test]
fn what_contradicts_itself_is_refused_in_words() {
    let world = World::new(10);
    let served = Served::new(&world, "refused");
    let filter = |filter| GetFlowsRequest {
        whitelist: vec![filter],
        ..GetFlowsRequest::default()
    };
    let of = FlowFilter::default;
    for (request, words) in [
        (
            GetFlowsRequest {
                first: true,
                follow: true,
                ..GetFlowsRequest::default()
            },
            "first cannot be specified with follow",
        ),
        (
            filter(FlowFilter {
                source_port: vec!["http".into()],
                ..of()
            }),
            "whitelist[0].source_port[0]: expected a port, 0 to 65535, found \"http\"",
        ),
        (
            filter(FlowFilter {
                verdict: vec![99],
                ..of()
            }),
            "whitelist[0].verdict[0]: 99 is no value of it",
        ),
        (
            filter(FlowFilter {
                experimental: Some(portcullis_hubble::wire::flow::flow_filter::Experimental {
                    cel_expression: vec!["true".into(), "_flow.verdict".into()],
                }),
                ..of()
            }),
            "whitelist[0].experimental.cel_expression[1]: expected bool, found int, \
             at character 6 of \"_flow.verdict\"",
        ),
        (
            GetFlowsRequest {
                field_mask: Some(prost_types::FieldMask {
                    paths: vec!["summary".into()],
                }),
                ..GetFlowsRequest::default()
            },
            "field_mask: a flow has no field \"summary\"",
        ),
    ] {
        let status = run(all(&served, request)).unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::InvalidArgument, words)
        );
    }
}

#[test]
fn status_nodes_and_namespaces_are_those_of_this_node() {
    let world = World::new(10);
    let now = jiff::Timestamp::now();
    let second = now.as_second() - start().as_second();
    world.history.extend([world.denied(second)]);
    let served = Served::new(&world, "status");
    run(async {
        let mut client = served.client().await;
        let status = client.server_status(ServerStatusRequest {}).await.unwrap();
        let status = status.into_inner();
        assert_eq!(
            (status.num_flows, status.max_flows, status.seen_flows),
            (1, 10, 1)
        );
        assert_eq!(status.num_connected_nodes, Some(1));
        assert!(status.version.starts_with("portcullis "), "{status:?}");
        let nodes = client
            .get_nodes(GetNodesRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(nodes.nodes[0].name, "default/node-1");
        assert_eq!(nodes.nodes[0].address, served.address.to_string());
        let seen = client
            .get_namespaces(GetNamespacesRequest {})
            .await
            .unwrap();
        let seen = seen.into_inner().namespaces;
        let names: Vec<&str> = seen.iter().map(|one| one.namespace.as_str()).collect();
        assert_eq!(names, ["backend", "frontend"]);
        let debug = GetDebugEventsRequest::default();
        let mut stream = client.get_debug_events(debug).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap(), None);
    });
}

#[test]
fn what_the_daemon_did_is_told() {
    let world = World::new(10);
    world.log.compare(start(), None, world.names());
    let served = Served::new(&world, "agent");
    run(async {
        let mut client = served.client().await;
        let request = GetAgentEventsRequest::default();
        let mut stream = client.get_agent_events(request).await.unwrap().into_inner();
        let mut types = Vec::new();
        while let Some(answer) = stream.message().await.unwrap() {
            let event = answer.agent_event.unwrap();
            if let Some(Notification::EndpointUpdate(update)) = &event.notification
                && update.pod_name == "api-0"
            {
                assert_eq!(update.namespace, "backend");
                assert!(
                    update.labels.contains(&"k8s:app=api".to_owned()),
                    "{update:?}"
                );
            }
            types.push(event.r#type());
        }
        let created = AgentEventType::EndpointCreated;
        let upserted = AgentEventType::IpcacheUpserted;
        assert_eq!(
            types,
            [
                AgentEventType::AgentStarted,
                AgentEventType::PolicyUpdated,
                created,
                created,
                upserted,
                upserted
            ]
        );
    });
}

#[test]
fn a_client_that_stops_reading_is_told_exactly_what_it_missed() {
    let world = World::new(500);
    let served = Served::new(&world, "stalled");
    run(async {
        let mut client = served.client().await;
        let request = GetFlowsRequest {
            follow: true,
            ..GetFlowsRequest::default()
        };
        let mut stream = client.get_flows(request).await.unwrap().into_inner();
        let written = 50_000_u64;
        // The client reads nothing while a hundred histories go by.
        for second in 0..written / 100 {
            world
                .history
                .extend((0..100).map(|_| world.allowed(i64::try_from(second).unwrap())));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (mut flows, mut lost) = (0_u64, 0_u64);
        while flows / 3 + lost < written {
            let answer = stream.message().await.unwrap().unwrap();
            match answer.response_types.unwrap() {
                ResponseTypes::Flow(_) => flows += 1,
                ResponseTypes::LostEvents(event) => {
                    assert_eq!(event.source(), LostEventSource::HubbleRingBuffer);
                    assert!(event.first.unwrap().seconds <= event.last.unwrap().seconds);
                    lost += event.num_events_lost;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((flows % 3, flows / 3 + lost), (0, written));
        assert!(lost > written / 2, "it was slow: {lost}");
    });
}

#[test]
fn telling_a_flow_costs_microseconds() {
    use portcullis_hubble::Teller;
    let world = World::new(1);
    let (allowed, denied) = (world.allowed(0), world.denied(1));
    let mut teller = Teller::new(&world.sources().node);
    for (name, event) in [("allowed", allowed), ("denied", denied)] {
        let (mut flows, mut bytes) = (0_u32, 0);
        let start = std::time::Instant::now();
        for _ in 0..10_000 {
            for sighting in portcullis_observe::Sighting::all(&event) {
                bytes += teller.flow(&sighting).encode_to_vec().len();
                flows += 1;
            }
        }
        let each = start.elapsed() / flows;
        eprintln!(
            "{name}: {each:?} and {} bytes a flow",
            bytes / flows as usize
        );
        // Not optimised, on a machine with other work: far off is a mistake all the same.
        assert!(each < Duration::from_micros(200), "{name}: {each:?}");
    }
}
