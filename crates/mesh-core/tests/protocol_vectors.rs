//! The test vectors of PROTOCOL.md. Keys are derived here a second time from the document's words alone, with nothing but
//! BLAKE3 and X25519, and compared with what the library uses; then every value must stand in the document.

#![allow(clippy::expect_used, clippy::unwrap_used)] // a panic is how a test says no

mod vectors;

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::identity::{
    Ed25519Verifier, Identity, NodeId, Signature, SignatureContext, SignatureVerifier,
};
use mesh_core::keys::{DhSecret, HopContext, HopSecret, PayloadSeal, SessionId, TagKey};
use mesh_core::message::{Price, Quote, QuoteRequest, RouteCertificate, refusal_bytes};
use mesh_core::open::{
    BackMessage, HopErrorView, HopPlan, HopRefusal, OpenPlan, OpenView, Receipt, SourceSession, advance,
    build_hop_error, split_content,
};
use mesh_core::packet::{self, FrameKind, HEADER_BYTES, PREAMBLE_BYTES, PacketParts, PacketView};
use mesh_core::routing_policy::TrafficClass;
use mesh_core::time::UnixMillis;
use mesh_core::verifier::Commitment;
use vectors::Vectors;

/// The moment all vectors are made at.
const NOW: UnixMillis = UnixMillis(1_800_000_000_000);
const HOUR: u64 = 3_600_000;

fn identity(byte: u8) -> Identity {
    Identity::from_seed([byte; 32]).unwrap()
}

fn secret(byte: u8) -> DhSecret {
    DhSecret::new([byte; 32]).unwrap()
}

/// What the document calls KDF and ›, written down a second time.
fn expand(key: &[u8; 32], label: &str, session: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, &[label.as_bytes(), &[0], session].concat()).as_bytes()
}

fn context(index: u8) -> HopContext {
    HopContext {
        ephemeral: secret(2).public(),
        account: secret(0x1e + index).public(),
        quote: secret(0x14 + index).public(),
        node: identity(0x0a + index).node_id(),
        index,
    }
}

fn hop_secret(index: u8) -> [u8; 32] {
    let context = context(index);
    let quote = secret(0x14 + index);
    let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh/1 hop");
    hasher.update(&*quote.agree(&context.ephemeral).unwrap());
    hasher.update(&*quote.agree(&context.account).unwrap());
    for part in [context.ephemeral, context.account, context.quote, context.node.0] {
        hasher.update(&part);
    }
    *hasher.update(&[index]).finalize().as_bytes()
}

fn open() -> (Bytes, SourceSession) {
    let plan = |index: u8| HopPlan {
        node: identity(0x0a + index).node_id(),
        quote_id: [0xc0 + index; 16],
        quote_key: secret(0x14 + index).public(),
        account: secret(0x1e + index),
        proof: None,
    };
    OpenPlan {
        hops: &[plan(0), plan(1)],
        class: TrafficClass::Paid,
        expires: UnixMillis(NOW.0 + HOUR),
        ephemeral: secret(2),
        source: Some(&identity(1)),
    }
    .build()
    .unwrap()
}

