//! The demo, played in process: real links, real Lightning, real crimes.
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that cannot go on says where

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_sum_agrees_to_the_millisatoshi_and_every_crime_is_refused_by_name() {
    let report = blvm_mesh::demo::play(&|_| {}).await.unwrap();
    assert!(report.ok, "{}", report.to_text());
}
