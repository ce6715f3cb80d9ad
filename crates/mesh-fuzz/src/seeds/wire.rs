//! What neighbours, payers and payees send.

use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{Currency, InvoiceBuilder, PaymentSecret};
use mesh_core::announcement::{Announcement, Body, Head, ListedNeighbour, OperatorCertificate};
use mesh_core::drop_reason::DropReason;
use mesh_core::identity::{NodeId, Signature, SignatureContext};
use mesh_core::keys::{PayloadSeal, TagKey};
use mesh_core::message::{
    ControlMessage, DiscoveryMode, DiscoveryRequest, Price, Quote, QuoteAnswer, QuoteRequest, QuoteResponse,
    RouteCertificate, RoutingUpdate, SeqnoRequest, refusal_bytes,
};
use mesh_core::open::{BackMessage, DestinationBox, HopBox, HopRefusal, Receipt, advance, build_hop_error};
use mesh_core::packet::{self, FrameKind, PREAMBLE_BYTES, PacketParts};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing::update::{Distance, Plane, RouteUpdate};
use mesh_core::routing_policy::{GovernanceKind, TrafficClass, encode_governance};
use mesh_core::verifier::Commitment;
use sha2::{Digest, Sha256};

use super::Seeds;
use crate::cast::{self, NOW, SESSION, identity};

const HOUR: Duration = Duration::from_secs(3600);

const PRICE: Price = Price {
    msat_per_unit: 10,
    payable: true,
};

pub(super) fn add(seeds: &mut Seeds) {
    packets(seeds);
    opens(seeds);
    what_comes_back(seeds);
    announcements(seeds);
    control(seeds);
    contents(seeds);
    money(seeds);
    frames(seeds);
}

fn packets(seeds: &mut Seeds) {
    let (_, mut session) = cast::open_session();
    let expiry = NOW + Duration::from_secs(10);
    seeds.add(
        "packet",
        "data",
        session.packet("chat", b"hello", expiry).unwrap().0,
    );
    seeds.add(
        "packet",
        "data without name or payload",
        session.packet("", b"", expiry).unwrap().0,
    );
    seeds.add(
        "packet",
        "back",
        back_packet(&postcard::to_stdvec(&BackMessage::OpenAck).unwrap()),
    );
    let in_clear = PacketParts {
        kind: FrameKind::Data,
        session: session.id(),
        sequence: 1,
        expiry,
        tag_keys: &[],
        seal: &PayloadSeal::new(&zeroize::Zeroizing::new([7; 32]), true),
    };
    seeds.add(
        "packet",
        "in clear",
        packet::build(&in_clear, &[b"anybody may read this"]).unwrap().0,
    );
}

fn back_packet(plain: &[u8]) -> Vec<u8> {
    let id = SESSION.source.id();
    let parts = PacketParts {
        kind: FrameKind::Back,
        session: id,
        sequence: 0,
        expiry: NOW + HOUR,
        tag_keys: &[TagKey::of_back_secret(&SESSION.hops[0].back_secret(), &id)],
        seal: &PayloadSeal::Sealed(SESSION.hops[1].back_cipher(&id)),
    };
    packet::build(&parts, &[plain]).unwrap().0.to_vec()
}

fn opens(seeds: &mut Seeds) {
    seeds.chosen("open", "to the router", 0, &SESSION.open);
    seeds.chosen("open", "to the destination", 0, advance(&SESSION.open));
    for (name, proof) in proofs() {
        let hop_box = HopBox {
            next: None,
            class: TrafficClass::Paid,
            expires: NOW + HOUR,
            proof: Some(proof),
            destination: Some(DestinationBox {
                back_secrets: Vec::new(),
                source: Some((cast::node(0), Signature([5; 64]))),
            }),
        };
        let plain = postcard::to_stdvec(&hop_box).unwrap();
        seeds.chosen("open", &format!("box with {name}"), 1, plain);
    }
}

fn receipt() -> Receipt {
    let unsigned = Receipt {
        session: SESSION.source.id(),
        packets: 3,
        bytes: 5000,
        units: 6,
        highest_sequence: 2,
        signature: Signature([0; 64]),
    };
    unsigned.sign(&identity(11))
}

