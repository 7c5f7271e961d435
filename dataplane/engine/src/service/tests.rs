use super::*;
use crate::BackendState;
use proptest::prelude::*;
use std::net::Ipv6Addr;

fn frontend(last: u8, port: u16) -> Frontend {
    Frontend {
        address: IpAddr::from([10, 96, 0, last]),
        protocol: Protocol::Tcp,
        port,
    }
}

fn backend(last: u8, is_local: bool) -> Backend {
    Backend {
        address: IpAddr::from([10, 0, 1, last]),
        port: 8080,
        state: BackendState::Active,
        is_local,
    }
}

fn spec(name: &str, frontends: &[(Frontend, FrontendKind)], backends: &[Backend]) -> ServiceSpec {
    ServiceSpec {
        namespace: "default".into(),
        name: name.into(),
        frontends: frontends.to_vec(),
        backends: backends.to_vec(),
        ..ServiceSpec::default()
    }
}

use FrontendKind::{ClusterIp, External, NodePort};

#[test]
fn a_service_is_found_at_its_frontends_and_nowhere_else() {
    let specs = [spec(
        "web",
        &[
            (frontend(1, 80), ClusterIp),
            (frontend(9, 30_080), NodePort),
        ],
        &[backend(1, false)],
    )];
    let (table, conflicts) = ServiceTable::new(&specs, None);
    assert_eq!(conflicts, []);
    let found = |frontend| {
        table
            .find(frontend)
            .map(|(_, service, kind)| (&*service.name, kind))
    };
    assert_eq!(found(frontend(1, 80)), Some(("web", ClusterIp)));
    assert_eq!(found(frontend(9, 30_080)), Some(("web", NodePort)));
    assert_eq!(found(frontend(1, 81)), None);
    let udp = Frontend {
        protocol: Protocol::Udp,
        ..frontend(1, 80)
    };
    assert_eq!(found(udp), None);
    let addresses = [1, 9, 2].map(|last| {
        let address = frontend(last, 0).address;
        (table.has_address(address), table.is_virtual(address))
    });
    // The node's own address has other ports; the service's has none.
    assert_eq!(addresses, [(true, true), (true, false), (false, false)]);
}

#[test]
fn of_two_services_the_first_by_name_has_the_frontend() {
    let specs = [
        spec("b", &[(frontend(1, 80), ClusterIp)], &[]),
        spec(
            "a",
            &[(frontend(1, 80), External), (frontend(1, 80), External)],
            &[],
        ),
    ];
    let (table, conflicts) = ServiceTable::new(&specs, None);
    let (_, service, kind) = table.find(frontend(1, 80)).unwrap();
    assert_eq!((&*service.name, kind), ("a", External));
    assert_eq!(
        conflicts,
        [FrontendConflict {
            frontend: frontend(1, 80),
            holder: ("default".into(), "a".into()),
            refused: ("default".into(), "b".into()),
        }]
    );
    let frontends: Vec<_> = table
        .iter()
        .map(|service| service.frontends.len())
        .collect();
    assert_eq!(frontends, [1, 0]);
}

#[test]
fn local_traffic_goes_to_pods_of_this_node_only() {
    let backends = [backend(1, true), backend(2, false)];
    let mut web = spec("web", &[(frontend(1, 80), ClusterIp)], &backends);
    let all = |web: &ServiceSpec| {
        let (table, _) = ServiceTable::new(std::slice::from_ref(web), None);
        let service = table.iter().next().unwrap();
        [ClusterIp, External, NodePort].map(|kind| service.backends(kind).all().len())
    };
    assert_eq!(all(&web), [2, 2, 2]);
    web.is_external_local = true;
    assert_eq!(all(&web), [2, 1, 1]);
    web.is_internal_local = true;
    assert_eq!(all(&web), [1, 1, 1]);
    web.backends.remove(0);
    assert_eq!(all(&web), [0, 0, 0]);
}

