//! Flows as lines of JSON: what GetFlows answers, as `hubble observe -o json` prints it.

use crate::flow::{Teller, timestamp};
use crate::json::Schema;
use crate::mask::Mask;
use crate::sources::NodeName;
use crate::wire::observer::GetFlowsResponse;
use crate::wire::observer::get_flows_response::ResponseTypes;
use portcullis_observe::Sighting;
use prost::Message;
use prost_types::FieldMask;

/// Whether paths name fields of a flow, as field masks do.
///
/// # Errors
/// The first that does not.
pub fn check_field_mask(paths: &[String]) -> Result<(), String> {
    let mask = FieldMask {
        paths: paths.to_vec(),
    };
    Mask::parse(Some(&mask)).map(drop)
}

/// Writes lines for one reader.
#[derive(Debug)]
pub struct Lines {
    teller: Teller,
    schema: Schema,
    node: String,
}

impl Lines {
    /// For the flows of a node.
    ///
    /// # Errors
    /// When the descriptors that the build made cannot be read.
    pub fn new(node: &NodeName) -> Result<Self, String> {
        Ok(Self {
            teller: Teller::new(node),
            schema: Schema::read()?,
            node: node.absolute(),
        })
    }

    /// The line of one sighting, without its end. Empty if it could not be written.
    pub fn line(&mut self, sighting: &Sighting<'_>) -> String {
        let answer = GetFlowsResponse {
            response_types: Some(ResponseTypes::Flow(self.teller.flow(sighting))),
            node_name: self.node.clone(),
            time: Some(timestamp(sighting.event.time)),
        };
        let mut line = String::with_capacity(1024);
        let name = ".observer.GetFlowsResponse";
        let written = self.schema.write(name, &answer.encode_to_vec(), &mut line);
        debug_assert!(written.is_some(), "a message of ours is well formed");
        line
    }
}
