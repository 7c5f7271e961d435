//! `portcullis endpoint add|del|list`: makes a pod by hand, that is a veth pair into a network
//! namespace with addresses, routes and the Pod manifest that the daemon reads.
//!
//! The manifest is the last thing `add` writes and the first thing `del` takes away, so the daemon
//! never learns of an interface that is half made. The host end is left down: the daemon brings it
//! up once its own program holds it, so a pod without a daemon is a pod without a network.

mod command;
mod error;
mod manifest;
mod name;
mod plumbing;
mod request;

pub use error::EndpointError;
pub use manifest::Manifest;
pub use name::{InterfaceName, interface_name};
pub use request::{AddRequest, DelRequest, Label, NamedPort};

use plumbing::Plumbing;
use std::path::Path;

/// The IPv4 gateway that every pod sees; the daemon answers for it.
pub const GATEWAY_V4: &str = "169.254.1.1";
/// The IPv6 gateway that every pod sees; the daemon answers for it.
pub const GATEWAY_V6: &str = "fe80::1";
/// The MAC address of the gateway, and of the host end of every pod.
pub const GATEWAY_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// MTU of both ends of a pair, in bytes of IP: large, so that 64 KB TCP segments arrive whole. What
/// the pod may send to others is the route's MTU.
pub const DEVICE_MTU: u32 = 65_535;

/// Makes the pod's namespace if there is none, its veth pair, addresses and routes, and then its
/// manifest in the state directory. Whatever it made is taken back when a later step fails.
///
/// # Errors
/// An argument that is wrong, a name or address that is taken, or the command that failed with its
/// own words.
pub fn add(request: &AddRequest) -> Result<Manifest, EndpointError> {
    request.check()?;
    let existing = manifest::read_all(&request.state)?;
    refuse_taken(request, &existing)?;

    let mut plumbing = Plumbing::new(request)?;
    let mac = plumbing.build()?;
    let manifest = Manifest {
        namespace: request.namespace.clone(),
        name: request.name.clone(),
        labels: request.labels.clone(),
        service_account: request.service_account.clone(),
        ports: request.ports.clone(),
        addresses: request.addresses.clone(),
        interface: Some(plumbing.interface().to_string()),
        mac: Some(mac),
        netns: Some(plumbing.netns().to_owned()),
        is_netns_created: plumbing.has_created_netns(),
    };
    manifest.write(&request.state)?;
    plumbing.keep();
    Ok(manifest)
}

/// Takes a pod away: the manifest, then the veth pair, then the namespace if `add` had made it.
/// What is already gone is no error.
///
/// # Errors
/// A wrong name, a manifest that cannot be read or removed, or the command that failed.
pub fn del(request: &DelRequest) -> Result<(), EndpointError> {
    name::check_pod("NAME", &request.name)?;
    name::check_namespace("--namespace", &request.namespace)?;
    let retired = manifest::retire(&request.state, &request.namespace, &request.name)?;
    let interface = retired
        .as_ref()
        .and_then(|manifest| manifest.interface.clone())
        .unwrap_or_else(|| interface_name(&request.namespace, &request.name).to_string());
    plumbing::remove_link(&interface)?;
    if let Some(manifest) = retired.filter(|manifest| manifest.is_netns_created)
        && let Some(netns) = &manifest.netns
    {
        plumbing::remove_netns(netns)?;
    }
    manifest::forget(&request.state, &request.namespace, &request.name)
}

/// The pods of a state directory that have an interface, by namespace and name.
///
/// # Errors
/// A directory or file that cannot be read.
pub fn list(state: &Path) -> Result<Vec<Manifest>, EndpointError> {
    let mut pods: Vec<Manifest> = manifest::read_all(state)?
        .into_iter()
        .map(|(_, pod)| pod)
        .filter(|pod| pod.interface.is_some())
        .collect();
    pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(pods)
}

