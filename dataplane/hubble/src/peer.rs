//! `peer.Peer`: tells a relay who can be asked, which is this node.

use crate::sources::NodeName;
use crate::wire::peer::peer_server::Peer;
use crate::wire::peer::{ChangeNotification, ChangeNotificationType, NotifyRequest, Tls};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Tells of one node.
#[derive(Debug, Clone)]
pub(crate) struct PeerService {
    pub node: NodeName,
    pub address: String,
    pub is_tls: bool,
}

/// The name that a certificate of this node has for Hubble's relay.
pub(crate) fn server_name(node: &NodeName) -> String {
    let part = |name: &str| name.replace('.', "-");
    format!(
        "{}.{}.hubble-grpc.cilium.io",
        part(&node.name),
        part(&node.cluster)
    )
}

#[tonic::async_trait]
impl Peer for PeerService {
    type NotifyStream = ReceiverStream<Result<ChangeNotification, Status>>;

    async fn notify(
        &self,
        _request: Request<NotifyRequest>,
    ) -> Result<Response<Self::NotifyStream>, Status> {
        let this = ChangeNotification {
            name: self.node.absolute(),
            address: self.address.clone(),
            r#type: ChangeNotificationType::PeerAdded as i32,
            tls: self.is_tls.then(|| Tls {
                server_name: server_name(&self.node),
            }),
        };
        let (client, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            if client.send(Ok(this)).await.is_ok() {
                // It is all there is to tell; a stream that ends would be asked for again.
                client.closed().await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