#[test]
fn what_did_not_change_is_not_built_again() {
    let mut specs: Vec<ServiceSpec> = (0..100)
        .map(|number| {
            let mut spec = spec(
                &format!("s{number}"),
                &[(frontend(number, 80), ClusterIp)],
                &[backend(1, true), backend(2, false), backend(3, false)],
            );
            spec.is_internal_local = true;
            spec
        })
        .collect();
    let (old, _) = ServiceTable::new(&specs, None);
    let (same, _) = ServiceTable::new(&specs, Some(&old));
    assert_eq!(same, old);
    specs.reverse();
    specs[7].backends.push(backend(4, false));
    specs.push(spec("new", &[(frontend(200, 80), ClusterIp)], &[]));
    let (new, _) = ServiceTable::new(&specs, Some(&old));
    assert_ne!(new, old);
    let rebuilt: Vec<&str> = new
        .iter()
        .filter(|service| {
            !old.service_of(service.id)
                .is_some_and(|old| Arc::ptr_eq(&old.all, &service.all))
        })
        .map(|service| &*service.name)
        .collect();
    assert_eq!(rebuilt, ["new", "s92"]);
    let is_kept = |service: &ServicePort| {
        let old = old.service_of(service.id).unwrap();
        Arc::ptr_eq(old.local.as_ref().unwrap(), service.local.as_ref().unwrap())
    };
    assert!(
        new.iter()
            .filter(|service| service.name != "new")
            .all(is_kept)
    );
}

#[test]
fn the_families_of_a_service_are_apart() {
    let v6 = Frontend {
        address: Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).into(),
        ..frontend(1, 80)
    };
    let specs = [
        spec("web", &[(v6, ClusterIp)], &[]),
        spec("web", &[(frontend(1, 80), ClusterIp)], &[backend(1, false)]),
    ];
    let (table, _) = ServiceTable::new(&specs, None);
    let counts = [v6, frontend(1, 80)].map(|frontend| {
        let (_, service, kind) = table.find(frontend).unwrap();
        service.backends(kind).all().len()
    });
    assert_eq!(counts, [0, 1]);
    assert_ne!(table.services[0].id, table.services[1].id);
}

fn any_frontend() -> impl Strategy<Value = (Frontend, FrontendKind)> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let kind = prop_oneof![Just(ClusterIp), Just(External), Just(NodePort)];
    (0_u8..6, 80_u16..84, protocol, kind).prop_map(|(last, port, protocol, kind)| {
        let frontend = Frontend {
            protocol,
            ..frontend(last, port)
        };
        (frontend, kind)
    })
}

proptest! {
    #[test]
    fn the_table_agrees_with_the_plain_reading(
        services in prop::collection::vec(
            ("[a-c]", "[a-d]", prop::collection::vec(any_frontend(), 0..5)),
            0..8,
        ),
    ) {
        let mut specs: Vec<ServiceSpec> = services
            .iter()
            .map(|(namespace, name, frontends)| ServiceSpec {
                namespace: namespace.clone(),
                ..spec(name, frontends, &[])
            })
            .collect();
        specs.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        specs.dedup_by(|a, b| a.namespace == b.namespace && a.name == b.name);
        let (table, conflicts) = ServiceTable::new(&specs, None);
        // The plain reading: whoever comes first in order of names.
        let plain = |wanted: Frontend| {
            specs.iter().find_map(|spec| {
                let of = spec.frontends.iter().find(|(frontend, _)| *frontend == wanted)?;
                Some((&spec.namespace, &spec.name, of.1))
            })
        };
        for last in 0..7 {
            let mut kinds = Vec::new();
            for port in 80..85 {
                for protocol in [Protocol::Tcp, Protocol::Udp] {
                    let wanted = Frontend { protocol, ..frontend(last, port) };
                    let found = table.find(wanted);
                    let found =
                        found.map(|(_, service, kind)| (&service.namespace, &service.name, kind));
                    prop_assert_eq!(found, plain(wanted));
                    kinds.extend(found.map(|found| found.2));
                }
            }
            let address = frontend(last, 0).address;
            prop_assert_eq!(table.has_address(address), !kinds.is_empty());
            let is_virtual = !kinds.is_empty() && !kinds.contains(&NodePort);
            prop_assert_eq!(table.is_virtual(address), is_virtual);
        }
        for conflict in conflicts {
            prop_assert!(conflict.holder < conflict.refused);
        }
    }
}
