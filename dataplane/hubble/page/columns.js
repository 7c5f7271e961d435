// The columns of the flow table: what each shows, and what a click on it filters by.

import { bytes, clock } from "./format.js";

const end = (side) => ({
  text: (row) => row[side].pod ? row[side].name : `${row[side].name}${row[side].ip ? ` ${row[side].ip}` : ""}`,
  word: (row) => endWord(side, row[side]),
});

/** The word that means one end of a row. */
export function endWord(side, of) {
  const prefix = side === "source" ? "from:" : "to:";
  if (of.pod) return `${prefix}pod=${of.namespace}/${of.pod}`;
  return of.ip ? `${prefix}ip=${of.ip}` : `${prefix}identity=${of.identity}`;
}

/** `k8s:app=web` and the like that say something. */
export function telling(labels) {
  return labels.filter((label) => !label.includes("io.cilium") && !label.includes("kubernetes.io"));
}

/** All columns, in their order. */
export const COLUMNS = [
  { key: "time", name: "Time", width: "7.2rem", isShown: true, text: (row) => clock(row.time) },
  { key: "source", name: "Source", width: "minmax(9rem, 1.3fr)", isShown: true, ...end("source") },
  { key: "source_ip", name: "Source IP", width: "8rem", text: (row) => row.source.ip ?? "", word: (row) => row.source.ip && `from:ip=${row.source.ip}` },
  { key: "source_port", name: "Source port", width: "5.5rem", text: (row) => row.source.port ?? "" },
  { key: "source_identity", name: "Source identity", width: "6.5rem", text: (row) => row.source.identity, word: (row) => `from:identity=${row.source.identity}` },
  { key: "destination", name: "Destination", width: "minmax(9rem, 1.3fr)", isShown: true, ...end("destination") },
  { key: "destination_ip", name: "Destination IP", width: "8rem", text: (row) => row.destination.ip ?? "", word: (row) => row.destination.ip && `to:ip=${row.destination.ip}` },
  { key: "destination_identity", name: "Destination identity", width: "6.5rem", text: (row) => row.destination.identity, word: (row) => `to:identity=${row.destination.identity}` },
  { key: "port", name: "Port", width: "4rem", isShown: true, text: (row) => row.destination.port ?? "", word: (row) => row.destination.port && `to:port=${row.destination.port}` },
  { key: "protocol", name: "Protocol", width: "5rem", isShown: true, text: (row) => row.protocol, word: (row) => row.protocol && !row.protocol.includes(" ") && `protocol=${row.protocol}` },
  { key: "verdict", name: "Verdict", width: "7.4rem", isShown: true, text: (row) => verdict(row), word: (row) => `verdict=${row.verdict}` },
  { key: "direction", name: "Direction", width: "5.2rem", isShown: true, text: (row) => row.direction, word: (row) => row.direction && `direction=${row.direction}` },
  { key: "reason", name: "Reason", width: "minmax(7rem, .8fr)", isShown: true, text: (row) => row.reason, word: (row) => row.reason && `reason=${row.reason}` },
  { key: "policy", name: "Policy", width: "minmax(9rem, 1.4fr)", isShown: true, text: policy, word: (row) => row.policies[0] && `policy=${place(row.policies[0])}` },
  { key: "tcp_flags", name: "TCP flags", width: "6rem", text: (row) => row.tcp_flags.join(" "), word: (row) => row.tcp_flags[0] && `tcp-flag=${row.tcp_flags[0]}` },
  { key: "names", name: "DNS names", width: "minmax(8rem, 1fr)", text: (row) => row.destination.names.join(" "), word: (row) => row.destination.names[0] && `to:dns=${row.destination.names[0]}` },
  { key: "labels", name: "Source labels", width: "minmax(8rem, 1fr)", text: (row) => telling(row.source.labels).join(" ") },
  { key: "bytes", name: "Bytes", width: "5rem", text: (row) => bytes(row.bytes[0] + row.bytes[1] || row.length) },
  { key: "event", name: "Event", width: "5rem", text: (row) => row.ending ? `${row.event} ${row.ending}` : row.event, word: (row) => `event=${row.event}` },
];

const MARKS = { FORWARDED: "→", DROPPED: "✕", AUDIT: "!" };

/** The verdict, with a mark of its own. */
export function verdict(row) {
  return `${MARKS[row.verdict] ?? "?"} ${row.verdict.toLowerCase()}`;
}

/** `namespace/name` of a document. */
export function place(policy) {
  return policy.namespace ? `${policy.namespace}/${policy.name}` : policy.name;
}

function policy(row) {
  const names = row.policies.map((one) => (one.rule ? `${place(one)} ${one.rule}` : place(one)));
  return names.join(", ");
}
