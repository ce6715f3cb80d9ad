//! The key schedule: from one Diffie-Hellman exchange per hop to every key of a session.
//!
//! ```text
//! hop secret  = KDF("hop", DH(ephemeral, quote key) ‖ DH(account, quote key) ‖ the three public keys ‖ node id ‖ hop index)
//! seal key    = hop secret › "seal"              opens the hop's box in the open message
//! back secret = hop secret › "back"              told to the destination, which makes the reverse tags with it
//! tag key     = hop secret › "tag"   › session id    error key = hop secret › "error" › session id
//! data key    = hop secret › "data"  › session id    (destination only), and "data back" for the way back
//! reverse tag key = back secret › "tag" › session id
//! ```
//! `›` is BLAKE3 keyed with the left side over the right. The account key enters beside the session's ephemeral key, so
//! only the payer a quote was made for can open a session with it: a stolen quote or proof opens nothing.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::drop_reason::DropReason;
use crate::identity::NodeId;

/// Bytes of a hop's tag and of the seal on a payload.
pub const TAG_BYTES: usize = 16;

/// The first 16 bytes of the hash of an open's transcript: it names a session at every hop of its route.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct SessionId(pub [u8; 16]);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionId({self})")
    }
}

/// An X25519 secret (RFC 7748): of a quote, of a payer's account, or a session's ephemeral one.
#[derive(Clone)]
pub struct DhSecret {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    /// The same, loaded: loading it costs as much as an agreement.
    key: Arc<PrivateKey>,
}

impl DhSecret {
    /// The key pair of 32 secret bytes.
    pub fn new(secret: [u8; 32]) -> Result<Self, DropReason> {
        let key = PrivateKey::from_private_key(&X25519, &secret).map_err(|_| DropReason::SealBroken)?;
        let public = key.compute_public_key().map_err(|_| DropReason::SealBroken)?;
        let mut bytes = [0; 32];
        bytes.copy_from_slice(public.as_ref());
        Ok(Self {
            secret: Zeroizing::new(secret),
            public: bytes,
            key: Arc::new(key),
        })
    }

    /// The public half.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The secret half, for the store it is kept in.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The shared secret with another key. An all-zero result is refused (RFC 7748 section 6.1): it would be known to
    /// everybody, so a peer with a low-order key could let strangers read and pay with the session.
    pub fn agree(&self, theirs: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, DropReason> {
        let peer = UnparsedPublicKey::new(&X25519, theirs);
        let shared = agree(&self.key, peer, DropReason::SealBroken, |bytes| {
            let mut shared = Zeroizing::new([0; 32]);
            shared.copy_from_slice(bytes);
            Ok(shared)
        })?;
        if bool::from(shared.ct_eq(&[0; 32])) {
            Err(DropReason::SealBroken)
        } else {
            Ok(shared)
        }
    }
}

impl std::fmt::Debug for DhSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DhSecret(public {})", hex::encode(&self.public[..4]))
    }
}

/// The public facts a hop's secret is bound to.
#[derive(Debug, Clone, Copy)]
pub struct HopContext {
    /// The session's ephemeral public key.
    pub ephemeral: [u8; 32],
    /// The payer's account key at this hop.
    pub account: [u8; 32],
    /// The key of the hop's quote.
    pub quote: [u8; 32],
    /// The hop's node id.
    pub node: NodeId,
    /// The hop's place in the route: 0 for the first router.
    pub index: u8,
}

/// What payer and hop share for one session.
#[derive(Clone)]
pub struct HopSecret(Zeroizing<[u8; 32]>);

impl HopSecret {
    /// As the payer, who holds the ephemeral and the account key.
    pub fn of_payer(
        ephemeral: &DhSecret,
        account: &DhSecret,
        context: &HopContext,
    ) -> Result<Self, DropReason> {
        let (ephemeral_dh, account_dh) = (ephemeral.agree(&context.quote)?, account.agree(&context.quote)?);
        Ok(Self::derive(&ephemeral_dh, &account_dh, context))
    }

    /// As the hop, who holds the quote's key.
    pub fn of_hop(quote: &DhSecret, context: &HopContext) -> Result<Self, DropReason> {
        let (ephemeral_dh, account_dh) = (quote.agree(&context.ephemeral)?, quote.agree(&context.account)?);
        Ok(Self::derive(&ephemeral_dh, &account_dh, context))
    }

