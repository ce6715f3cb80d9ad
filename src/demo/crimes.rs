//! Ten crimes, each committed for real against honest nodes, each to be refused under its own name.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mesh_core::drop_reason::DropReason;
use mesh_core::event::{Answer, Buying, Channel, Command, Funding, OpenedSession, QuotedPayee, QuotedSlice};
use mesh_core::identity::NodeId;
use mesh_core::limits::MAX_HOPS;
use mesh_core::message::{ControlMessage, QuoteAnswer};
use mesh_core::packet::{FrameKind, PacketView, Preamble};
use mesh_core::payment_proof::PaymentProof;
use mesh_core::routing_policy::TrafficClass;
use mesh_core::time::UnixMillis;

use super::DemoError;
use super::honest::PAYLOAD_BYTES;
use super::stage::{Actor, Stage, wait_for};
use super::villain::Tamper;
use crate::handle::CommandError;
use crate::wallet::{InvoiceRequest, PayRequest, Wallet};

const PATIENCE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(20);

/// How long a provoked refusal is waited for before the packet is sent again…
const SEND_AGAIN_AFTER: Duration = Duration::from_secs(6);

/// …and how often it is sent.
const SENT_AGAIN: u32 = 5;

/// Units of the small slices that crimes are committed with.
const UNITS: u64 = 100;

/// A crime and what came of it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Crime {
    /// What was tried.
    pub crime: &'static str,
    /// Who refused.
    pub refused_by: &'static str,
    /// The refusal that it must meet.
    pub expected: &'static str,
    /// The refusal that it met.
    pub refusal: &'static str,
}

impl Crime {
    /// Whether it met its refusal.
    pub fn is_refused(&self) -> bool {
        self.expected == self.refusal
    }
}

pub(super) async fn run(stage: &Stage, progress: &dyn Fn(&str)) -> Result<Vec<Crime>, DemoError> {
    progress("the villain links itself to A and E");
    stage.villain_enters().await?;
    let crimes = Crimes { stage };
    let mut report = Vec::new();
    let done = |crime: Crime, report: &mut Vec<Crime>| {
        progress(&format!("crime: {} → {}", crime.crime, crime.refusal));
        report.push(crime);
    };
    done(crimes.no_proof().await?, &mut report);
    done(crimes.self_made_invoice().await?, &mut report);
    for crime in crimes.stolen_and_repeated_proof().await? {
        done(crime, &mut report);
    }
    done(crimes.unsettled_invoice().await?, &mut report);
    done(crimes.overspent_credit().await?, &mut report);
    for crime in crimes.crooked_router().await? {
        done(crime, &mut report);
    }
    done(crimes.swapped_invoice().await?, &mut report);
    Ok(report)
}

struct Crimes<'a> {
    stage: &'a Stage,
}

/// What a command was refused for.
fn refusal<T>(outcome: Result<T, DemoError>) -> Result<&'static str, DemoError> {
    match outcome {
        Ok(_) => Ok("accepted"),
        Err(DemoError::Refused(refusal) | DemoError::Command(CommandError::Refused(refusal))) => {
            Ok(refusal.reason.as_str())
        }
        Err(other) => Err(other),
    }
}

