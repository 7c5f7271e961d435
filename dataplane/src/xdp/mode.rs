//! The place in the kernel where the program runs.

/// Where in the kernel the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum XdpMode {
    /// Behind the driver: pods keep segmentation offload, and their segments arrive whole.
    #[default]
    Generic,
    /// In the driver: less work per small packet, but the offload is off.
    Native,
}

impl XdpMode {
    /// The name in settings and file names.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Native => "native",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        [Self::Generic, Self::Native]
            .into_iter()
            .find(|mode| mode.key() == key)
    }

    pub(super) const fn flags(self) -> aya::programs::xdp::XdpMode {
        match self {
            Self::Generic => aya::programs::xdp::XdpMode::Skb,
            Self::Native => aya::programs::xdp::XdpMode::Driver,
        }
    }
}
