//! The flags of filters: those of Hubble's command line, and one of ours.

use clap::ArgAction::Append;
use clap::Args;
use portcullis_hubble::wire::flow::DropReason;

/// Of several flags all must hold; of several values of one flag, one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Filters")]
pub struct FilterArgs {
    /// Negates the filter that comes next: `--not --port 53`.
    #[arg(long, num_args = 0, default_missing_value = "true", action = Append)]
    pub not: Vec<bool>,
    /// From or to this pod: NAMESPACE/NAME, NAMESPACE/ for all of it, NAME or /NAME in any; names may
    /// be cut short.
    #[arg(long, value_name = "POD", value_parser = pod)]
    pub pod: Vec<String>,
    /// From this pod.
    #[arg(long, value_name = "POD", value_parser = pod)]
    pub from_pod: Vec<String>,
    /// To this pod.
    #[arg(long, value_name = "POD", value_parser = pod)]
    pub to_pod: Vec<String>,
    /// From or to pods of this namespace.
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// From pods of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub from_namespace: Vec<String>,
    /// To pods of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub to_namespace: Vec<String>,
    /// From or to a pod, whatever its namespace.
    #[arg(short = 'A', long, num_args = 0, default_missing_value = "", action = Append)]
    pub all_namespaces: Vec<String>,
    /// From a pod.
    #[arg(long, num_args = 0, default_missing_value = "", action = Append)]
    pub from_all_namespaces: Vec<String>,
    /// To a pod.
    #[arg(long, num_args = 0, default_missing_value = "", action = Append)]
    pub to_all_namespaces: Vec<String>,
    /// From or to this address or block.
    #[arg(long, value_name = "IP")]
    pub ip: Vec<String>,
    /// From this address or block.
    #[arg(long, value_name = "IP")]
    pub from_ip: Vec<String>,
    /// To this address or block.
    #[arg(long, value_name = "IP")]
    pub to_ip: Vec<String>,
    /// From this address or block, as it is once the node has exchanged it.
    #[arg(long, value_name = "IP")]
    pub snat_ip: Vec<String>,
    /// From or to who has these labels: `app=web`, `app in (web,api),!canary`, `reserved:world`.
    #[arg(short, long, value_name = "SELECTOR")]
    pub label: Vec<String>,
    /// From who has these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub from_label: Vec<String>,
    /// To who has these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub to_label: Vec<String>,
    /// This port, at either end.
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub port: Vec<String>,
    /// This source port.
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub from_port: Vec<String>,
    /// This destination port.
    #[arg(long, value_name = "PORT", value_parser = port)]
    pub to_port: Vec<String>,
    /// This protocol: tcp, udp, sctp, icmp, icmpv4, icmpv6, vrrp, igmp, dns, http.
    #[arg(long, value_name = "PROTOCOL")]
    pub protocol: Vec<String>,
    /// This verdict: FORWARDED, DROPPED, AUDIT (passed, though a policy that is only audited denies
    /// it).
    #[arg(long, value_name = "VERDICT", ignore_case = true, value_parser = ["FORWARDED", "DROPPED", "AUDIT", "REDIRECTED", "ERROR", "TRACED", "TRANSLATED"])]
    pub verdict: Vec<String>,
    /// Drops for this reason, by Hubble's name: POLICY_DENIED.
    #[arg(long, value_name = "REASON", value_parser = drop_reason_desc)]
    pub drop_reason_desc: Vec<String>,
    /// Drops for this reason, by the key that `status` shows; finer than Hubble's.
    #[arg(long, value_name = "KEY")]
    pub drop_reason: Vec<String>,
    /// This type of event: drop, policy-verdict, trace, trace:to-endpoint, trace:to-network.
    #[arg(short = 't', long = "type", value_name = "TYPE[:SUB]")]
    pub event_type: Vec<String>,
    /// These TCP flags are set: SYN, or SYN,ACK.
    #[arg(long, value_name = "FLAGS")]
    pub tcp_flags: Vec<String>,
    /// From or to this identity: a number, or a reserved name such as world.
    #[arg(long, value_name = "IDENTITY")]
    pub identity: Vec<String>,
    /// From this identity.
    #[arg(long, value_name = "IDENTITY")]
    pub from_identity: Vec<String>,
    /// To this identity.
    #[arg(long, value_name = "IDENTITY")]
    pub to_identity: Vec<String>,
    /// The direction as the pod sees it.
    #[arg(long, value_name = "DIRECTION", ignore_case = true, value_parser = ["ingress", "egress"])]
    pub traffic_direction: Vec<String>,
    /// From or to pods of this workload: NAME or KIND/NAME.
    #[arg(long, value_name = "WORKLOAD")]
    pub workload: Vec<String>,
    /// From pods of this workload.
    #[arg(long, value_name = "WORKLOAD")]
    pub from_workload: Vec<String>,
    /// To pods of this workload.
    #[arg(long, value_name = "WORKLOAD")]
    pub to_workload: Vec<String>,
    /// From or to this DNS name, `*` for any part.
    #[arg(long, value_name = "NAME")]
    pub fqdn: Vec<String>,
    /// From this DNS name.
    #[arg(long, value_name = "NAME")]
    pub from_fqdn: Vec<String>,
    /// To this DNS name.
    #[arg(long, value_name = "NAME")]
    pub to_fqdn: Vec<String>,
    /// From or to this service: NAMESPACE/NAME.
    #[arg(long, value_name = "SERVICE", value_parser = pod)]
    pub service: Vec<String>,
    /// From this service.
    #[arg(long, value_name = "SERVICE", value_parser = pod)]
    pub from_service: Vec<String>,
    /// To this service.
    #[arg(long, value_name = "SERVICE", value_parser = pod)]
    pub to_service: Vec<String>,
    /// Only this version of IP: v4 or v6; none for what is no IP.
    #[arg(long, value_name = "VERSION", ignore_case = true, value_parser = ["none", "v4", "v6", "4", "6", "IPv4", "IPv6"])]
    pub ip_version: Vec<String>,
    /// Only IPv4.
    #[arg(short = '4', long, num_args = 0, default_missing_value = "v4", action = Append)]
    pub ipv4: Vec<String>,
    /// Only IPv6.
    #[arg(short = '6', long, num_args = 0, default_missing_value = "v6", action = Append)]
    pub ipv6: Vec<String>,
    /// What was encrypted between nodes.
    #[arg(long, num_args = 0, default_missing_value = "true", action = Append)]
    pub encrypted: Vec<String>,
    /// What was not.
    #[arg(long, num_args = 0, default_missing_value = "false", action = Append)]
    pub unencrypted: Vec<String>,
    /// The flow with this uuid.
    #[arg(long, value_name = "UUID")]
    pub uuid: Vec<String>,
    /// Flows of this node: NODE or CLUSTER/NODE, `*` for any part.
    #[arg(long, value_name = "NODE")]
    pub node_name: Vec<String>,
    /// Flows of nodes that have these labels.
    #[arg(long, value_name = "SELECTOR")]
    pub node_label: Vec<String>,
    /// From or to who is of this cluster.
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Vec<String>,
    /// From who is of this cluster.
    #[arg(long, value_name = "CLUSTER")]
    pub from_cluster: Vec<String>,
    /// To who is of this cluster.
    #[arg(long, value_name = "CLUSTER")]
    pub to_cluster: Vec<String>,
    /// Seen at the interface of this name.
    #[arg(long, value_name = "INTERFACE")]
    pub interface: Vec<String>,
    /// With this HTTP status: 404, 5+.
    #[arg(long, value_name = "STATUS")]
    pub http_status: Vec<String>,
    /// With this HTTP method.
    #[arg(long, value_name = "METHOD")]
    pub http_method: Vec<String>,
    /// With an HTTP path that has a match of this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub http_path: Vec<String>,
    /// With a URL that has a match of this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub http_url: Vec<String>,
    /// With this HTTP header: NAME:VALUE.
    #[arg(long, value_name = "HEADER")]
    pub http_header: Vec<String>,
    /// Of this trace.
    #[arg(long, value_name = "ID")]
    pub trace_id: Vec<String>,
    /// With this number in the IP option for tracing.
    #[arg(long, value_name = "NUMBER")]
    pub ip_trace_id: Vec<String>,
    /// This condition in the Common Expression Language: `_flow.verdict == Verdict.DROPPED`.
    #[arg(long, value_name = "EXPRESSION")]
    pub cel_expression: Vec<String>,
    /// Flows that a filter of Hubble's API wants, as JSON: '{"source_pod":["shop/"]}'.
    #[arg(long, value_name = "JSON")]
    pub allowlist: Vec<String>,
    /// Without those that a filter of Hubble's API wants, as JSON.
    #[arg(long, value_name = "JSON")]
    pub denylist: Vec<String>,
}

