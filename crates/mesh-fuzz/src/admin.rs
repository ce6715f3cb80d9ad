//! The operator's socket: what clients ask, and what the command line believes of a daemon's answers.

use blvm_mesh::admin::{
    AdminError, DeliveryReply, LinksReply, ListenReply, NetworkReply, PeersReply, QuoteReply, Reply, Request,
    RoutesReply, RoutingReply, SendReply, StatusReply,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cast::choose;

/// Requests and answers: a request that is understood means the same when it is written and read again, and a refusal is
/// never larger than a few hundred bytes more than what it is about.
pub fn admin(data: &[u8]) {
    let (which, line) = choose(data);
    match which % 12 {
        0 => answer::<StatusReply>(line),
        1 => answer::<PeersReply>(line),
        2 => answer::<RoutesReply>(line),
        3 => answer::<NetworkReply>(line),
        4 => answer::<QuoteReply>(line),
        5 => answer::<SendReply>(line),
        6 => answer::<ListenReply>(line),
        7 => answer::<DeliveryReply>(line),
        8 => answer::<LinksReply>(line),
        9 => answer::<RoutingReply>(line),
        _ => request(line),
    }
}

fn request(line: &[u8]) {
    match Request::parse(line) {
        Ok(request) => {
            let written = serde_json::to_vec(&request).unwrap();
            assert_eq!(Request::parse(&written).as_ref(), Ok(&request));
        }
        Err(error) => {
            let AdminError {
                code,
                message,
                advice,
                ..
            } = &error;
            assert!(!code.is_empty() && !message.is_empty() && !advice.is_empty());
            assert!(serde_json::to_vec(&error).unwrap().len() < 6 * 200 + 600);
        }
    }
}

fn answer<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(line: &[u8]) {
    if let Ok(reply) = serde_json::from_slice::<Reply<T>>(line) {
        let written = serde_json::to_vec(&reply).unwrap();
        assert_eq!(serde_json::from_slice::<Reply<T>>(&written).unwrap(), reply);
    }
}
