//! The Pod manifest that `endpoint add` writes, and as much of others as is needed to see what is
//! taken.
//!
//! What is written is ordinary YAML that the daemon reads with the policy parser. What is read here
//! is read line by line, in block style: enough for our own files, edited by hand or not. The
//! daemon, not this module, has the last word on duplicate addresses.

use super::{EndpointError, Label, NamedPort};
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

const INTERFACE: &str = "portcullis.io/interface";
const MAC: &str = "portcullis.io/mac";
const NETNS: &str = "portcullis.io/netns";
const NETNS_CREATED: &str = "portcullis.io/netns-created";

/// A pod as its manifest tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Labels; not read back.
    pub labels: Vec<Label>,
    /// Service account; not read back.
    pub service_account: String,
    /// Named ports; not read back.
    pub ports: Vec<NamedPort>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Host end of the veth pair; None for a pod that is not on this node.
    pub interface: Option<String>,
    /// MAC address of the pod's end.
    pub mac: Option<String>,
    /// Network namespace, by name or path.
    pub netns: Option<String>,
    /// Whether `endpoint add` made the network namespace, so that `del` removes it.
    pub is_netns_created: bool,
}

impl Manifest {
    /// Writes the manifest under a temporary name and renames it, so that the daemon never reads
    /// half of it.
    pub(super) fn write(&self, state: &Path) -> Result<(), EndpointError> {
        let path = path_of(state, &self.namespace, &self.name);
        let temporary = hidden_path(state, &self.namespace, &self.name, "new");
        fs::write(&temporary, self.to_yaml())
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| {
                // Best effort: the write has failed already, and that is what is reported.
                let _ = fs::remove_file(&temporary);
                EndpointError::file("write the manifest", &path, source)
            })
    }

    fn to_yaml(&self) -> String {
        let mut yaml =
            String::from("# Written by `portcullis endpoint add`; `endpoint del` removes it.\n");
        yaml.push_str("apiVersion: v1\nkind: Pod\nmetadata:\n");
        push(&mut yaml, 2, "name", &self.name);
        push(&mut yaml, 2, "namespace", &self.namespace);
        if !self.labels.is_empty() {
            yaml.push_str("  labels:\n");
            for label in &self.labels {
                push(&mut yaml, 4, &label.key, &label.value);
            }
        }
        yaml.push_str("  annotations:\n");
        let created = self.is_netns_created.then(|| "true".to_owned());
        let annotations = [
            (INTERFACE, &self.interface),
            (MAC, &self.mac),
            (NETNS, &self.netns),
            (NETNS_CREATED, &created),
        ];
        for (key, value) in annotations {
            if let Some(value) = value {
                push(&mut yaml, 4, key, value);
            }
        }
        yaml.push_str("spec:\n");
        push(&mut yaml, 2, "serviceAccountName", &self.service_account);
        yaml.push_str("  containers:\n  - name: main\n");
        if !self.ports.is_empty() {
            yaml.push_str("    ports:\n");
            for NamedPort {
                name,
                port,
                protocol,
            } in &self.ports
            {
                let _ = write!(
                    yaml,
                    "    - name: {name}\n      containerPort: {port}\n      protocol: {protocol}\n"
                );
            }
        }
        yaml.push_str("status:\n  podIPs:\n");
        for address in &self.addresses {
            let _ = writeln!(yaml, "  - ip: \"{address}\"");
        }
        yaml
    }

    /// Reads what a Pod document says of its name, addresses and interface; None when the text is
    /// no Pod.
    fn from_yaml(yaml: &str) -> Option<Self> {
        if value_of(yaml, 0, "kind")? != "Pod" {
            return None;
        }
        let annotation = |key: &str| value_of(yaml, 4, key).filter(|value| !value.is_empty());
        let mut addresses: Vec<IpAddr> = Vec::new();
        for line in yaml.lines().map(str::trim_start) {
            let text = line
                .strip_prefix("- ip:")
                .or_else(|| line.strip_prefix("podIP:"));
            if let Some(address) = text.and_then(|text| plain(text).parse().ok())
                && !addresses.contains(&address)
            {
                addresses.push(address);
            }
        }
        Some(Self {
            namespace: value_of(yaml, 2, "namespace").unwrap_or_else(|| "default".into()),
            name: value_of(yaml, 2, "name")?,
            labels: Vec::new(),
            service_account: "default".into(),
            ports: Vec::new(),
            addresses,
            interface: annotation(INTERFACE),
            mac: annotation(MAC),
            netns: annotation(NETNS),
            is_netns_created: annotation(NETNS_CREATED).as_deref() == Some("true"),
        })
    }
}