/// Every filter by its name.
pub const NAMES: [&str; 58] = [
    "pod",
    "from_pod",
    "to_pod",
    "namespace",
    "from_namespace",
    "to_namespace",
    "all_namespaces",
    "from_all_namespaces",
    "to_all_namespaces",
    "ip",
    "from_ip",
    "to_ip",
    "snat_ip",
    "label",
    "from_label",
    "to_label",
    "port",
    "from_port",
    "to_port",
    "protocol",
    "verdict",
    "drop_reason_desc",
    "drop_reason",
    "event_type",
    "tcp_flags",
    "identity",
    "from_identity",
    "to_identity",
    "traffic_direction",
    "workload",
    "from_workload",
    "to_workload",
    "fqdn",
    "from_fqdn",
    "to_fqdn",
    "service",
    "from_service",
    "to_service",
    "ip_version",
    "ipv4",
    "ipv6",
    "encrypted",
    "unencrypted",
    "uuid",
    "node_name",
    "node_label",
    "cluster",
    "from_cluster",
    "to_cluster",
    "interface",
    "http_status",
    "http_method",
    "http_path",
    "http_url",
    "http_header",
    "trace_id",
    "ip_trace_id",
    "cel_expression",
];

fn port(text: &str) -> Result<String, String> {
    match text.parse::<u16>() {
        Ok(port) => Ok(port.to_string()),
        Err(_) => Err("expected a port, 0 to 65535".into()),
    }
}

fn drop_reason_desc(text: &str) -> Result<String, String> {
    let name = text.to_ascii_uppercase();
    match DropReason::from_str_name(&name) {
        Some(_) => Ok(name),
        None => Err("expected a name of Hubble's flow.DropReason such as POLICY_DENIED".into()),
    }
}

/// Reads a pod or service as filters take it.
fn pod(text: &str) -> Result<String, String> {
    let is_known = !text.is_empty() && text.matches('/').count() < 2;
    let expected = "expected NAMESPACE/NAME, NAMESPACE/ for all of it, NAME or /NAME in any";
    is_known.then(|| text.to_owned()).ok_or(expected.into())
}

#[cfg(test)]
mod tests {
    use super::pod;

    #[test]
    fn a_pod_has_at_most_one_slash_and_may_be_of_any_namespace() {
        for good in ["shop/web", "shop/", "web", "/web", "/"] {
            assert_eq!(pod(good).as_deref(), Ok(good));
        }
        for bad in ["", "a/b/c", "//"] {
            assert!(pod(bad).is_err(), "{bad}");
        }
    }
}