#[test]
fn key_schedule() {
    let mut vectors = Vectors::default();
    let session = open().1.id();
    vectors.add("ephemeral public key", secret(2).public());
    vectors.add("session id", session.0);
    let names = [
        [
            "router: node id",
            "router: quote public key",
            "router: account public key",
            "router: DH(ephemeral, quote)",
            "router: DH(account, quote)",
            "router: hop secret",
            "router: seal key",
            "router: back secret",
            "router: tag key",
            "router: error key",
            "router: reverse tag key",
        ],
        [
            "destination: node id",
            "destination: quote public key",
            "destination: account public key",
            "destination: DH(ephemeral, quote)",
            "destination: DH(account, quote)",
            "destination: hop secret",
            "destination: seal key",
            "destination: back secret",
            "destination: tag key",
            "destination: error key",
            "destination: reverse tag key",
        ],
    ];
    for (index, names) in [0u8, 1].into_iter().zip(names) {
        let (context, quote) = (context(index), secret(0x14 + index));
        let hop = hop_secret(index);
        let back = expand(&hop, "back", &[]);
        let values = [
            context.node.0,
            context.quote,
            context.account,
            *quote.agree(&context.ephemeral).unwrap(),
            *quote.agree(&context.account).unwrap(),
            hop,
            expand(&hop, "seal", &[]),
            back,
            expand(&hop, "tag", &session.0),
            expand(&hop, "error", &session.0),
            expand(&back, "tag", &session.0),
        ];
        for (name, value) in names.into_iter().zip(values) {
            vectors.add(name, value);
        }
        let library = HopSecret::of_hop(&quote, &context).unwrap();
        assert_eq!(library.back_secret(), back);
        assert_eq!(*library.data_key(&session), expand(&hop, "data", &session.0));
        let tag = |key: &[u8; 32]| blake3::keyed_hash(key, b"x").as_bytes()[..16].to_vec();
        assert_eq!(library.tag_key(&session).tag(b"x").to_vec(), tag(&values[8]));
        let reverse = TagKey::of_back_secret(&back, &session);
        assert_eq!(reverse.tag(b"x").to_vec(), tag(&values[10]));
    }
    let destination = hop_secret(1);
    vectors.add("destination: data key", expand(&destination, "data", &session.0));
    vectors.add(
        "destination: data back key",
        expand(&destination, "data back", &session.0),
    );
    vectors.assert_written("key schedule");
}

#[test]
fn open_message() {
    let mut vectors = Vectors::default();
    let (frame, session) = open();
    let mut index_zero = frame.to_vec();
    index_zero[7] = 0;
    let transcript = blake3::Hasher::new_derive_key("blvm-mesh/1 open transcript")
        .update(&index_zero)
        .finalize();
    assert_eq!(session.id().0, transcript.as_bytes()[..16]);

    let source_signed = [
        secret(2).public().as_slice(),
        &[0xc0; 16],
        &[0xc1; 16],
        &identity(0x0b).node_id().0,
    ]
    .concat();
    let mut at_hop = frame.clone();
    let mut boxes = Vec::new();
    for index in 0..2 {
        let view = OpenView::parse(&at_hop).unwrap();
        let (node, account) = (identity(0x0a + index).node_id(), secret(0x1e + index).public());
        let (hop_box, _) = view.unseal(&node, &secret(0x14 + index), &account).unwrap();
        boxes.push(postcard::to_stdvec(&hop_box).unwrap());
        if let Some((source, signature)) = hop_box.destination.and_then(|destination| destination.source) {
            let context = SignatureContext::SessionSource;
            assert!(Ed25519Verifier.verify(&source, context, &source_signed, &signature));
        }
        at_hop = advance(&at_hop);
    }
    vectors.add("source: node id", identity(1).node_id().0);
    vectors.add("bytes the source signs, behind the context", &source_signed);
    vectors.add("router's box in clear", &boxes[0]);
    vectors.add("destination's box in clear", &boxes[1]);
    vectors.add("open frame as the source sends it", &frame);
    vectors.add("transcript", transcript.as_bytes());
    vectors.assert_written("open");
}

#[test]
fn data_packet() {
    let mut vectors = Vectors::default();
    let mut session = open().1;
    let expiry = UnixMillis(NOW.0 + 10_000);
    let (frame, packet_id) = session.packet("chat", b"hello", expiry).unwrap();
    let view = PacketView::parse(&frame).unwrap();
    let seal_tag = &frame[frame.len() - 16..];
    for index in 0..2u8 {
        let input = [&[index][..], &frame[PREAMBLE_BYTES..HEADER_BYTES], seal_tag].concat();
        assert_eq!(input.len(), 53);
        let key = expand(&hop_secret(index), "tag", &session.id().0);
        let hash = blake3::keyed_hash(&key, &input);
        let tag = &hash.as_bytes()[..16];
        let at = HEADER_BYTES + 16 * usize::from(index);
        assert_eq!(&frame[at..at + 16], tag);
        vectors.add(
            ["router's tag input", "destination's tag input"][usize::from(index)],
            input,
        );
        vectors.add(["router's tag", "destination's tag"][usize::from(index)], tag);
    }
    let key = HopSecret::of_hop(&secret(0x15), &context(1))
        .unwrap()
        .data_key(&session.id());
    let content = view.open(&PayloadSeal::new(&key, false)).unwrap();
    assert_eq!(split_content(&content).unwrap(), ("chat", b"hello".as_slice()));
    let id = [&session.id().0[..], &0u64.to_be_bytes(), seal_tag].concat();
    assert_eq!(&packet_id, blake3::hash(&id).as_bytes());
    vectors.add("content before it is sealed", &content);
    vectors.add("data packet", &frame);
    vectors.add("packet id", packet_id);
    vectors.assert_written("data packet");
}