fn what_comes_back(seeds: &mut Seeds) {
    let id = SESSION.source.id();
    let refusal = HopRefusal {
        reason: DropReason::CreditSpent,
        credit_msat: 1234,
    };
    let error = build_hop_error(&id, 1, &SESSION.hops[1].error_cipher(&id), 0, &refusal);
    let receipt = postcard::to_stdvec(&BackMessage::Receipt(receipt())).unwrap();
    seeds.chosen("back", "hop error", 0, error);
    seeds.chosen(
        "back",
        "refusal in clear",
        1,
        postcard::to_stdvec(&refusal).unwrap(),
    );
    seeds.chosen("back", "receipt", 2, back_packet(&receipt));
    seeds.chosen("back", "receipt in clear", 3, receipt);
    seeds.chosen(
        "back",
        "ack in clear",
        3,
        postcard::to_stdvec(&BackMessage::OpenAck).unwrap(),
    );
}

fn body(operator: bool) -> Body {
    let mut neighbours: Vec<_> = [1, 2, 11]
        .map(|byte| ListedNeighbour {
            node: identity(byte).node_id(),
            cost: 9,
        })
        .to_vec();
    neighbours.sort();
    Body {
        price: PRICE,
        operator: operator.then(|| OperatorCertificate::sign(&cast::node(0), &identity(7))),
        addresses: vec!["192.0.2.1:8334".to_owned(), "[2001:db8::1]:8334".to_owned()],
        neighbours,
    }
}

fn announcement(with_body: bool) -> Announcement {
    let bytes = body(true).encode().unwrap();
    Announcement {
        head: Head::sign(3, NOW + HOUR, &bytes, &identity(10)),
        body: with_body.then_some(bytes),
    }
}

fn announcements(seeds: &mut Seeds) {
    seeds.chosen("announcement", "body", 0, body(false).encode().unwrap());
    seeds.chosen(
        "announcement",
        "body with operator",
        0,
        body(true).encode().unwrap(),
    );
    for (name, with_body) in [("whole", true), ("head alone", false)] {
        let bytes = postcard::to_stdvec(&announcement(with_body)).unwrap();
        seeds.chosen("announcement", name, 1, bytes);
    }
}

fn certificate() -> RouteCertificate {
    let path = vec![identity(1).node_id(), cast::node(0), cast::node(1)];
    let mut certificate = RouteCertificate::sign([1; 16], path, PRICE, NOW + HOUR, &identity(11));
    certificate
        .attest(PRICE, Some(identity(7).node_id()), NOW + HOUR, &identity(10))
        .unwrap();
    certificate
}

fn quote_request() -> QuoteRequest {
    let certificate = certificate();
    QuoteRequest {
        id: [2; 16],
        total_msat: QuoteRequest::least_total(&certificate, 1000).unwrap(),
        certificate,
        class: TrafficClass::Paid,
        units: 1000,
        accounts: vec![cast::account_key(0).public(), cast::account_key(1).public()],
        buying: vec![true, true],
    }
}

fn quote() -> Quote {
    let unsigned = Quote {
        request_digest: quote_request().digest(),
        payee: cast::node(1),
        key: cast::quote_key(1).public(),
        price_msat: 10,
        amount_msat: 15_000,
        invoice: Some(invoice(Currency::Regtest, Some(15_000), true)),
        nonce: [4; 16],
        pay_by: NOW + HOUR,
        redeem_by: NOW + 25 * HOUR,
        signature: Signature([0; 64]),
    };
    unsigned.sign(&identity(11))
}

