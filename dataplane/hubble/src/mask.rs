//! Field masks: which fields of a flow a reader wants to get.
#![allow(deprecated)]

use crate::wire::DESCRIPTORS;
use crate::wire::flow::Flow;
use prost::Message;
use prost::encoding::{decode_varint, encode_varint};
use prost_types::{DescriptorProto, FieldMask, FileDescriptorSet};
use std::collections::{BTreeMap, BTreeSet};

/// What Hubble's command line asks for unless it prints JSON: too little for what it then prints.
const COMMAND_LINE: [&str; 20] = [
    "time",
    "verdict",
    "ethernet",
    "IP",
    "l4",
    "source.identity",
    "source.namespace",
    "source.pod_name",
    "destination.identity",
    "destination.namespace",
    "destination.pod_name",
    "Type",
    "node_name",
    "l7",
    "event_type",
    "source_service",
    "destination_service",
    "is_reply",
    "Summary",
    "ip_trace_id",
];

/// What is sent of a flow.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mask {
    /// All of it.
    All,
    /// All that the command line can print: it asks for less, and then prints that directions,
    /// policies and names are not known.
    Printable,
    /// These fields alone.
    Fields(Tree),
}

/// Fields by number; those without fields of their own are meant as a whole.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<u32, Tree>);

impl Mask {
    /// Reads a mask.
    ///
    /// # Errors
    /// The first path that names no field of a flow.
    pub(crate) fn parse(mask: Option<&FieldMask>) -> Result<Self, String> {
        let Some(mask) = mask.filter(|mask| !mask.paths.is_empty()) else {
            return Ok(Self::All);
        };
        let paths: BTreeSet<&str> = mask.paths.iter().map(String::as_str).collect();
        if paths == BTreeSet::from(COMMAND_LINE) {
            return Ok(Self::Printable);
        }
        let known = Messages::read()?;
        let mut tree = Tree::default();
        // A whole field ends what is said of its parts: so short paths last.
        for path in paths.iter().rev() {
            tree.add(path, &known)
                .ok_or_else(|| format!("field_mask: a flow has no field \"{path}\""))?;
        }
        Ok(Self::Fields(tree))
    }

    /// Takes away what is not wanted.
    pub(crate) fn apply(&self, mut flow: Flow) -> Flow {
        match self {
            Self::All => flow,
            Self::Printable => {
                for end in [&mut flow.source, &mut flow.destination]
                    .into_iter()
                    .flatten()
                {
                    end.labels.clear();
                    end.workloads.clear();
                    end.cluster_name.clear();
                }
                flow.emitter = None;
                flow.extensions = None;
                flow
            }
            Self::Fields(tree) => {
                let mut kept = Vec::new();
                // We have just written it, so it can be read.
                let copied = tree.copy(&flow.encode_to_vec(), &mut kept);
                copied
                    .and_then(|()| Flow::decode(kept.as_slice()).ok())
                    .unwrap_or_default()
            }
        }
    }
}

/// Every message of ours by its full name.
struct Messages(BTreeMap<String, DescriptorProto>);

impl Messages {
    fn read() -> Result<Self, String> {
        let files = FileDescriptorSet::decode(DESCRIPTORS).map_err(|e| e.to_string())?;
        let mut all = BTreeMap::new();
        for file in files.file {
            let package = format!(".{}", file.package());
            for message in file.message_type {
                all.insert(format!("{package}.{}", message.name()), message);
            }
        }
        Ok(Self(all))
    }
}

impl Tree {
    fn add(&mut self, path: &str, known: &Messages) -> Option<()> {
        let mut place = self;
        let mut message = ".flow.Flow".to_owned();
        for name in path.split('.') {
            let fields = &known.0.get(&message)?.field;
            let field = fields.iter().find(|field| field.name() == name)?;
            place = place
                .0
                .entry(u32::try_from(field.number()).ok()?)
                .or_default();
            field.type_name().clone_into(&mut message);
        }
        place.0.clear();
        Some(())
    }

