//! Hubble's API of a running daemon, as its clients use it.
#![allow(deprecated)] // `Summary` is old, and what the command line prints.

mod client;
mod stalled;

use client::{SOCKET, answers, channel, channel_tls, flow, flows, observer, within};
use netns_tests::manifests::{ALLOW_FRONTEND, DEFAULT_DENY};
use netns_tests::{ETHERTYPE_IPV4, Lab, Pod, ethernet, eventually, ipv4};
use portcullis_hubble::wire::flow::agent_event::Notification;
use portcullis_hubble::wire::flow::layer4::Protocol;
use portcullis_hubble::wire::flow::{
    AgentEventType, Ethernet, EventTypeFilter, Flow, FlowFilter, NetworkInterface,
    TrafficDirection, Verdict,
};
use portcullis_hubble::wire::observer::observer_client::ObserverClient;
use portcullis_hubble::wire::observer::{
    GetAgentEventsRequest, GetFlowsRequest, GetNamespacesRequest, GetNodesRequest,
    ServerStatusRequest,
};
use portcullis_hubble::wire::peer::peer_client::PeerClient;
use portcullis_hubble::wire::peer::{ChangeNotificationType, NotifyRequest};
use std::thread;
use tonic::Code;

/// What Hubble's command line asks for unless it prints JSON.
const COMMAND_LINE_MASK: &str = "time verdict ethernet IP l4 source.identity source.namespace \
    source.pod_name destination.identity destination.namespace destination.pod_name Type node_name \
    l7 event_type source_service destination_service is_reply Summary ip_trace_id";

struct Cluster {
    lab: Lab,
    api: Pod,
    stranger: Pod,
}

/// An api that the web may reach on port 80 and a stranger may not; both have tried.
fn cluster(settings: &str) -> Option<Cluster> {
    let lab = Lab::new(settings)?;
    let api = lab.pod("backend/api", &["app=backend"], &["10.0.1.10"]);
    let web = lab.pod("frontend/web", &["app=frontend"], &["10.0.1.11"]);
    let stranger = lab.pod("frontend/stranger", &["app=batch"], &["10.0.1.12"]);
    api.serve_pages();
    lab.apply(
        "policies.yaml",
        &format!("{DEFAULT_DENY}\n---\n{ALLOW_FRONTEND}"),
    );
    lab.start_daemon();
    assert!(web.fetch("http://10.0.1.10/").is_some());
    assert!(stranger.gets_nothing("http://10.0.1.10/"));
    let cluster = Cluster { lab, api, stranger };
    eventually("both have been recorded", || {
        let wanted = |pod: &str| GetFlowsRequest {
            whitelist: vec![FlowFilter {
                source_pod: vec![pod.into()],
                protocol: vec!["tcp".into()],
                ..FlowFilter::default()
            }],
            ..GetFlowsRequest::default()
        };
        let seen = |pod| !flows(&cluster.lab, wanted(pod)).is_empty();
        seen("frontend/web") && seen("frontend/stranger")
    });
    Some(cluster)
}

fn wanted(filter: FlowFilter) -> GetFlowsRequest {
    GetFlowsRequest {
        whitelist: vec![filter],
        ..GetFlowsRequest::default()
    }
}

fn event_type(number: i32) -> Vec<EventTypeFilter> {
    vec![EventTypeFilter {
        r#type: number,
        ..EventTypeFilter::default()
    }]
}

fn from(pod: &str) -> FlowFilter {
    FlowFilter {
        source_pod: vec![pod.into()],
        protocol: vec!["tcp".into()],
        ..FlowFilter::default()
    }
}

fn pod_of(flow: &Flow) -> &str {
    flow.source.as_ref().map_or("", |end| &end.pod_name)
}

