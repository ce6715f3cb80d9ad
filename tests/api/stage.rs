//! Two nodes that carry for free: one sends, the other has the API under test.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use blvm_mesh::api::{CallerApi, Client, MeshModuleApi, ModuleCalls};
use blvm_mesh::socket::SocketServer;
use mesh_api::{
    CallError, Delivery, MeshClient, PollDeliveriesRequest, RegisterProtocolRequest, SendPacketRequest,
    decode,
};
use mesh_core::routing_policy::MeshMode;

use crate::common::{TestNode, wait_linked};

pub(crate) type ModuleClient = MeshClient<CallerApi>;

pub(crate) struct Stage {
    pub(crate) sender: TestNode,
    pub(crate) receiver: TestNode,
    /// The sender's API.
    pub(crate) from: Arc<MeshModuleApi>,
    /// The receiver's API, which is under test.
    pub(crate) api: Arc<MeshModuleApi>,
}

impl Stage {
    pub(crate) async fn new(seed: u8) -> Self {
        let sender = TestNode::without_wallet(seed, MeshMode::Open).await;
        let receiver = TestNode::without_wallet(seed + 1, MeshMode::Open).await;
        sender.connect(&receiver);
        wait_linked(&[(&sender, 1), (&receiver, 1)]).await;
        let from = Arc::new(MeshModuleApi::new(sender.node.handle().clone()));
        let api = open_api(&receiver);
        Self {
            sender,
            receiver,
            from,
            api,
        }
    }

    /// The receiver's API as a module has it.
    pub(crate) fn module(&self, name: &str) -> ModuleClient {
        MeshClient::new(self.api.for_client(Client::module(name).unwrap()))
    }

    /// Sends a packet to the receiver; its name on the wire.
    pub(crate) async fn send(&self, protocol: Option<&str>, payload: Vec<u8>) -> [u8; 32] {
        let sender = MeshClient::new(self.from.clone());
        let sent = sender.send_packet(SendPacketRequest {
            destination: self.receiver.id().0,
            payload,
            payment_proof: None,
            protocol_id: protocol.map(str::to_owned),
            ttl: Some(30),
        });
        let sent = sent.await.unwrap();
        assert!(sent.success, "{:?}", sent.error);
        sent.packet_id
    }

    /// The mesh's part of the receiver is restarted: the API, not the node.
    pub(crate) async fn restart_api(&mut self) {
        self.api.stop().await;
        self.api = open_api(&self.receiver);
    }

    pub(crate) fn socket_path(&self) -> PathBuf {
        self.receiver.directory.path().join(mesh_api::frames::SOCKET_FILE)
    }

    pub(crate) fn serve(&self) -> SocketServer {
        SocketServer::start(&self.socket_path(), self.api.clone()).unwrap()
    }

    pub(crate) async fn stop(self) {
        for node in [self.sender, self.receiver] {
            node.node.stop().await;
        }
    }
}

fn open_api(node: &TestNode) -> Arc<MeshModuleApi> {
    Arc::new(MeshModuleApi::open(node.node.handle().clone(), node.directory.path()).unwrap())
}

pub(crate) async fn register<C: mesh_api::ModuleCaller>(
    client: &MeshClient<C>,
    protocol: &str,
    method: &str,
) -> bool {
    let request = RegisterProtocolRequest {
        protocol_id: protocol.to_owned(),
        handler_method: method.to_owned(),
    };
    client.register_protocol_handler(request).await.unwrap().success
}

pub(crate) async fn poll<C: mesh_api::ModuleCaller>(
    client: &MeshClient<C>,
    protocol: Option<&str>,
) -> Vec<Delivery> {
    let request = PollDeliveriesRequest {
        protocol_id: protocol.map(str::to_owned),
        max_deliveries: 64,
    };
    client.poll_deliveries(request).await.unwrap().deliveries
}

/// What the host did when it was asked to call a module: each call, and what it is to answer.
#[derive(Default)]
pub(crate) struct FakeHost {
    pub(crate) calls: Mutex<Vec<(String, String, Delivery)>>,
    /// Answers in turn; when there are none left, every module takes everything.
    pub(crate) answers: Mutex<VecDeque<Result<(), CallError>>>,
}

impl FakeHost {
    pub(crate) fn answering(answers: impl IntoIterator<Item = Result<(), CallError>>) -> Arc<Self> {
        let host = Self::default();
        host.answers.lock().unwrap().extend(answers);
        Arc::new(host)
    }

    pub(crate) fn payloads(&self) -> Vec<Vec<u8>> {
        let calls = self.calls.lock().unwrap();
        calls
            .iter()
            .map(|(_, _, delivery)| delivery.payload.clone())
            .collect()
    }
}

#[async_trait]
impl ModuleCalls for FakeHost {
    async fn call_module(&self, module: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, CallError> {
        let delivery: Delivery = decode(&payload).unwrap();
        let call = (module.to_owned(), method.to_owned(), delivery);
        self.calls.lock().unwrap().push(call);
        let answer = self.answers.lock().unwrap().pop_front();
        answer.unwrap_or(Ok(())).map(|()| Vec::new())
    }
}
