//! The API of a world over TCP.

use crate::world::World;
use portcullis_hubble::wire::observer::observer_client::ObserverClient;
use portcullis_hubble::{ApiSettings, Servers};
use std::net::SocketAddr;
use tonic::transport::{Channel, Endpoint};

/// The API of a world, on a socket and a port of its own.
pub struct Served {
    _servers: Servers,
    pub address: SocketAddr,
    directory: std::path::PathBuf,
}

impl Served {
    /// Serves a world.
    pub fn new(world: &World, test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("hubble-{}-{test}", std::process::id()));
        let servers = Servers::new(|| {}).expect("threads");
        let settings = ApiSettings {
            socket: directory.join("hubble.sock"),
            listen: Some("127.0.0.1:0".parse().expect("an address")),
            tls: None,
        };
        let address = servers.start(&settings, &world.sources()).expect("serves");
        Self {
            _servers: servers,
            address: address.expect("it was asked for"),
            directory,
        }
    }

    /// A client of its own connection.
    pub async fn client(&self) -> ObserverClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let channel = endpoint.expect("an address").connect().await;
        ObserverClient::new(channel.expect("it is served"))
    }
}

impl std::ops::Drop for Served {
    fn drop(&mut self) {
        // What is left of a test harms nobody.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