    fn derive(ephemeral_dh: &[u8; 32], account_dh: &[u8; 32], context: &HopContext) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("blvm-mesh/1 hop");
        for part in [
            ephemeral_dh,
            account_dh,
            &context.ephemeral,
            &context.account,
            &context.quote,
            &context.node.0,
        ] {
            hasher.update(part);
        }
        hasher.update(&[context.index]);
        Self(Zeroizing::new(*hasher.finalize().as_bytes()))
    }

    /// The cipher of this hop's box in the open message.
    pub fn seal(&self) -> Cipher {
        Cipher::new(&expand(&self.0, b"seal", &[]))
    }

    /// The secret from which source, router and destination make this hop's reverse tags.
    pub fn back_secret(&self) -> [u8; 32] {
        *expand(&self.0, b"back", &[])
    }

    /// The key of this hop's forward tags.
    pub fn tag_key(&self, session: &SessionId) -> TagKey {
        TagKey(expand(&self.0, b"tag", &session.0))
    }

    /// The cipher of errors this hop sends to the source.
    pub fn error_cipher(&self, session: &SessionId) -> Cipher {
        Cipher::new(&expand(&self.0, b"error", &session.0))
    }

    /// The key material of payloads from source to destination.
    pub fn data_key(&self, session: &SessionId) -> Zeroizing<[u8; 32]> {
        expand(&self.0, b"data", &session.0)
    }

    /// The cipher of messages from the destination to the source.
    pub fn back_cipher(&self, session: &SessionId) -> Cipher {
        Cipher::new(&expand(&self.0, b"data back", &session.0))
    }
}

impl std::fmt::Debug for HopSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HopSecret")
    }
}

fn expand(key: &[u8; 32], label: &[u8], session: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(label).update(&[0]).update(session);
    Zeroizing::new(*hasher.finalize().as_bytes())
}

/// Makes and checks one hop's tags in one direction: keyed BLAKE3, truncated to 16 bytes.
#[derive(Clone)]
pub struct TagKey(Zeroizing<[u8; 32]>);

impl TagKey {
    /// The key of reverse tags.
    pub fn of_back_secret(back_secret: &[u8; 32], session: &SessionId) -> Self {
        Self(expand(back_secret, b"tag", &session.0))
    }

    /// The tag over `input` (at most 64 bytes, so that it costs one compression).
    pub fn tag(&self, input: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&blake3::keyed_hash(&self.0, input).as_bytes()[..TAG_BYTES]);
        tag
    }

    /// Whether `tag` is the tag over `input`, in constant time: with an early exit a forger could find it byte by byte.
    pub fn verify(&self, input: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        self.tag(input).ct_eq(tag).into()
    }
}

/// AES-128-GCM under a key that is used in one session, for one purpose and one direction, so that the sequence
/// number alone makes every nonce unique.
pub struct Cipher(LessSafeKey);