#[test]
fn what_comes_back() {
    let mut vectors = Vectors::default();
    let session = open().1;
    let id: SessionId = session.id();
    let destination = identity(0x0b);
    let receipt = Receipt {
        session: id,
        packets: 1,
        bytes: 5,
        units: 1,
        highest_sequence: 0,
        signature: Signature([0; 64]),
    }
    .sign(&destination);
    let numbers = [1u64, 5, 1, 0].map(u64::to_be_bytes).concat();
    let signed = [&id.0[..], &numbers].concat();
    let context = SignatureContext::Receipt;
    assert!(Ed25519Verifier.verify(&destination.node_id(), context, &signed, &receipt.signature));
    vectors.add(
        "receipt: bytes the destination signs, behind the context",
        &signed,
    );
    vectors.add("receipt: signature", receipt.signature.0);

    let router = HopSecret::of_hop(&secret(0x14), &self::context(0)).unwrap();
    let end = HopSecret::of_hop(&secret(0x15), &self::context(1)).unwrap();
    let reverse = [TagKey::of_back_secret(&router.back_secret(), &id)];
    let back = |sequence, message: &BackMessage| {
        let parts = PacketParts {
            kind: FrameKind::Back,
            session: id,
            sequence,
            expiry: UnixMillis(NOW.0 + HOUR),
            tag_keys: &reverse,
            seal: &PayloadSeal::Sealed(end.back_cipher(&id)),
        };
        let content = postcard::to_stdvec(message).unwrap();
        let frame = packet::build(&parts, &[&content]).unwrap().0;
        assert_eq!(
            &session.open_back(&PacketView::parse(&frame).unwrap()).unwrap(),
            message
        );
        frame
    };
    vectors.add("back packet 0: ack", back(0, &BackMessage::OpenAck));
    vectors.add(
        "back packet 1: the receipt",
        back(1, &BackMessage::Receipt(receipt.clone())),
    );

    let refusal = HopRefusal {
        reason: DropReason::CreditSpent,
        credit_msat: 3,
    };
    let error = build_hop_error(&id, 0, &router.error_cipher(&id), 7, &refusal);
    assert_eq!(
        session.open_error(&HopErrorView::parse(&error).unwrap()).unwrap(),
        refusal
    );
    vectors.add(
        "hop error of the router: credit_spent, 3 msat left, counter 7",
        error,
    );
    vectors.assert_written("back");
}

fn certificate() -> RouteCertificate {
    let price = |msat_per_unit| Price {
        msat_per_unit,
        payable: true,
    };
    let path = [1, 0x0a, 0x0b].map(|byte| identity(byte).node_id()).to_vec();
    let expires = UnixMillis(NOW.0 + HOUR);
    let mut certificate = RouteCertificate::sign([0xd0; 16], path, price(4), expires, &identity(0x0b));
    certificate
        .attest(price(2), None, expires, &identity(0x0a))
        .unwrap();
    certificate
}

fn signs(signer: &NodeId, context: SignatureContext, message: &[u8], signature: &Signature) -> bool {
    Ed25519Verifier.verify(signer, context, message, signature)
}