/// Every kind of control message, by a name for its file.
pub(super) fn control_messages() -> Vec<(&'static str, ControlMessage)> {
    let discovery = |mode| {
        ControlMessage::DiscoveryRequest(DiscoveryRequest {
            nonce: [0xd0; 16],
            destination: cast::node(1),
            max_hops: 10,
            deadline: NOW + Duration::from_secs(30),
            path: vec![identity(1).node_id()],
            mode,
        })
    };
    let answer = |answer| {
        ControlMessage::QuoteResponse(QuoteResponse {
            request: [2; 16],
            requester: identity(1).node_id(),
            answer,
        })
    };
    let reason = DropReason::ShareTooSmall;
    let refused = refusal_bytes(&quote_request().digest(), reason);
    let distance = |metric| Some(Distance { seqno: 3, metric });
    let route = |origin: NodeId, cost, hops| RouteUpdate {
        origin,
        planes: [cost, hops],
    };
    let update = RoutingUpdate {
        number: 1,
        announcements: vec![announcement(true), announcement(false)],
        routes: vec![
            route(cast::node(0), distance(9), distance(1)),
            route(cast::node(1), distance(u32::MAX), None),
        ],
    };
    let seqno = SeqnoRequest {
        origin: cast::node(1),
        plane: Plane::Hops,
        seqno: 7,
        hops: 64,
    };
    vec![
        (
            "discovery along a route",
            discovery(DiscoveryMode::Route {
                ahead: vec![cast::node(0), cast::node(1)],
            }),
        ),
        (
            "discovery branch",
            discovery(DiscoveryMode::Branch {
                tag: 1,
                avoid: vec![identity(13).node_id()],
            }),
        ),
        (
            "discovery ring",
            discovery(DiscoveryMode::Ring { avoid: Vec::new() }),
        ),
        (
            "discovery response",
            ControlMessage::DiscoveryResponse(certificate()),
        ),
        (
            "quote request",
            ControlMessage::QuoteRequest(Box::new(quote_request())),
        ),
        ("quote", answer(QuoteAnswer::Quote(quote()))),
        (
            "quote refused",
            answer(QuoteAnswer::Refusal {
                payee: cast::node(1),
                reason,
                signature: identity(11).sign(SignatureContext::Quote, &refused),
            }),
        ),
        ("refused", ControlMessage::Refused),
        ("routing update", ControlMessage::RoutingUpdate(Box::new(update))),
        ("routing ack", ControlMessage::RoutingAck { number: 1 }),
        ("seqno request", ControlMessage::SeqnoRequest(seqno)),
    ]
}

fn control(seeds: &mut Seeds) {
    for (name, message) in control_messages() {
        let frame = message.encode().unwrap();
        seeds.chosen("control", &format!("body of {name}"), 1, &frame[PREAMBLE_BYTES..]);
        seeds.chosen("control", name, 0, frame);
    }
}

fn contents(seeds: &mut Seeds) {
    seeds.add("content", "named", b"\x04chathello".as_slice());
    let vote = encode_governance(GovernanceKind::Vote, b"yes").unwrap();
    seeds.add("content", "governance", vote);
    // Stratum V2: SetupConnection.Success with version 2, and SetupConnection for pool.example.
    seeds.add(
        "content",
        "stratum success",
        b"\0\0\x01\x06\0\0\x02\0\0\0\0\0".as_slice(),
    );
    let mut setup = b"\0\x02\0\x02\0\0\0\0\0\x0cpool.example\x8e\x20".to_vec();
    for text in ["Bitmain", "S9i 13.5", "braiins-os", ""] {
        setup.push(text.len() as u8);
        setup.extend(text.as_bytes());
    }
    let length = (setup.len() as u32).to_le_bytes();
    seeds.add(
        "content",
        "stratum setup",
        [b"\0\0\0", &length[..3], &setup].concat(),
    );
    // Bitcoin P2P: verack and ping on regtest (magic, command, length, checksum, content).
    for (command, content) in [("verack", &[][..]), ("ping", &[7; 8])] {
        let mut message = b"\xfa\xbf\xb5\xda".to_vec();
        message.extend(command.bytes().chain([0; 12]).take(12));
        message.extend((content.len() as u32).to_le_bytes());
        message.extend(&Sha256::digest(Sha256::digest(content))[..4]);
        message.extend(content);
        seeds.add("content", &format!("bitcoin {command}"), message);
    }
}