    /// Copies the fields of an encoded message that are wanted. None when it is not well formed.
    ///
    /// [protobuf.dev/programming-guides/encoding]
    fn copy(&self, mut message: &[u8], into: &mut Vec<u8>) -> Option<()> {
        while !message.is_empty() {
            let start = message;
            let key = decode_varint(&mut message).ok()?;
            let length = match key & 7 {
                0 => {
                    decode_varint(&mut message).ok()?;
                    0
                }
                1 => 8,
                2 => usize::try_from(decode_varint(&mut message).ok()?).ok()?,
                5 => 4,
                _ => return None,
            };
            let value = message.get(..length)?;
            message = message.get(length..)?;
            let whole = start.get(..start.len() - message.len())?;
            match self.0.get(&u32::try_from(key >> 3).ok()?) {
                None => {}
                Some(parts) if parts.0.is_empty() => into.extend_from_slice(whole),
                Some(parts) => {
                    let mut kept = Vec::new();
                    parts.copy(value, &mut kept)?;
                    encode_varint(key, into);
                    encode_varint(kept.len() as u64, into);
                    into.extend_from_slice(&kept);
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flow::{Endpoint, Ip, Layer4, Policy, Tcp, layer4::Protocol};

    fn flow() -> Flow {
        let end = Endpoint {
            identity: 7,
            namespace: "shop".into(),
            pod_name: "web".into(),
            labels: vec!["k8s:app=web".into()],
            ..Endpoint::default()
        };
        Flow {
            uuid: "1".into(),
            source: Some(end.clone()),
            destination: Some(end),
            ip: Some(Ip {
                source: "10.0.0.1".into(),
                ..Ip::default()
            }),
            l4: Some(Layer4 {
                protocol: Some(Protocol::Tcp(Tcp {
                    source_port: 1,
                    destination_port: 80,
                    flags: None,
                })),
            }),
            traffic_direction: 1,
            ingress_denied_by: vec![Policy::default()],
            is_reply: Some(false),
            summary: "TCP".into(),
            ..Flow::default()
        }
    }

    fn mask(paths: &[&str]) -> Result<Mask, String> {
        Mask::parse(Some(&FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }))
    }

    #[test]
    fn what_is_asked_for_is_what_is_sent() {
        let paths = [
            "uuid",
            "source.pod_name",
            "l4.TCP.destination_port",
            "is_reply",
            "IP",
        ];
        let sent = mask(&paths).unwrap().apply(flow());
        let expected = Flow {
            uuid: "1".into(),
            source: Some(Endpoint {
                pod_name: "web".into(),
                ..Endpoint::default()
            }),
            ip: flow().ip,
            l4: Some(Layer4 {
                protocol: Some(Protocol::Tcp(Tcp {
                    destination_port: 80,
                    ..Tcp::default()
                })),
            }),
            is_reply: Some(false),
            ..Flow::default()
        };
        assert_eq!(sent, expected);
        let both = mask(&["source", "source.pod_name"]).unwrap().apply(flow());
        assert_eq!(both.source, flow().source);
    }

    #[test]
    fn the_command_line_gets_what_it_prints_though_it_does_not_ask_for_it() {
        let mask = mask(&COMMAND_LINE).unwrap();
        assert_eq!(mask, Mask::Printable);
        let sent = mask.apply(flow());
        assert_eq!(
            (sent.traffic_direction, sent.ingress_denied_by.len()),
            (1, 1)
        );
        assert!(sent.source.unwrap().labels.is_empty());
    }

    #[test]
    fn a_path_that_names_nothing_is_refused() {
        for path in ["uid", "source.pod", "uuid.x", "", "summary"] {
            assert_eq!(
                mask(&["time", path]).unwrap_err(),
                format!("field_mask: a flow has no field \"{path}\"")
            );
        }
        assert_eq!(Mask::parse(None), Ok(Mask::All));
        assert_eq!(mask(&[]), Ok(Mask::All));
    }
}