/// Crimes of payers.
impl Crimes<'_> {
    async fn no_proof(&self) -> Result<Crime, DemoError> {
        let slice = self.villain_quote().await?;
        let outcome = self.villain_open(&slice, Vec::new()).await;
        Ok(self.by_destination(
            "no proof of payment",
            DropReason::PaymentMissing,
            refusal(outcome)?,
        ))
    }

    async fn self_made_invoice(&self) -> Result<Crime, DemoError> {
        let slice = self.villain_quote().await?;
        let quoted = only_payee(&slice)?;
        let wallet = &self.stage.villain.wallet;
        let request = InvoiceRequest {
            amount_msat: quoted.amount_msat,
            description: "of my own making".into(),
            expiry: Duration::from_secs(600),
        };
        let invoice = wallet.create_invoice(request).await?;
        let preimage = wallet
            .leak_preimage_of_own_invoice(invoice.payment_hash)
            .unwrap_or_default();
        let proof = lightning_proof(invoice.bolt11, preimage, quoted);
        let outcome = self.villain_open(&slice, vec![(quoted.payee, proof)]).await;
        Ok(self.by_destination(
            "self-made invoice with its preimage",
            DropReason::InvoiceNotMine,
            refusal(outcome)?,
        ))
    }

    /// A pays E; the villain steals the proof and shows it; then A shows it, twice.
    async fn stolen_and_repeated_proof(&self) -> Result<[Crime; 2], DemoError> {
        let payer = self.stage.payer();
        let mine = self.payer_quote(Buying::Everywhere).await?;
        let mut proofs = Vec::new();
        for quoted in &mine.payees {
            let bolt11 = quoted.invoice.clone().unwrap_or_default();
            let request = PayRequest {
                bolt11: bolt11.clone(),
                max_fee_msat: 10_000,
                max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
                timeout: PATIENCE,
            };
            let paid = payer.wallet.pay(request).await?;
            proofs.push((quoted.payee, lightning_proof(bolt11, paid.preimage, quoted)));
        }
        let theirs = self.villain_quote().await?;
        let to_destination = proofs
            .iter()
            .filter(|(payee, _)| *payee == self.stage.destination().id());
        let outcome = self
            .villain_open(&theirs, to_destination.cloned().collect())
            .await;
        let stolen = self.by_destination(
            "someone else's proof",
            DropReason::WrongAccountKey,
            refusal(outcome)?,
        );

        payer
            .handle()
            .open(mine.id, Funding::Proofs(proofs.clone()))
            .await?;
        let again = self.payer_quote(Buying::Everywhere).await?;
        let outcome = payer.handle().open(again.id, Funding::Proofs(proofs)).await;
        let twice = Crime {
            crime: "proof shown twice",
            refused_by: "B",
            expected: DropReason::AlreadyRedeemed.as_str(),
            refusal: refusal(outcome.map_err(DemoError::from))?,
        };
        Ok([stolen, twice])
    }

    /// The preimage is right, but nobody has paid: an insider at E leaked it.
    async fn unsettled_invoice(&self) -> Result<Crime, DemoError> {
        let slice = self.villain_quote().await?;
        let quoted = only_payee(&slice)?;
        let invoice = quoted.invoice.clone().unwrap_or_default();
        let payment_hash = mesh_core::verifier::read_invoice(&invoice)?.payment_hash;
        let insider = &self.stage.destination().wallet;
        let preimage = insider
            .leak_preimage_of_own_invoice(payment_hash)
            .unwrap_or_default();
        let proof = lightning_proof(invoice, preimage, quoted);
        let outcome = self.villain_open(&slice, vec![(quoted.payee, proof)]).await;
        Ok(self.by_destination(
            "invoice not settled, preimage leaked",
            DropReason::NotSettled,
            refusal(outcome)?,
        ))
    }

    /// The villain pays for a slice and sends one packet more.
    async fn overspent_credit(&self) -> Result<Crime, DemoError> {
        let villain = &self.stage.villain;
        let destination = self.stage.destination();
        let slice = self.villain_quote().await?;
        let quoted = only_payee(&slice)?;
        let bolt11 = quoted.invoice.clone().unwrap_or_default();
        let paid = villain
            .wallet
            .pay(PayRequest {
                bolt11: bolt11.clone(),
                max_fee_msat: 10_000,
                max_cltv_blocks: mesh_core::limits::MAX_PAYMENT_CLTV_BLOCKS,
                timeout: PATIENCE,
            })
            .await?;
        let proof = lightning_proof(bolt11, paid.preimage, quoted);
        let (open, mut session) = villain.forge_session(&quoted.payee, Some(proof), in_half_an_hour())?;
        let (sessions, mut arrivals) = (
            destination.status().await?.sessions,
            destination.handle().deliveries(None),
        );
        villain.inject(quoted.payee, Channel::Control, open).await?;
        wait_for("the villain's session", || async {
            Ok((destination.status().await?.sessions > sessions).then_some(()))
        })
        .await?;
        let credit = quoted.amount_msat - quoted.treasury_msat;
        let affordable = credit / quoted.price_msat.max(1);
        let before = destination.dropped(DropReason::CreditSpent).await?;
        for _ in 0..=affordable {
            let (packet, _) = session.packet("", &[0; PAYLOAD_BYTES], in_half_an_hour())?;
            villain.inject(quoted.payee, Channel::Data, packet).await?;
        }
        self.wait_dropped(destination, DropReason::CreditSpent, before)
            .await?;
        let mut delivered = 0;
        while arrivals.try_recv().is_ok() {
            delivered += 1;
        }
        let told = wait_for("the refusal to reach its source", || async {
            Ok(villain.errors_on(&session).first().copied())
        })
        .await?;
        // Exactly what was paid for was carried, nothing more.
        let refusal = if delivered == affordable {
            told.reason.as_str()
        } else {
            "accepted"
        };
        Ok(self.by_destination("credit overspent", DropReason::CreditSpent, refusal))
    }
}