#[test]
fn an_allowed_connection_is_a_verdict_at_each_end_and_then_a_trace() {
    let Some(cluster) = cluster("") else { return };
    let opening = GetFlowsRequest {
        number: 3,
        first: true,
        ..wanted(from("frontend/web"))
    };
    let seen = flows(&cluster.lab, opening);
    let told: Vec<_> = seen
        .iter()
        .map(|flow| {
            let kind = flow.event_type.expect("a type");
            (kind.r#type, flow.verdict(), flow.traffic_direction())
        })
        .collect();
    let (passed, egress, ingress) = (
        Verdict::Forwarded,
        TrafficDirection::Egress,
        TrafficDirection::Ingress,
    );
    assert_eq!(
        told,
        [
            (5, passed, egress),
            (5, passed, ingress),
            (4, passed, ingress)
        ]
    );
    let by = &seen[1].ingress_allowed_by[0];
    assert_eq!(
        (by.name.as_str(), by.namespace.as_str(), by.kind.as_str()),
        ("allow-frontend", "backend", "CiliumNetworkPolicy")
    );
    // A rule with peers and ports.
    assert_eq!(seen[1].policy_match_type, 2);
    assert_eq!(seen[2].summary, "TCP Flags: SYN");
    let target = seen[2].destination.as_ref().expect("an end");
    assert_eq!(
        (target.namespace.as_str(), target.pod_name.as_str()),
        ("backend", "api")
    );
    assert!(target.labels.contains(&"k8s:app=backend".to_owned()));
    assert!(seen.iter().all(|flow| flow.is_reply == Some(false)));
    assert!(seen[0].node_name.starts_with("default/"), "{:?}", seen[0]);
}

#[test]
fn a_denied_flow_names_its_policies_and_why() {
    let Some(cluster) = cluster("") else { return };
    let denied = FlowFilter {
        verdict: vec![Verdict::Dropped as i32],
        ..from("frontend/stranger")
    };
    let request = GetFlowsRequest {
        number: 2,
        first: true,
        field_mask: Some(prost_types::FieldMask {
            paths: COMMAND_LINE_MASK
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
        }),
        ..wanted(denied)
    };
    for flow in flows(&cluster.lab, request) {
        // The command line's own mask does not ask for these, and yet it prints them.
        assert_eq!(flow.traffic_direction(), TrafficDirection::Ingress);
        let by: Vec<&str> = flow
            .ingress_denied_by
            .iter()
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(by[..2], ["default-deny", "allow-frontend"]);
        let words = "ingress default deny: none of 2 policies allows it; nearest is \
                     backend/allow-frontend ingress[0]: source has label app=batch, not frontend";
        assert_eq!(by[2], format!("({words})"));
        assert_eq!(flow.summary, format!("TCP Flags: SYN; {words}"));
        assert!(flow.source.expect("an end").labels.is_empty());
    }
}

#[test]
fn filters_masks_and_windows_are_those_of_hubble() {
    let Some(cluster) = cluster("") else { return };
    let lab = &cluster.lab;
    let base = FlowFilter::default;
    let is_web = |flow: &Flow| pod_of(flow) == "web";
    type Meant<'a> = &'a dyn Fn(&Flow) -> bool;
    let rows: [(FlowFilter, Meant<'_>); 8] = [
        (from("frontend/"), &|flow| {
            ["web", "stranger"].contains(&pod_of(flow))
        }),
        (from("/we"), &is_web),
        (
            FlowFilter {
                source_label: vec!["k8s:app in (batch), !nothing".into()],
                ..base()
            },
            &|flow| pod_of(flow) == "stranger",
        ),
        (
            FlowFilter {
                source_ip: vec!["10.0.1.11/32".into()],
                ..base()
            },
            &is_web,
        ),
        (
            FlowFilter {
                event_type: event_type(1),
                protocol: vec!["TCP".into()],
                ..base()
            },
            &|flow| pod_of(flow) == "stranger" && flow.drop_reason == 133,
        ),
        (
            FlowFilter {
                destination_port: vec!["80".into()],
                traffic_direction: vec![TrafficDirection::Egress as i32],
                ..base()
            },
            &|flow| flow.traffic_direction() == TrafficDirection::Egress,
        ),
        (
            FlowFilter {
                verdict: vec![Verdict::Forwarded as i32],
                destination_pod: vec!["backend/api".into()],
                event_type: event_type(4),
                protocol: vec!["tcp".into()],
                ..base()
            },
            &is_web,
        ),
        (
            FlowFilter {
                reply: vec![false],
                verdict: vec![Verdict::Dropped as i32],
                protocol: vec!["tcp".into()],
                ..base()
            },
            &|flow| pod_of(flow) == "stranger" && flow.is_reply.is_none(),
        ),
    ];
    for (filter, is_meant) in rows {
        let found = flows(lab, wanted(filter.clone()));
        assert!(!found.is_empty(), "{filter:?}");
        let other = found.iter().find(|flow| !is_meant(flow));
        assert_eq!(other, None, "{filter:?}");
    }
    let all = flows(lab, wanted(from("frontend/")));
    let last = GetFlowsRequest {
        number: 2,
        ..wanted(from("frontend/"))
    };
    assert_eq!(flows(lab, last), all[all.len() - 2..]);
    let since = GetFlowsRequest {
        since: all[all.len() - 1].time,
        ..wanted(from("frontend/"))
    };
    assert_eq!(flows(lab, since).last(), all.last());
    let by_name = wanted(FlowFilter {
        uuid: vec![all[0].uuid.clone()],
        ..base()
    });
    assert_eq!(flows(lab, by_name), all[..1]);
    let masked = GetFlowsRequest {
        field_mask: Some(prost_types::FieldMask {
            paths: vec!["uuid".into(), "source.pod_name".into()],
        }),
        ..wanted(from("frontend/web"))
    };
    for flow in flows(lab, masked) {
        assert!(
            flow.source
                .as_ref()
                .is_some_and(|end| end.pod_name == "web" && end.identity == 0)
        );
        assert!(!flow.uuid.is_empty() && flow.time.is_none() && flow.ip.is_none());
    }
    let wrong = GetFlowsRequest {
        first: true,
        follow: true,
        ..GetFlowsRequest::default()
    };
    let status = within(lab, || answers(wrong)).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

/// This node and its labels.
const NODE: &str = "\
apiVersion: v1
kind: Node
metadata: {name: here, labels: {zone: a, disk: fast}}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
";

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

#[test]
fn a_flow_knows_its_frame_its_interface_its_node_and_the_code_of_icmp() {
    let Some(cluster) = cluster("") else { return };
    let (lab, stranger) = (&cluster.lab, &cluster.stranger);
    lab.apply("node.yaml", NODE);
    // An echo request with a code that only we send; its checksum is right.
    let echo = [8, 7, 0xf7, 0xf7, 0, 1, 0, 0];
    let packet = ipv4([10, 0, 1, 12].into(), [10, 0, 1, 10].into(), 1, &echo);
    stranger.send_raw(&[ethernet(stranger.mac, [0xee; 6], ETHERTYPE_IPV4, &packet)]);
    let index = lab
        .node
        .read(&format!("/sys/class/net/{}/ifindex", stranger.interface));
    let index: u32 = index.trim().parse().expect("a number");
    let base = FlowFilter {
        source_pod: vec!["frontend/stranger".into()],
        protocol: vec!["icmpv4".into()],
        event_type: event_type(1),
        interface: vec![NetworkInterface {
            index,
            name: stranger.interface.clone(),
        }],
        ..FlowFilter::default()
    };
    let mut found = Vec::new();
    for labels in ["zone=a", "zone in (a),disk"] {
        let filter = FlowFilter {
            node_labels: vec![labels.into()],
            ..base.clone()
        };
        eventually("the echo request has been recorded", || {
            found = flows(lab, wanted(filter.clone()));
            !found.is_empty()
        });
    }
    let flow = &found[0];
    let message = match &flow.l4.as_ref().expect("a protocol").protocol {
        Some(Protocol::IcmPv4(message)) => (message.r#type, message.code),
        other => panic!("{other:?}"),
    };
    assert_eq!(message, (8, 7));
    assert!(
        flow.summary.starts_with("ICMPv4 EchoRequest(Code: 7); "),
        "{flow:?}"
    );
    assert_eq!(flow.node_labels, ["disk=fast", "zone=a"]);
    assert_eq!(
        flow.ethernet,
        Some(Ethernet {
            source: mac_text(stranger.mac),
            destination: "ee:ee:ee:ee:ee:ee".into(),
        })
    );
    // A packet that passed was seen on its way into the other pod.
    let passed = FlowFilter {
        event_type: event_type(4),
        ..from("frontend/web")
    };
    let passed = flows(lab, wanted(passed));
    let interface = passed[0].interface.as_ref().expect("an interface");
    assert_eq!(interface.name, cluster.api.interface);
    let frame = passed[0].ethernet.as_ref().expect("a frame");
    assert_eq!(
        (frame.source.as_str(), frame.destination.as_str()),
        ("ee:ee:ee:ee:ee:ee", mac_text(cluster.api.mac).as_str())
    );
    let elsewhere = FlowFilter {
        node_labels: vec!["zone=b".into()],
        ..base
    };
    assert_eq!(flows(lab, wanted(elsewhere)), []);
}

#[test]
fn a_follower_sees_what_happens() {
    let Some(cluster) = cluster("") else { return };
    let (lab, stranger) = (&cluster.lab, &cluster.stranger);
    thread::scope(|scope| {
        let follower = scope.spawn(|| {
            within(lab, || async {
                let request = GetFlowsRequest {
                    follow: true,
                    ..wanted(FlowFilter {
                        destination_port: vec!["81".into()],
                        event_type: event_type(1),
                        ..from("frontend/stranger")
                    })
                };
                let stream = observer().await.get_flows(request).await;
                let answer = stream.unwrap().into_inner().message().await.unwrap();
                flow(answer.unwrap()).unwrap()
            })
        });
        // It sees what comes after it: so ask until one of the requests did.
        while !follower.is_finished() {
            assert!(stranger.gets_nothing("http://10.0.1.10:81/"));
        }
        let seen = follower.join().expect("it saw something");
        assert_eq!((pod_of(&seen), seen.drop_reason), ("stranger", 133));
    });
}

#[test]
fn the_daemon_tells_of_itself_its_node_and_what_it_did() {
    let Some(cluster) = cluster("") else { return };
    let lab = &cluster.lab;
    let late = lab.pod("late/comer", &["app=late"], &["10.0.1.13"]);
    lab.remove_pod(late);
    let (status, nodes, namespaces) = within(lab, || async {
        let mut client = observer().await;
        (
            client
                .server_status(ServerStatusRequest {})
                .await
                .unwrap()
                .into_inner(),
            client
                .get_nodes(GetNodesRequest {})
                .await
                .unwrap()
                .into_inner(),
            client
                .get_namespaces(GetNamespacesRequest {})
                .await
                .unwrap()
                .into_inner(),
        )
    });
    assert!(status.num_flows > 0 && status.num_flows <= status.max_flows);
    assert!(
        status.seen_flows >= status.num_flows && status.uptime_ns > 0,
        "{status:?}"
    );
    assert!(status.flows_rate > 0.0, "{status:?}");
    assert_eq!(nodes.nodes[0].address, format!("unix://{SOCKET}"));
    let seen: Vec<&str> = namespaces
        .namespaces
        .iter()
        .map(|one| one.namespace.as_str())
        .collect();
    assert!(seen.starts_with(&["backend", "frontend"]), "{seen:?}");
    let events = within(lab, || async {
        let request = GetAgentEventsRequest::default();
        let stream = observer().await.get_agent_events(request).await;
        let (mut stream, mut events) = (stream.unwrap().into_inner(), Vec::new());
        while let Some(answer) = stream.message().await.unwrap() {
            events.push(answer.agent_event.unwrap());
        }
        events
    });
    let has = |kind: AgentEventType, is_meant: &dyn Fn(&Notification) -> bool| {
        events.iter().any(|event| {
            event.r#type() == kind && event.notification.as_ref().is_some_and(is_meant)
        })
    };
    let is_late = |notification: &Notification| match notification {
        Notification::EndpointUpdate(update) => update.pod_name == "comer",
        Notification::IpcacheUpdate(update) => {
            update.pod_name == "comer" && update.cidr == "10.0.1.13/32"
        }
        _ => false,
    };
    let is_policy = |notification: &Notification| match notification {
        Notification::PolicyUpdate(update) => update
            .labels
            .iter()
            .any(|label| label == "k8s:io.cilium.k8s.policy.name=allow-frontend"),
        _ => false,
    };
    assert_eq!(events[0].r#type(), AgentEventType::AgentStarted);
    assert!(has(AgentEventType::PolicyUpdated, &is_policy), "{events:?}");
    for kind in [
        AgentEventType::EndpointCreated,
        AgentEventType::EndpointDeleted,
        AgentEventType::IpcacheUpserted,
        AgentEventType::IpcacheDeleted,
    ] {
        assert!(has(kind, &is_late), "{kind:?}: {events:?}");
    }
}

#[test]
fn tools_find_health_services_and_peers() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let Some(lab) = Lab::new("") else { return };
    lab.start_daemon();
    let (health, services, peer) = within(&lab, || async {
        let channel = channel().await;
        let request = HealthCheckRequest {
            service: "hubble.server.Observer".into(),
        };
        let health = HealthClient::new(channel.clone()).check(request).await;
        let questions = [
            MessageRequest::ListServices(String::new()),
            // A flow that is denied has one in its extensions, and grpcurl looks it up.
            MessageRequest::FileContainingSymbol("google.protobuf.Struct".into()),
        ];
        let questions = questions.map(|question| ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        });
        let mut stream = ServerReflectionClient::new(channel.clone())
            .server_reflection_info(tokio_stream::iter(questions))
            .await
            .unwrap()
            .into_inner();
        let answer = stream.message().await.unwrap().unwrap();
        let file = stream.message().await.unwrap().unwrap().message_response;
        assert!(
            matches!(file, Some(MessageResponse::FileDescriptorResponse(_))),
            "{file:?}"
        );
        let mut peers = PeerClient::new(channel)
            .notify(NotifyRequest {})
            .await
            .unwrap()
            .into_inner();
        (
            health.unwrap().into_inner().status,
            answer.message_response,
            peers.message().await.unwrap().unwrap(),
        )
    });
    assert_eq!(health, 1, "serving");
    let Some(MessageResponse::ListServicesResponse(list)) = services else {
        panic!("{services:?}");
    };
    let names: Vec<&str> = list.service.iter().map(|one| one.name.as_str()).collect();
    for name in ["observer.Observer", "peer.Peer", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(peer.r#type(), ChangeNotificationType::PeerAdded);
}

/// Makes an authority, and certificates of it for a server and a client, in /run.
fn make_certificates(lab: &Lab) {
    let node = &lab.node;
    node.write("/run/v3", "subjectAltName=DNS:hubble.test\n");
    let new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    node.must(&format!(
        "{new} -x509 -days 2 -subj /CN=authority -keyout /run/ca.key -out /run/ca.pem"
    ));
    // Of an authority of its own.
    node.must(&format!(
        "{new} -x509 -days 2 -subj /CN=other -keyout /run/other.key -out /run/other.pem"
    ));
    for name in ["server", "client"] {
        node.must(&format!(
            "{new} -subj /CN={name} -keyout /run/{name}.key -out /run/{name}.csr"
        ));
        node.must(&format!(
            "openssl x509 -req -days 2 -in /run/{name}.csr -CA /run/ca.pem -CAkey /run/ca.key \
             -CAcreateserial -extfile /run/v3 -out /run/{name}.pem"
        ));
    }
}

#[test]
fn over_tcp_a_client_without_a_certificate_is_refused() {
    let settings = "observeHistory: 2048\nhubble: {listen: '192.0.2.1:4244', tls: {certificate: /run/server.pem, key: \
                    /run/server.key, clientCa: /run/ca.pem}}\n";
    let Some(lab) = Lab::new(settings) else {
        return;
    };
    make_certificates(&lab);
    lab.start_daemon();
    const ADDRESS: &str = "192.0.2.1:4244";
    async fn status(channel: Result<tonic::transport::Channel, String>) -> Result<u64, String> {
        let mut client = ObserverClient::new(channel?);
        let status = client.server_status(ServerStatusRequest {}).await;
        Ok(status.map_err(|e| e.to_string())?.into_inner().max_flows)
    }
    let (with, without, of_another, address) = within(&lab, || async {
        let own = Some(("/run/client.pem", "/run/client.key"));
        let with = status(channel_tls(ADDRESS, "/run/ca.pem", own).await).await;
        let without = status(channel_tls(ADDRESS, "/run/ca.pem", None).await).await;
        let other = Some(("/run/other.pem", "/run/other.key"));
        let of_another = status(channel_tls(ADDRESS, "/run/ca.pem", other).await).await;
        let nodes = observer().await.get_nodes(GetNodesRequest {}).await;
        (
            with,
            without,
            of_another,
            nodes.unwrap().into_inner().nodes[0].address.clone(),
        )
    });
    assert_eq!(with, Ok(2048));
    assert!(without.is_err(), "{without:?}");
    assert!(of_another.is_err(), "{of_another:?}");
    assert_eq!(address, ADDRESS);
}
