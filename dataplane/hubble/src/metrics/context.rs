//! What a metric tells of both ends: Hubble's context options, `sourceContext=pod|ip;…`.

use super::naming;
use portcullis_observe::Sighting;
use portcullis_policy::Direction;

/// Parts of a key stand behind one another with this between them: no label has it.
pub(super) const SEPARATOR: char = '\u{1f}';
/// The same as a text.
pub(super) const SEPARATOR_TEXT: &str = "\u{1f}";

/// One way to name an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Identity,
    Namespace,
    Pod,
    PodName,
    Dns,
    Ip,
    ReservedIdentity,
    Workload,
    WorkloadName,
    App,
}

const NAMINGS: [(&str, Naming); 10] = [
    ("identity", Naming::Identity),
    ("namespace", Naming::Namespace),
    ("pod", Naming::Pod),
    ("pod-name", Naming::PodName),
    ("dns", Naming::Dns),
    ("ip", Naming::Ip),
    ("reserved-identity", Naming::ReservedIdentity),
    ("workload", Naming::Workload),
    ("workload-name", Naming::WorkloadName),
    ("app", Naming::App),
];

/// What a series goes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Owner {
    /// Nothing: it stays.
    #[default]
    Nobody,
    /// The last pod of a workload: of each run of a job there is another.
    Workload,
    /// One pod.
    Pod,
}

impl Naming {
    const fn owner(self) -> Owner {
        match self {
            Self::Pod | Self::PodName | Self::Ip => Owner::Pod,
            Self::Workload | Self::WorkloadName => Owner::Workload,
            _ => Owner::Nobody,
        }
    }
}

/// A label of `labelsContext`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Source(Part),
    Destination(Part),
    Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Ip,
    Pod,
    Namespace,
    Workload,
    WorkloadKind,
    App,
}

impl Part {
    const fn owner(self) -> Owner {
        match self {
            Self::Pod | Self::Ip => Owner::Pod,
            Self::Workload => Owner::Workload,
            _ => Owner::Nobody,
        }
    }
}

/// In Cilium's order, whatever the order in the settings.
const LABELS: [(&str, Label); 13] = [
    ("source_ip", Label::Source(Part::Ip)),
    ("source_pod", Label::Source(Part::Pod)),
    ("source_namespace", Label::Source(Part::Namespace)),
    ("source_workload", Label::Source(Part::Workload)),
    ("source_workload_kind", Label::Source(Part::WorkloadKind)),
    ("source_app", Label::Source(Part::App)),
    ("destination_ip", Label::Destination(Part::Ip)),
    ("destination_pod", Label::Destination(Part::Pod)),
    ("destination_namespace", Label::Destination(Part::Namespace)),
    ("destination_workload", Label::Destination(Part::Workload)),
    (
        "destination_workload_kind",
        Label::Destination(Part::WorkloadKind),
    ),
    ("destination_app", Label::Destination(Part::App)),
    ("traffic_direction", Label::Direction),
];

/// How one end is named: the first way that gives a name, and other ways in one direction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct EndContext {
    any: Vec<Naming>,
    egress: Vec<Naming>,
    ingress: Vec<Naming>,
}

impl EndContext {
    fn is_empty(&self) -> bool {
        self.any.is_empty() && self.egress.is_empty() && self.ingress.is_empty()
    }

    fn namings(&self, direction: Option<Direction>) -> &[Naming] {
        let special = match direction {
            Some(Direction::Egress) => &self.egress,
            Some(Direction::Ingress) => &self.ingress,
            None => &self.any,
        };
        if special.is_empty() {
            &self.any
        } else {
            special
        }
    }
}

/// All context options of one metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Context {
    source: EndContext,
    destination: EndContext,
    labels: Vec<(&'static str, Label)>,
}

/// What of the two ends a key names so closely that it goes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bound {
    pub source: Owner,
    pub destination: Owner,
}

impl Context {
    /// Takes one option. False when it is none of a context.
    ///
    /// # Errors
    /// Unknown ways to name an end.
    pub fn take(&mut self, option: &str, value: &str) -> Result<bool, String> {
        let place = match option {
            "sourceContext" => &mut self.source.any,
            "sourceEgressContext" => &mut self.source.egress,
            "sourceIngressContext" => &mut self.source.ingress,
            "destinationContext" => &mut self.destination.any,
            "destinationEgressContext" => &mut self.destination.egress,
            "destinationIngressContext" => &mut self.destination.ingress,
            "labelsContext" => {
                self.labels = labels(value)?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        *place = value.split('|').map(way).collect::<Result<_, _>>()?;
        Ok(true)
    }

    /// The names of the labels, in the order of `write`.
    pub fn label_names(&self) -> impl Iterator<Item = &'static str> {
        let ends = [
            ("source", self.source.is_empty()),
            ("destination", self.destination.is_empty()),
        ];
        let ends = ends.into_iter().filter(|(_, is_empty)| !is_empty);
        let labels = self.labels.iter().map(|(name, _)| *name);
        labels.chain(ends.map(|(name, _)| name))
    }

    /// Writes the values behind a key, and says which ends they name closely.
    pub fn write(&self, key: &mut String, sighting: &Sighting<'_>) -> Bound {
        let (source, destination) = (&sighting.source, &sighting.destination);
        let direction = sighting.direction();
        let mut bound = Bound::default();
        for (_, label) in &self.labels {
            key.push(SEPARATOR);
            match label {
                Label::Source(part) => {
                    naming::write_part(key, source, *part);
                    bound.source = bound.source.max(part.owner());
                }
                Label::Destination(part) => {
                    naming::write_part(key, destination, *part);
                    bound.destination = bound.destination.max(part.owner());
                }
                Label::Direction => key.push_str(match direction {
                    Some(Direction::Egress) => "egress",
                    Some(Direction::Ingress) => "ingress",
                    None => "unknown",
                }),
            }
        }
        for (context, party, owner) in [
            (&self.source, source, &mut bound.source),
            (&self.destination, destination, &mut bound.destination),
        ] {
            if context.is_empty() {
                continue;
            }
            key.push(SEPARATOR);
            let mut ways = context.namings(direction).iter();
            if let Some(way) = ways.find(|way| naming::write(key, party, **way)) {
                *owner = way.owner().max(*owner);
            }
        }
        bound
    }
}

fn way(name: &str) -> Result<Naming, String> {
    let found = NAMINGS.iter().find(|(known, _)| *known == name.trim());
    found.map(|(_, naming)| *naming).ok_or_else(|| {
        let known = NAMINGS.map(|(known, _)| known).join(", ");
        format!("expected one of {known}, found \"{name}\"")
    })
}

fn labels(list: &str) -> Result<Vec<(&'static str, Label)>, String> {
    let wanted: Vec<&str> = list.split(',').map(str::trim).collect();
    let is_known = |name: &&&str| LABELS.iter().any(|(known, _)| *known == **name);
    if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
        let known = LABELS.map(|(known, _)| known).join(", ");
        return Err(format!("expected one of {known}, found \"{unknown}\""));
    }
    let all = LABELS.into_iter();
    Ok(all.filter(|(name, _)| wanted.contains(name)).collect())
}
