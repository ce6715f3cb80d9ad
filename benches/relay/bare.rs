//! The yardstick: the nodes' own links with nothing in between.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use mesh_core::identity::Identity;
use mesh_net::{Endpoint, EndpointConfig, LinkEvent, LinkSender, RECOMMENDED_EVENT_QUEUE, Transport};
use tokio::sync::mpsc;

use crate::line::{Line, Load, Window};

/// Links in a row.
pub(crate) struct BareLine {
    first: LinkSender,
    window: Window,
    _endpoints: Vec<Endpoint>,
}

impl BareLine {
    pub(crate) async fn start(hops: usize) -> Self {
        let (mut endpoints, mut inboxes) = (Vec::new(), Vec::new());
        for node in 0..=hops {
            let identity = Identity::from_seed([node as u8 + 1; 32]).unwrap();
            let (events, inbox) = mpsc::channel(RECOMMENDED_EVENT_QUEUE);
            let config = EndpointConfig {
                listen_addr: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
                ..EndpointConfig::default()
            };
            endpoints.push(Endpoint::bind(config, &identity, events).unwrap());
            inboxes.push(inbox);
        }
        // Each node comes to know its links from the back to the front, so that a router's second is its next.
        let mut forward: Vec<LinkSender> = Vec::new();
        for node in (1..=hops).rev() {
            let peer = &endpoints[node];
            endpoints[node - 1]
                .add_peer(peer.local_addr().unwrap(), peer.node_id())
                .unwrap();
            forward.push(link_up(&mut inboxes[node - 1]).await);
            link_up(&mut inboxes[node]).await;
        }
        forward.reverse();
        let window = Window::new();
        for (node, inbox) in inboxes.into_iter().enumerate().skip(1) {
            match forward.get(node) {
                Some(next) => tokio::spawn(relay(inbox, next.clone())),
                None => tokio::spawn(count(inbox, window.clone())),
            };
        }
        Self {
            first: forward[0].clone(),
            window,
            _endpoints: endpoints,
        }
    }

    async fn send(&self, load: &Load) {
        let message = Bytes::from(vec![7; load.bytes]);
        self.window.open(load.window);
        let mut left = load.messages;
        while left > 0 {
            let batch = left.min(load.batch);
            assert!(self.window.take(batch).await, "a message was lost");
            self.first.try_send_data(vec![message.clone(); batch]).unwrap();
            left -= batch;
        }
        assert!(self.window.take(load.window).await, "a message was lost");
    }
}

impl Line for BareLine {
    fn carry<'a>(&'a mut self, load: &'a Load) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.send(load))
    }
}

async fn link_up(inbox: &mut mpsc::Receiver<LinkEvent>) -> LinkSender {
    match inbox.recv().await {
        Some(LinkEvent::Up { sender, .. }) => sender,
        other => panic!("no link: {other:?}"),
    }
}

async fn relay(mut inbox: mpsc::Receiver<LinkEvent>, next: LinkSender) {
    while let Some(event) = inbox.recv().await {
        if let LinkEvent::Frames { frames, .. } = event {
            next.try_send_data(frames).unwrap();
        }
    }
}

async fn count(mut inbox: mpsc::Receiver<LinkEvent>, window: Window) {
    while let Some(event) = inbox.recv().await {
        if let LinkEvent::Frames { frames, .. } = event {
            window.arrived(frames.len());
        }
    }
}