/// A signed invoice, payable for an hour.
pub(super) fn invoice(currency: Currency, amount_msat: Option<u64>, committed: bool) -> String {
    let commitment = Commitment {
        payee: &cast::node(1),
        account: &cast::account_key(1).public(),
        amount_msat: amount_msat.unwrap_or(0),
        terms: &[6; 32],
        pay_by: NOW + HOUR,
        redeem_by: NOW + 25 * HOUR,
        nonce: &[4; 16],
    };
    let builder = InvoiceBuilder::new(currency);
    let builder = if committed {
        builder.description_hash(sha256::Hash::from_byte_array(commitment.description_hash()))
    } else {
        builder.description("a text".to_owned())
    };
    let builder = builder
        .payment_hash(sha256::Hash::from_byte_array(Sha256::digest([21; 32]).into()))
        .payment_secret(PaymentSecret([3; 32]))
        .duration_since_epoch(Duration::from_secs(NOW.seconds()))
        .expiry_time(HOUR)
        .min_final_cltv_expiry_delta(18);
    let builder = match amount_msat {
        Some(amount) => builder.amount_milli_satoshis(amount),
        None => builder,
    };
    let key = SecretKey::from_slice(&[7; 32]).unwrap();
    let sign = |hash: &_| Secp256k1::signing_only().sign_ecdsa_recoverable(hash, &key);
    builder.build_signed(sign).unwrap().to_string()
}

/// Every kind of proof, by a name for its file.
pub(super) fn proofs() -> Vec<(&'static str, PaymentProof)> {
    let lightning = PaymentProof::Lightning {
        invoice: invoice(Currency::Regtest, Some(15_000), true),
        preimage: [21; 32],
        amount_msats: 15_000,
        timestamp: NOW.seconds(),
        expires_at: NOW.seconds() + 90_000,
    };
    let on_chain = PaymentProof::OnChainSettlement {
        payment_request_id: hex(&[0xc0; 16]),
        tx_hash: [5; 32],
        amount_sats: 1000,
        timestamp: NOW.seconds(),
    };
    let covenant = PaymentProof::InstantSettlement {
        covenant_proof: vec![8; 40],
        output_index: 1,
        merkle_proof: vec![[10; 32]; 3],
        amount_sats: 11,
        timestamp: NOW.seconds(),
    };
    let session = PaymentProof::Session {
        session_id: SESSION.source.id(),
    };
    let split = PaymentProof::Split {
        proofs: vec![
            (cast::node(0), lightning.clone()),
            (cast::node(1), on_chain.clone()),
        ],
    };
    vec![
        ("lightning proof", lightning),
        ("on-chain proof", on_chain),
        ("covenant proof", covenant),
        ("split proof", split),
        ("session proof", session),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn money(seeds: &mut Seeds) {
    for (name, proof) in proofs() {
        seeds.add("proof", name, postcard::to_stdvec(&proof).unwrap());
    }
    let invoices = [
        ("mainnet", Currency::Bitcoin, Some(1_000), true),
        ("testnet", Currency::BitcoinTestnet, Some(2_500_000_000), false),
        ("signet", Currency::Signet, Some(1), true),
        ("regtest", Currency::Regtest, Some(15_000), true),
        ("without amount", Currency::Regtest, None, false),
        ("simnet", Currency::Simnet, Some(1_000), true),
    ];
    for (name, currency, amount, committed) in invoices {
        seeds.add("invoice", name, invoice(currency, amount, committed));
    }
}

fn frames(seeds: &mut Seeds) {
    let stream: Vec<u8> = [&SESSION.open[..], b"", b"short"]
        .iter()
        .flat_map(|body| [&(body.len() as u32).to_be_bytes()[..], body].concat())
        .collect();
    seeds.add(
        "frames",
        "two frames and a keep-alive",
        [&[0, 7], &stream[..]].concat(),
    );
    seeds.add(
        "frames",
        "too long",
        [&[1, 3][..], &u32::MAX.to_be_bytes()].concat(),
    );
    // A hello of version 1 on the control connection.
    let hello = [&[0, 1, 1, 0][..], &7u64.to_be_bytes(), &[9; 16]].concat();
    seeds.chosen("frames", "hello", 0, hello);
}