/// Crimes of routers.
impl Crimes<'_> {
    /// A opens a session over the villain, who is paid and then alters, repeats and misplaces packets.
    async fn crooked_router(&self) -> Result<[Crime; 3], DemoError> {
        let (villain, payer, destination) =
            (&self.stage.villain, self.stage.payer(), self.stage.destination());
        let (slice, through_villain) = self.session_over_villain().await?;
        let elsewhere = self.session_of_payer().await?;

        villain
            .tamper(on_packets(|frame| vec![flip_last_payload_bit(frame)]))
            .await?;
        let altered = self
            .provoke(payer, &through_villain, DropReason::PayloadAltered)
            .await?;
        villain
            .tamper(on_packets(|frame| vec![frame.clone(), frame]))
            .await?;
        let replayed = self
            .provoke(payer, &through_villain, DropReason::Duplicate)
            .await?;

        // A packet that the villain has seen, under the name of a session that does not pass it.
        let id = elsewhere.session.0;
        villain
            .tamper(on_packets(move |frame| {
                let mut foreign = frame.to_vec();
                foreign[8..24].copy_from_slice(&id);
                vec![foreign.into()]
            }))
            .await?;
        let misplaced = self
            .provoke(payer, &through_villain, DropReason::WrongHop)
            .await?;
        villain.tamper(Box::new(|_, frame| vec![frame])).await?;
        debug_assert_eq!(slice.path.len(), 3);
        let refused_by = destination.name;
        Ok([
            Crime {
                crime: "payload altered on the way",
                refused_by,
                expected: "payload_altered",
                refusal: altered,
            },
            Crime {
                crime: "packet on someone else's session",
                refused_by,
                expected: "wrong_hop",
                refusal: misplaced,
            },
            Crime {
                crime: "packet replayed",
                refused_by,
                expected: "duplicate",
                refusal: replayed,
            },
        ])
    }

    /// The villain puts an invoice of its own into E's quote for A.
    async fn swapped_invoice(&self) -> Result<Crime, DemoError> {
        let (villain, payer) = (&self.stage.villain, self.stage.payer());
        let request = InvoiceRequest {
            amount_msat: 100_000,
            description: "for the villain".into(),
            expiry: Duration::from_secs(600),
        };
        let own = villain.wallet.create_invoice(request).await?.bolt11;
        let own_id = villain.id();
        villain
            .tamper(Box::new(move |_, frame| vec![swap_invoice(frame, own_id, &own)]))
            .await?;
        let before = payer.dropped(DropReason::BadSignature).await?;
        let route = self.path_over_villain().await?;
        let handle = payer.handle();
        let asked = handle.quote(
            route,
            TrafficClass::Paid,
            UNITS,
            Buying::Everywhere,
            Duration::from_secs(3),
        );
        let outcome = asked.await;
        let refused = payer.dropped(DropReason::BadSignature).await? > before && outcome.is_err();
        villain.tamper(Box::new(|_, frame| vec![frame])).await?;
        Ok(Crime {
            crime: "relay swaps the invoice in a quote",
            refused_by: payer.name,
            expected: DropReason::BadSignature.as_str(),
            refusal: if refused {
                DropReason::BadSignature.as_str()
            } else {
                "accepted"
            },
        })
    }
}