/// Every Pod of the state directory with its file, in order of the file names.
pub(super) fn read_all(state: &Path) -> Result<Vec<(PathBuf, Manifest)>, EndpointError> {
    let failed = |source| EndpointError::file("read the state directory", state, source);
    let mut files = fs::read_dir(state)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .map_err(failed)?;
    files.retain(|path| {
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        !is_hidden
            && path
                .extension()
                .is_some_and(|end| end == "yaml" || end == "yml")
    });
    files.sort();
    let mut pods = Vec::new();
    for path in files {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            // Taken away since the directory was read, by another `endpoint del`.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(EndpointError::file("read the manifest", &path, error)),
        };
        for document in text.split("\n---") {
            pods.extend(Manifest::from_yaml(document).map(|pod| (path.clone(), pod)));
        }
    }
    Ok(pods)
}

/// Hides a pod's manifest from the daemon, and gives what it said. The hidden file stays until
/// `forget`, so that a `del` that was interrupted can be run again.
pub(super) fn retire(
    state: &Path,
    namespace: &str,
    name: &str,
) -> Result<Option<Manifest>, EndpointError> {
    let path = path_of(state, namespace, name);
    let hidden = hidden_path(state, namespace, name, "old");
    let is_own = |pod: &Manifest| (pod.namespace.as_str(), pod.name.as_str()) == (namespace, name);
    let Some(pod) = read_own(&path)?.filter(is_own) else {
        return Ok(read_own(&hidden)?.filter(is_own));
    };
    fs::rename(&path, &hidden)
        .map_err(|error| EndpointError::file("remove the manifest", &path, error))?;
    Ok(Some(pod))
}

fn read_own(path: &Path) -> Result<Option<Manifest>, EndpointError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Manifest::from_yaml(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EndpointError::file("read the manifest", path, error)),
    }
}

/// Removes what `retire` left.
pub(super) fn forget(state: &Path, namespace: &str, name: &str) -> Result<(), EndpointError> {
    let hidden = hidden_path(state, namespace, name, "old");
    match fs::remove_file(&hidden) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(EndpointError::file("remove the manifest", &hidden, error))
        }
        _ => Ok(()),
    }
}

/// Where a pod's manifest lies.
pub(super) fn path_of(state: &Path, namespace: &str, name: &str) -> PathBuf {
    state.join(format!("pod-{namespace}-{name}.yaml"))
}

fn hidden_path(state: &Path, namespace: &str, name: &str, end: &str) -> PathBuf {
    state.join(format!(".pod-{namespace}-{name}.{end}"))
}

/// One `key: "value"` line. A JSON string is a YAML string, whatever is in it.
fn push(yaml: &mut String, indent: usize, key: &str, value: &str) {
    let value = serde_json::Value::from(value);
    let _ = writeln!(yaml, "{:indent$}{key}: {value}", "");
}

/// The value of the first line `key: value` with this indent.
fn value_of(yaml: &str, indent: usize, key: &str) -> Option<String> {
    yaml.lines().find_map(|line| {
        let rest = line.strip_prefix(&" ".repeat(indent))?;
        let rest = rest
            .strip_prefix(key)
            .or_else(|| rest.strip_prefix('"')?.strip_prefix(key)?.strip_prefix('"'))?;
        Some(plain(rest.strip_prefix(':')?))
    })
}

