//! Which XDP mode is asked for.

use serde::{Deserialize, Deserializer};

/// Where in the kernel the program shall run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum XdpChoice {
    /// Where it is faster, as tried at the start.
    #[default]
    Auto,
    /// Behind the driver.
    Generic,
    /// In the driver.
    Native,
}

impl<'de> Deserialize<'de> for XdpChoice {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let key = String::deserialize(from)?;
        match key.as_str() {
            "auto" => Ok(Self::Auto),
            "generic" => Ok(Self::Generic),
            "native" => Ok(Self::Native),
            _ => Err(serde::de::Error::custom(format!(
                "expected auto, generic or native, found \"{key}\""
            ))),
        }
    }
}