/// What the crimes are made of.
impl Crimes<'_> {
    fn by_destination(&self, crime: &'static str, expected: DropReason, refusal: &'static str) -> Crime {
        Crime {
            crime,
            refused_by: self.stage.destination().name,
            expected: expected.as_str(),
            refusal,
        }
    }

    /// Fresh quotes of E for the villain, over their own link.
    async fn villain_quote(&self) -> Result<QuotedSlice, DemoError> {
        let (villain, destination) = (&self.stage.villain, self.stage.destination().id());
        let discover = Command::Discover {
            destination,
            max_hops: 1,
            timeout: PATIENCE,
            refresh: false,
        };
        villain.command(discover).await?;
        let quote = Command::Quote {
            path: vec![villain.id(), destination],
            class: TrafficClass::Paid,
            units: UNITS,
            buying: Buying::Everywhere,
            method: Default::default(),
            timeout: PATIENCE,
        };
        match villain.command(quote).await? {
            Answer::Quoted(slice) => Ok(*slice),
            _ => Err(CommandError::Unexpected.into()),
        }
    }

    async fn villain_open(
        &self,
        slice: &QuotedSlice,
        proofs: Vec<(NodeId, PaymentProof)>,
    ) -> Result<Answer, DemoError> {
        let open = Command::Open {
            quotes: slice.id,
            funding: Funding::Proofs(proofs),
            sign_as_source: true,
        };
        self.stage.villain.command(open).await
    }

    async fn payer_quote(&self, buying: Buying) -> Result<QuotedSlice, DemoError> {
        let payer = self.stage.payer().handle();
        let routes = payer
            .discover(self.stage.destination().id(), MAX_HOPS as u8, PATIENCE, false)
            .await?;
        let honest = routes
            .into_iter()
            .find(|route| !route.path.contains(&self.stage.villain.id()));
        let path = honest.map(|route| route.path).unwrap_or_default();
        Ok(payer
            .quote(path, TrafficClass::Paid, UNITS, buying, PATIENCE)
            .await?)
    }

    async fn session_of_payer(&self) -> Result<OpenedSession, DemoError> {
        let slice = self.payer_quote(Buying::WhereNeeded).await?;
        self.pay_and_open(&slice).await
    }

    async fn session_over_villain(&self) -> Result<(QuotedSlice, OpenedSession), DemoError> {
        let path = self.path_over_villain().await?;
        let payer = self.stage.payer().handle();
        let slice = payer
            .quote(path, TrafficClass::Paid, UNITS, Buying::Everywhere, PATIENCE)
            .await?;
        let opened = self.pay_and_open(&slice).await?;
        Ok((slice, opened))
    }

    async fn path_over_villain(&self) -> Result<Vec<NodeId>, DemoError> {
        let (payer, destination) = (self.stage.payer(), self.stage.destination().id());
        let path = vec![payer.id(), self.stage.villain.id(), destination];
        let routes = payer
            .handle()
            .discover(destination, MAX_HOPS as u8, PATIENCE, true)
            .await?;
        if routes.iter().any(|route| route.path == path) {
            Ok(path)
        } else {
            Err(DemoError::TooSlow {
                what: "a route over the villain",
                seconds: PATIENCE.as_secs(),
            })
        }
    }

    async fn pay_and_open(&self, slice: &QuotedSlice) -> Result<OpenedSession, DemoError> {
        let funding = Funding::Wallet {
            proofs: Vec::new(),
            max_total_msat: slice.total_msat,
            max_fee_msat: 10_000,
            keep_funded: false,
        };
        Ok(self.stage.payer().handle().open(slice.id, funding).await?)
    }

    /// A sends one packet; what E refuses because of it.
    async fn provoke(
        &self,
        payer: &Actor,
        session: &OpenedSession,
        reason: DropReason,
    ) -> Result<&'static str, DemoError> {
        let destination = self.stage.destination();
        let before = destination.dropped(reason).await?;
        // On a machine that is busy enough a link may break, and the one packet with it.
        for _ in 0..SENT_AGAIN {
            payer
                .handle()
                .send(session.session, "demo", Bytes::from(vec![1; PAYLOAD_BYTES]), TTL)
                .await?;
            let refused = self.wait_dropped(destination, reason, before);
            if let Ok(refused) = tokio::time::timeout(SEND_AGAIN_AFTER, refused).await {
                return refused.map(|()| reason.as_str());
            }
        }
        Err(DemoError::TooSlow {
            what: reason.as_str(),
            seconds: SEND_AGAIN_AFTER.as_secs() * u64::from(SENT_AGAIN),
        })
    }

    async fn wait_dropped(&self, actor: &Actor, reason: DropReason, before: u64) -> Result<(), DemoError> {
        wait_for(reason.as_str(), || async {
            Ok((actor.dropped(reason).await? > before).then_some(()))
        })
        .await
    }
}

fn only_payee(slice: &QuotedSlice) -> Result<&QuotedPayee, DemoError> {
    slice
        .payees
        .first()
        .ok_or(DemoError::Dropped(DropReason::UnknownQuote))
}

fn lightning_proof(invoice: String, preimage: [u8; 32], quoted: &QuotedPayee) -> PaymentProof {
    PaymentProof::Lightning {
        invoice,
        preimage,
        amount_msats: quoted.amount_msat,
        timestamp: unix_now().seconds(),
        expires_at: quoted.redeem_by.seconds(),
    }
}

fn unix_now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn in_half_an_hour() -> UnixMillis {
    unix_now() + Duration::from_secs(1800)
}

/// Tampers with data packets only.
fn on_packets(mut hand: impl FnMut(Bytes) -> Vec<Bytes> + Send + 'static) -> Tamper {
    Box::new(move |_, frame| match Preamble::parse(&frame) {
        Ok(Preamble {
            kind: FrameKind::Data,
            ..
        }) if PacketView::parse(&frame).is_ok() => hand(frame),
        _ => vec![frame],
    })
}

/// One bit of the ciphertext, just before the payload's tag: no hop's tag covers it.
fn flip_last_payload_bit(frame: Bytes) -> Bytes {
    let mut altered = frame.to_vec();
    let at = altered.len().saturating_sub(mesh_core::keys::TAG_BYTES + 1);
    altered[at] ^= 1;
    altered.into()
}

fn swap_invoice(frame: Bytes, own_id: NodeId, own_invoice: &str) -> Bytes {
    let Ok(ControlMessage::QuoteResponse(mut response)) = ControlMessage::decode(&frame) else {
        return frame;
    };
    match &mut response.answer {
        QuoteAnswer::Quote(quote) if quote.payee != own_id => quote.invoice = Some(own_invoice.to_owned()),
        _ => return frame,
    }
    ControlMessage::QuoteResponse(response).encode().unwrap_or(frame)
}