#[test]
fn route_certificate() {
    let mut vectors = Vectors::default();
    let certificate = certificate();
    let expires = NOW.0 + HOUR;
    let path: Vec<u8> = certificate.path.iter().flat_map(|node| node.0).collect();
    let destination_signed = [
        &[0xd0; 16][..],
        &[3],
        &path,
        &4u64.to_be_bytes(),
        &[1],
        &expires.to_be_bytes(),
    ]
    .concat();
    let destination = certificate.path[2];
    let signature = &certificate.destination_signature;
    assert!(signs(
        &destination,
        SignatureContext::DestinationPath,
        &destination_signed,
        signature
    ));
    let router_signed = [
        &signature.0[..],
        &certificate.path[0].0,
        &destination.0,
        // Price 2, payable; no operator; group 0; expiry as a varint.
        &[2, 1, 0, 0],
        &postcard::to_stdvec(&expires).unwrap(),
    ]
    .concat();
    let attestation = &certificate.attestations[0];
    let router = certificate.path[1];
    assert!(signs(
        &router,
        SignatureContext::RouterAttestation,
        &router_signed,
        &attestation.signature
    ));
    vectors.add(
        "bytes the destination signs, behind the context",
        destination_signed,
    );
    vectors.add("destination's signature", signature.0);
    vectors.add("bytes the router signs, behind the context", router_signed);
    vectors.add("router's signature", attestation.signature.0);
    vectors.assert_written("certificate");
}

#[test]
fn quote_and_description_hash() {
    let mut vectors = Vectors::default();
    let units = 1000;
    let request = QuoteRequest {
        id: [0xe0; 16],
        certificate: certificate(),
        class: TrafficClass::Paid,
        units,
        total_msat: 6670,
        accounts: vec![secret(0x1e).public(), secret(0x1f).public()],
        buying: vec![true, true],
        method: Default::default(),
    };
    let least = QuoteRequest::least_total(&certificate(), units).unwrap();
    assert!(least == 6666 && request.total_msat >= least);
    let encoded = postcard::to_stdvec(&request).unwrap();
    let digest = blake3::Hasher::new_derive_key("blvm-mesh/1 quote request")
        .update(&encoded)
        .finalize();
    assert_eq!(digest.as_bytes(), &request.digest());
    vectors.add("quote request", encoded);
    vectors.add("request digest", request.digest());

    let terms = request.terms(1).unwrap();
    let router = identity(0x0a);
    let (pay_by, redeem_by) = (
        UnixMillis(NOW.0 + 600_000),
        UnixMillis(NOW.0 + 600_000 + 24 * HOUR),
    );
    let commitment = Commitment {
        payee: &router.node_id(),
        account: &secret(0x1e).public(),
        amount_msat: terms.amount_msat(),
        terms: &request.digest(),
        pay_by,
        redeem_by,
        nonce: &[0xf0; 16],
    };
    vectors.add("router's description hash", commitment.description_hash());

    let unsigned = Quote {
        request_digest: request.digest(),
        payee: router.node_id(),
        key: secret(0x14).public(),
        price_msat: terms.price_msat,
        amount_msat: terms.amount_msat(),
        invoice: Some("lnbcrt1".to_owned()),
        output: None,
        nonce: [0xf0; 16],
        pay_by,
        redeem_by,
        signature: Signature([0; 64]),
    };
    let signed_bytes = postcard::to_stdvec(&unsigned).unwrap();
    let quote = unsigned.sign(&router);
    assert!(signs(
        &router.node_id(),
        SignatureContext::Quote,
        &signed_bytes,
        &quote.signature
    ));
    assert_eq!(quote.id(), blake3::hash(&signed_bytes).as_bytes()[..16]);
    vectors.add("bytes the payee signs, behind the context", signed_bytes);
    vectors.add("quote's signature", quote.signature.0);
    vectors.add("quote id", quote.id());
    let refusal = refusal_bytes(&request.digest(), DropReason::TableFull);
    vectors.add(
        "refusal (table_full): bytes the payee signs, behind the context",
        refusal,
    );
    let script = hex::decode("0014751e76e8199196d454941c45d1b3a323f1433bd6").unwrap();
    let bill = mesh_core::chain::bill_id(&commitment.description_hash(), &script);
    vectors.add(
        "name of the bill to the script 0014751e76e8199196d454941c45d1b3a323f1433bd6",
        bill,
    );
    vectors.assert_written("quote");
}