impl Cipher {
    /// The cipher of the first 16 bytes of the key material.
    #[allow(clippy::expect_used)] // AES-128 takes any 16 bytes
    pub fn new(material: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&AES_128_GCM, &material[..16]).expect("a 16-byte key is an AES-128 key"),
        ))
    }

    fn nonce(sequence: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&sequence.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Encrypts in place and returns the tag.
    #[allow(clippy::expect_used)] // fails only beyond 64 GiB
    pub fn seal(&self, sequence: u64, aad: &[u8], in_out: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(Self::nonce(sequence), Aad::from(aad), in_out)
            .expect("payloads are far below the cipher's limit");
        let mut bytes = [0; TAG_BYTES];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Encrypts and appends the tag.
    pub fn seal_vec(&self, sequence: u64, aad: &[u8], mut plaintext: Vec<u8>) -> Vec<u8> {
        let tag = self.seal(sequence, aad, &mut plaintext);
        plaintext.extend_from_slice(&tag);
        plaintext
    }

    /// Decrypts `sealed` (ciphertext and tag); `None` if anything was altered.
    pub fn open(&self, sequence: u64, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (ciphertext, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
        let mut plaintext = vec![0; ciphertext.len()];
        self.0
            .open_separate_gather(
                Self::nonce(sequence),
                Aad::from(aad),
                ciphertext,
                tag,
                &mut plaintext,
            )
            .ok()?;
        Some(plaintext)
    }
}

/// How a session's payloads are protected end to end.
pub enum PayloadSeal {
    /// Sealed: routers see nothing.
    Sealed(Cipher),
    /// In clear, with a 16-byte tag: the named free classes, whose content every router checks.
    Clear(TagKey),
}

impl PayloadSeal {
    /// The seal of a session from its data key.
    pub fn new(material: &Zeroizing<[u8; 32]>, in_clear: bool) -> Self {
        if in_clear {
            Self::Clear(TagKey(material.clone()))
        } else {
            Self::Sealed(Cipher::new(material))
        }
    }

    /// Protects `content` in place; the returned tag goes behind it.
    pub fn seal(&self, sequence: u64, aad: &[u8], content: &mut [u8]) -> [u8; TAG_BYTES] {
        match self {
            Self::Sealed(cipher) => cipher.seal(sequence, aad, content),
            Self::Clear(key) => key.tag(&[aad, content].concat()),
        }
    }

    /// The content of a sealed payload, or `None` if it was altered.
    pub fn open(&self, sequence: u64, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Sealed(cipher) => cipher.open(sequence, aad, sealed),
            Self::Clear(key) => {
                let (content, tag) = sealed.split_last_chunk::<TAG_BYTES>()?;
                key.verify(&[aad, content].concat(), tag)
                    .then(|| content.to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(byte: u8) -> DhSecret {
        DhSecret::new([byte; 32]).unwrap()
    }

    fn context(index: u8) -> HopContext {
        HopContext {
            ephemeral: secret(1).public(),
            account: secret(2).public(),
            quote: secret(3).public(),
            node: NodeId([9; 32]),
            index,
        }
    }

    #[test]
    fn payer_and_hop_arrive_at_the_same_keys() {
        let payer = HopSecret::of_payer(&secret(1), &secret(2), &context(0)).unwrap();
        let hop = HopSecret::of_hop(&secret(3), &context(0)).unwrap();
        assert_eq!(*payer.0, *hop.0);
        let session = SessionId([5; 16]);
        assert!(
            hop.tag_key(&session)
                .verify(b"x", &payer.tag_key(&session).tag(b"x"))
        );
    }

    #[test]
    fn every_fact_changes_the_keys() {
        let base = HopSecret::of_hop(&secret(3), &context(0)).unwrap();
        let other_place = HopSecret::of_hop(&secret(3), &context(1)).unwrap();
        assert_ne!(*base.0, *other_place.0);
        let thief = HopSecret::of_payer(&secret(1), &secret(7), &context(0)).unwrap();
        assert_ne!(*base.0, *thief.0, "another account key must not open a quote");
        let (a, b) = (SessionId([1; 16]), SessionId([2; 16]));
        assert_ne!(base.tag_key(&a).tag(b"x"), base.tag_key(&b).tag(b"x"));
        assert_ne!(base.data_key(&a), base.data_key(&b));
    }

    #[test]
    fn low_order_public_key_is_refused() {
        assert_eq!(secret(1).agree(&[0; 32]).unwrap_err(), DropReason::SealBroken);
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(secret(1).agree(&one).unwrap_err(), DropReason::SealBroken);
    }

    #[test]
    fn rfc_7748_section_5_2_first_iteration() {
        let mut nine = [0; 32];
        nine[0] = 9;
        let expected = "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079";
        let secret = DhSecret::new(nine).unwrap();
        assert_eq!(hex::encode(*secret.agree(&nine).unwrap()), expected);
        assert_eq!(hex::encode(secret.public()), expected);
    }

    #[test]
    fn altered_ciphertext_aad_or_sequence_does_not_open() {
        for in_clear in [false, true] {
            let seal = PayloadSeal::new(&Zeroizing::new([4; 32]), in_clear);
            let mut sealed = b"hello".to_vec();
            let tag = seal.seal(7, b"aad", &mut sealed);
            sealed.extend_from_slice(&tag);
            assert_eq!(seal.open(7, b"aad", &sealed).unwrap(), b"hello");
            assert!(seal.open(7, b"aae", &sealed).is_none());
            sealed[0] ^= 1;
            assert!(seal.open(7, b"aad", &sealed).is_none());
            assert!(seal.open(7, b"aad", &[0; 3]).is_none());
        }
        let cipher = Cipher::new(&[4; 32]);
        let sealed = cipher.seal_vec(7, b"", b"hello".to_vec());
        assert!(cipher.open(8, b"", &sealed).is_none());
    }
}