/// A scalar without its quotes and comment.
fn plain(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('"') {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
        return values.next().and_then(Result::ok).unwrap_or_default();
    }
    if let Some(quoted) = text.strip_prefix('\'') {
        return quoted.split('\'').next().unwrap_or_default().to_owned();
    }
    text.split(" #")
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            namespace: "backend".into(),
            name: "api".into(),
            labels: vec![
                "app=backend".parse().expect("a label"),
                "on=true".parse().expect("a label"),
            ],
            service_account: "runner".into(),
            ports: vec!["http=80/TCP".parse().expect("a port")],
            addresses: vec![
                "10.0.1.10".parse().expect("v4"),
                "fd00:10:1::10".parse().expect("v6"),
            ],
            interface: Some("pc0123456789ab".into()),
            mac: Some("7e:a3:72:38:79:b4".into()),
            netns: Some("backend-api".into()),
            is_netns_created: true,
        }
    }

    #[test]
    fn a_manifest_is_a_kubernetes_pod() {
        assert_eq!(
            manifest().to_yaml(),
            "# Written by `portcullis endpoint add`; `endpoint del` removes it.
apiVersion: v1
kind: Pod
metadata:
  name: \"api\"
  namespace: \"backend\"
  labels:
    app: \"backend\"
    on: \"true\"
  annotations:
    portcullis.io/interface: \"pc0123456789ab\"
    portcullis.io/mac: \"7e:a3:72:38:79:b4\"
    portcullis.io/netns: \"backend-api\"
    portcullis.io/netns-created: \"true\"
spec:
  serviceAccountName: \"runner\"
  containers:
  - name: main
    ports:
    - name: http
      containerPort: 80
      protocol: TCP
status:
  podIPs:
  - ip: \"10.0.1.10\"
  - ip: \"fd00:10:1::10\"
"
        );
    }

    #[test]
    fn what_is_written_is_read_back() {
        let read = Manifest {
            labels: Vec::new(),
            service_account: "default".into(),
            ports: Vec::new(),
            ..manifest()
        };
        assert_eq!(Manifest::from_yaml(&manifest().to_yaml()), Some(read));
    }

    #[test]
    fn a_pod_written_by_hand_gives_its_addresses() {
        let yaml = "kind: Pod # by hand\nmetadata:\n  name: 'web'\nstatus:\n  podIP: 10.0.1.9\n  \
                    podIPs:\n    - ip: 10.0.1.9 # the same\n    - ip: 'fd00::9'\n";
        let pod = Manifest::from_yaml(yaml).expect("a pod");
        let addresses: Vec<IpAddr> = vec![
            "10.0.1.9".parse().expect("v4"),
            "fd00::9".parse().expect("v6"),
        ];
        assert_eq!(
            (pod.namespace.as_str(), pod.name.as_str()),
            ("default", "web")
        );
        assert_eq!((pod.addresses, pod.interface), (addresses, None));
    }

    #[test]
    fn other_documents_are_no_pods() {
        let policy = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata:\n  name: a\n";
        for text in ["", "kind", "kind:", ":", "---\n", "kind: Pod\n", policy] {
            assert_eq!(Manifest::from_yaml(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_retired_manifest_is_hidden_and_can_be_retired_again() {
        let dir = std::env::temp_dir().join(format!("portcullis-{}-retire", std::process::id()));
        fs::create_dir_all(&dir).expect("created");
        manifest().write(&dir).expect("written");
        let first = retire(&dir, "backend", "api").expect("retired");
        assert!(first.as_ref().is_some_and(|pod| pod.is_netns_created));
        assert_eq!(read_all(&dir).expect("read"), []);
        assert_eq!(retire(&dir, "backend", "api").expect("retired"), first);
        forget(&dir, "backend", "api").expect("forgotten");
        forget(&dir, "backend", "api").expect("forgotten already");
        assert_eq!(
            retire(&dir, "backend", "api").expect("nothing is there"),
            None
        );
        fs::remove_dir(&dir).expect("nothing was left");
    }
}