fn refuse_taken(
    request: &AddRequest,
    existing: &[(std::path::PathBuf, Manifest)],
) -> Result<(), EndpointError> {
    // `a/b-c` and `a-b/c` would have the same file.
    let own = manifest::path_of(&request.state, &request.namespace, &request.name);
    for (file, pod) in existing {
        if *file == own && (&pod.namespace, &pod.name) != (&request.namespace, &request.name) {
            return Err(EndpointError::taken(
                format!("the file of pod {}/{}", request.namespace, request.name),
                file,
                &format!("it belongs to pod {}/{}", pod.namespace, pod.name),
            ));
        }
        if (&pod.namespace, &pod.name) == (&request.namespace, &request.name) {
            return Err(EndpointError::taken(
                format!("pod {}/{}", request.namespace, request.name),
                file,
                "remove it first with `portcullis endpoint del`",
            ));
        }
        if let Some(address) = request
            .addresses
            .iter()
            .find(|ip| pod.addresses.contains(ip))
        {
            return Err(EndpointError::taken(
                format!("address {address}"),
                file,
                &format!("it belongs to pod {}/{}", pod.namespace, pod.name),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn state(test: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("portcullis-{}-{test}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("the temporary directory can be written");
        dir
    }

    fn request(state: &Path, name: &str, ip: &str) -> AddRequest {
        AddRequest {
            namespace: "backend".into(),
            addresses: vec![ip.parse().expect("an address")],
            ..AddRequest::new(name, state)
        }
    }

    fn pod(name: &str, ip: &str) -> Manifest {
        Manifest {
            namespace: "backend".into(),
            name: name.into(),
            labels: Vec::new(),
            service_account: "default".into(),
            ports: Vec::new(),
            addresses: vec![ip.parse().expect("an address")],
            interface: Some("pcabc".into()),
            mac: Some("02:00:00:00:00:01".into()),
            netns: Some("backend-api".into()),
            is_netns_created: false,
        }
    }

    #[test]
    fn an_address_of_another_pod_is_refused_before_anything_is_made() {
        let dir = state("taken-address");
        pod("api", "10.0.1.10").write(&dir).expect("written");
        let error = add(&request(&dir, "web", "10.0.1.10")).expect_err("the address is taken");
        assert_eq!(
            error.to_string(),
            format!(
                "address 10.0.1.10 is taken ({}): it belongs to pod backend/api",
                dir.join("pod-backend-api.yaml").display()
            )
        );
        std::fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn a_pod_that_exists_is_refused() {
        let dir = state("taken-name");
        pod("api", "10.0.1.10").write(&dir).expect("written");
        let error = add(&request(&dir, "api", "10.0.1.11")).expect_err("the name is taken");
        assert_eq!(
            error.to_string(),
            format!(
                "pod backend/api is taken ({}): remove it first with `portcullis endpoint del`",
                dir.join("pod-backend-api.yaml").display()
            )
        );
        std::fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn two_pods_never_share_a_file() {
        let dir = state("shared-file");
        let first = Manifest {
            namespace: "backend".into(),
            ..pod("a-b", "10.0.1.10")
        };
        first.write(&dir).expect("written");
        let second = AddRequest {
            namespace: "backend-a".into(),
            ..request(&dir, "b", "10.0.1.11")
        };
        let error = add(&second).expect_err("the file is taken");
        assert_eq!(
            error.to_string(),
            format!(
                "the file of pod backend-a/b is taken ({}): it belongs to pod backend/a-b",
                dir.join("pod-backend-a-b.yaml").display()
            )
        );
        assert_eq!(
            manifest::retire(&dir, "backend-a", "b").expect("not its own"),
            None
        );
        assert_eq!(list(&dir).expect("untouched").len(), 1);
        std::fs::remove_dir_all(dir).expect("removed");
    }

    #[test]
    fn list_shows_pods_with_an_interface_in_order() {
        let dir = state("list");
        let (web, api) = (pod("web", "10.0.1.11"), pod("api", "10.0.1.10"));
        let foreign = Manifest {
            interface: None,
            ..pod("other", "10.0.1.12")
        };
        for pod in [&web, &api, &foreign] {
            pod.write(&dir).expect("written");
        }
        assert_eq!(list(&dir).expect("listed"), [api, web]);
        std::fs::remove_dir_all(dir).expect("removed");
    }
}
