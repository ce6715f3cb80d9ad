use super::*;

fn request() -> InvoiceRequest {
    InvoiceRequest {
        amount_msat: 3_000,
        description: "what is sold".into(),
        expiry: Duration::from_millis(1_500),
    }
}

#[test]
fn a_started_second_of_expiry_counts_whole() {
    assert_eq!(check_request(&request(), 1_000), Ok(2));
}

#[test]
fn what_no_service_can_be_asked_for_is_refused_before_it_is_asked() {
    let changes: [fn(&mut InvoiceRequest); 8] = [
        |request| request.amount_msat = 0,
        |request| request.amount_msat = 3_001,
        |request| request.expiry = Duration::ZERO,
        |request| request.expiry = MAX_INVOICE_EXPIRY + Duration::from_secs(1),
        |request| request.description.clear(),
        |request| request.description = "x".repeat(MAX_DESCRIPTION_BYTES + 1),
        |request| request.description.push('\n'),
        |request| request.description.push('é'),
    ];
    for change in changes {
        let mut asked = request();
        change(&mut asked);
        let refused = check_request(&asked, 1_000);
        assert!(
            matches!(refused, Err(WalletError::InvalidRequest { .. })),
            "{asked:?} gave {refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_and_end_at_the_deadline_to_the_moment() {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pauses = Pauses::until(deadline);
    let mut questions = 1;
    while pauses.next().await {
        questions += 1;
    }
    assert_eq!(Instant::now(), deadline);
    assert!((8..16).contains(&questions), "{questions}");
    assert!(!Pauses::until(deadline).next().await, "no time is no pause");
}
